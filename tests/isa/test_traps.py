"""Exceptions that flags ask for: #DB of TF and #AC of AC, against the host's processor."""

from __future__ import annotations

import ctypes

import pytest

from isa import harness
from nexus.ir.state import STATE_BYTES, Exit
from nexus.isa.x86 import fuzz
from nexus.isa.x86 import registers as r
from nexus.isa.x86.registers import CpuState
from nexus.machine.stop import Stop
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window


class Guest:
    """A vCPU with the cases' memory, and their code among breakpoints."""

    def __init__(self, engine: str) -> None:
        self.window = Window()
        self.window.map(fuzz.MEMORY, fuzz.MEMORY_SIZE, READ | WRITE)
        self.window.map(fuzz.CODE, 0x2000, READ | EXECUTE)
        self.vcpu = Vcpu(self.window, engine)
        self._area = ctypes.create_string_buffer(STATE_BYTES + 16)
        start = -ctypes.addressof(self._area) % 16
        self.state = CpuState(memoryview(self._area).cast("B")[start : start + STATE_BYTES])

    def run(self, case: fuzz.Case) -> Stop:
        self.window.write_forced(fuzz.MEMORY, harness.patched(harness.MEMORY, case))
        code = bytearray(b"\xcc" * 0x2000)
        at = fuzz.AT - fuzz.CODE
        code[at : at + len(case.code)] = case.code
        self.window.write_forced(fuzz.CODE, bytes(code))
        self.state.buffer[:] = case.state.buffer
        return self.vcpu.run(self.state, 1000)

    def close(self) -> None:
        self.vcpu.close()
        self.window.close()


@pytest.fixture(params=["t0", "t1"])
def guest(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    guest = Guest(request.param)
    yield guest
    guest.close()


STEPPED = {
    "add": "4801d8",
    "jump": "eb10",
    "call": "e810000000",
    "load": "488b03",
    "repeated": "f3a4",
    "repeated, narrow": "67f348a5",
    "repeated while equal": "f3a6",
    "repeated while different": "f2ae",
    "repeated while equal, over": "f348a7",
    "pushf": "9c",
    "popf clears": "9d",
    "division": "48f7f1",
    "breakpoint behind": "90cc",
    "cpuid, done elsewhere": "90",
    "xgetbv": "0f01d0",
    "not there": "488b0425f0ff0300",
    "vector": "660fefc0",
    "x87": "d9e8",
}


@pytest.mark.parametrize("code", STEPPED.values(), ids=STEPPED)
def test_trap_flag(code: str, guest: Guest) -> None:
    """One instruction, or one turn of a repeated one, then #DB; a fault comes instead."""
    if code == "0f01d0" and "xsave" not in harness.host().features:
        pytest.skip("not run: this processor has no XSAVE")
    memory = fuzz.MEMORY + 0x1000
    case = harness.case(
        code, rax=7, rbx=memory, rcx=3, rdx=0, rsi=memory, rdi=memory + 0x800, rsp=memory, memory_11000=0x202
    )
    case.state.eflags |= r.FLAG_TF
    if code in ("48f7f1", "0f01d0"):
        case.state.rcx = 0
    (ran,) = harness.host().run_many(case.code, [case.state], [case.patches])
    stop = guest.run(case)
    assert (stop.kind, guest.state.rip) == (ran.outcome.exit, ran.state.rip)
    for number in range(16):
        if not (code == "0f01d0" and number in (r.RAX, r.RDX)):  # XCR0 is that of each processor
            assert guest.state.gpr(number) == ran.state.gpr(number), r.GPR_NAMES[number]
    assert (guest.state.eflags ^ ran.state.eflags) & (r.SPLIT_FLAGS | r.FLAG_TF) == 0


ALIGNMENT = {
    "word": ("668b03", 1),
    "word, aligned": ("668b03", 2),
    "double word": ("8b03", 2),
    "double word, aligned": ("8b03", 4),
    "quad word": ("488b03", 4),
    "store": ("488903", 4),
    "byte": ("8a03", 1),
    "push": ("50", 4),
    "pop": ("58", 4),
    "read and written": ("480103", 1),
    "single": ("f30f1003", 2),
    "double": ("f20f1003", 4),
    "unaligned vector": ("0f1003", 4),
    "x87 single": ("d903", 2),
    "x87 double": ("dd03", 4),
    "string": ("48a5", 4),
    "call": ("e810000000", 4),
    "bit string": ("480fa303", 4),
    "compare and exchange": ("480fc70b", 4),
    "lea": ("488d03", 1),
    "nop": ("0f1f03", 1),
    "not there and misaligned": ("488b0425f1ff0300", 8),
}


@pytest.mark.parametrize(("code", "offset"), ALIGNMENT.values(), ids=ALIGNMENT)
def test_alignment_check(code: str, offset: int, guest: Guest) -> None:
    """With AC set, an access across its natural alignment is #AC, before anything is done."""
    memory = fuzz.MEMORY + 0x1000 + offset
    case = harness.case(code, rax=1, rbx=memory, rcx=3, rdx=2, rsi=memory, rdi=memory, rsp=memory)
    case.state.eflags |= r.FLAG_AC
    (ran,) = harness.host().run_many(case.code, [case.state])
    stop = guest.run(case)
    while stop.kind == Exit.BUDGET:
        stop = guest.vcpu.run(guest.state, 1000)
    if ran.outcome.exit == Exit.NONE:
        assert (stop.kind, stop.argument, guest.state.rip) == (Exit.INTERRUPT, 3, ran.state.rip + 1)
    else:
        kind = Exit.FAULT if ran.outcome.exit == Exit.PRIVILEGED else ran.outcome.exit  # a #GP of Windows
        assert (stop.kind, guest.state.rip) == (kind, ran.state.rip)
    for number in range(16):
        assert guest.state.gpr(number) == ran.state.gpr(number), r.GPR_NAMES[number]
