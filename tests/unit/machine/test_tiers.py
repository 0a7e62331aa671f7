"""Interpreter and host code taking turns: the same results and the same interruptions as either alone.

The programs are random loops over a table of subroutines, so that direct and indirect branches, faults that
are settled and code that changes all cross from one engine to the other.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from nexus.ir.state import Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine import native
from nexus.machine.tiers import AT_ONCE, Policy
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

PAGE = 4096
CODE, DATA, STACK = 0x10000, 0x20000, 0x30000
ROUTINES = 8
POLICIES: dict[str, tuple[str, Policy | None]] = {
    "t0": ("t0", None),
    "at once": ("t1", AT_ONCE),
    "soon": ("t1", Policy(2, 3, 0)),
    "late": ("t1", Policy(20, 50, 4)),
}


def program(seed: int) -> bytes:
    """rbx counts rounds down; each calls a subroutine through the table at DATA, which does arithmetic on
    rax, rcx and memory, with flags, and loops for a while."""
    rng = random.Random(seed)
    bodies = []
    for _ in range(ROUTINES):
        body = bytearray()
        for _ in range(rng.randint(1, 4)):
            body += rng.choice(
                [
                    bytes.fromhex("4801c8"),  # add rax, rcx
                    bytes.fromhex("4811c1"),  # adc rcx, rax
                    bytes.fromhex("48ffc1"),  # inc rcx
                    bytes.fromhex("48c1c003"),  # rol rax, 3
                    bytes.fromhex("48334650"),  # xor rax, [rsi + 80]
                    bytes.fromhex("48014e50"),  # add [rsi + 80], rcx
                    bytes.fromhex("4819c0"),  # sbb rax, rax
                    bytes.fromhex("0f9cc1"),  # setl cl
                    bytes.fromhex("f20f58c1"),  # addsd xmm0, xmm1
                    bytes.fromhex("f3a4"),  # rep movsb, of 0 to 3 bytes
                ]
            )
            if body.endswith(b"\xf3\xa4"):
                body[-2:-2] = bytes.fromhex("83e103 89f7")  # and ecx, 3; mov edi, esi
                body += bytes.fromhex("be00000200")  # mov esi, DATA
        loop = bytes.fromhex("ba") + struct.pack("<I", rng.randint(1, 5))  # mov edx, n
        bodies.append(loop + body + b"\xff\xca\x75" + struct.pack("b", -len(body) - 4) + b"\xc3")
    main = bytes.fromhex(
        "89d8 83e007"  # again: mov eax, ebx; and eax, 7
        "ff14c6"  # call [rsi + rax * 8]
        "ffcb 75f4"  # dec ebx; jne again
        "0f05"
    )
    text = bytearray(main.ljust(64, b"\xcc"))
    for body in bodies:
        text += body.ljust(128, b"\xcc")
    return bytes(text)


class Rig:
    def __init__(self, engine: str, policy: Policy | None) -> None:
        self.window = Window()
        self.vcpu = Vcpu(self.window, engine, policy)
        self.window.map(CODE, PAGE, READ | EXECUTE)
        self.window.map(DATA, PAGE, READ | WRITE)
        self.window.map(STACK, PAGE, READ | WRITE)
        self.state = CpuState()

    def start(self, code: bytes, rounds: int) -> None:
        self.window.write_forced(CODE, code)
        self.window.write_forced(DATA, bytes(PAGE))
        table = [CODE + 64 + 128 * number for number in range(ROUTINES)]
        self.window.write_forced(DATA, struct.pack(f"<{ROUTINES}Q", *table))
        self.state.reset()
        self.state.rip, self.state.rsp = CODE, STACK + PAGE
        self.state.rbx, self.state.rsi = rounds, DATA

    def close(self) -> None:
        self.vcpu.close()
        self.window.close()


@pytest.fixture
def rigs() -> Iterator[dict[str, Rig]]:
    try:
        native.prepare()
    except native.NexusError as reason:
        pytest.skip(f"not run: {reason}")
    made = {name: Rig(*how) for name, how in POLICIES.items()}
    yield made
    for rig in made.values():
        rig.close()


def stretches(rig: Rig, budgets: list[int]) -> list[tuple[int, ...]]:
    """The state at each interruption, and at the end."""
    found = []
    for budget in budgets:
        stop = rig.vcpu.run(rig.state, budget)
        found.append((stop.kind, rig.state.rip, *(rig.state.gpr(n) for n in range(16)), rig.state.eflags))
        if stop.kind != Exit.BUDGET:
            assert stop.kind == Exit.SYSCALL
            return found
    raise AssertionError("the program does not end")


@pytest.mark.parametrize("seed", range(12))
def test_interruptions_do_not_depend_on_the_engine(rigs: dict[str, Rig], seed: int) -> None:
    rng = random.Random(seed)
    code = program(seed)
    budgets = [rng.choice((1, 2, 3, 7, 50, 200)) for _ in range(20_000)]
    results = {}
    for name, rig in rigs.items():
        rig.start(code, 300)
        results[name] = stretches(rig, budgets), rig.window.read(DATA, 128)
    for name, result in results.items():
        assert result == results["t0"], name


def test_code_that_changes_reaches_host_code_and_what_leads_to_it(rigs: dict[str, Rig]) -> None:
    for rig in rigs.values():
        for seed in (1, 2, 1):
            rig.start(program(seed), 500)
            assert rig.vcpu.run(rig.state, 10**6).kind == Exit.SYSCALL
    finals = [[rig.state.gpr(n) for n in range(16)] for rig in rigs.values()]
    assert all(final == finals[0] for final in finals)


def test_only_what_runs_often_becomes_host_code(rigs: dict[str, Rig]) -> None:
    rig = rigs["late"]
    counts: Any = rig.vcpu.translations.counts
    rig.start(program(3), 10)
    rig.vcpu.run(rig.state, 10**6)
    assert counts.host_code_made == 0
    rig.start(program(3), 3000)
    rig.vcpu.run(rig.state, 10**6)
    assert counts.host_code_made > ROUTINES


def test_a_full_piece_is_used_again(rigs: dict[str, Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_MARGIN", native.PIECE - 8192)
    rig = rigs["at once"]
    for seed in range(6):
        rig.start(program(seed), 200)
        assert rig.vcpu.run(rig.state, 10**6).kind == Exit.SYSCALL
        rigs["t0"].start(program(seed), 200)
        rigs["t0"].vcpu.run(rigs["t0"].state, 10**6)
        assert [rig.state.gpr(n) for n in range(16)] == [rigs["t0"].state.gpr(n) for n in range(16)]
    assert rig.vcpu.translations.generation > 0
