"""T0 and T1 side by side: what differs is found, with its place, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nexus.ir.state import Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine import native
from nexus.machine.host import PAGE
from nexus.machine.stop import Stop
from nexus.machine.twin import Divergence, TwinVcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

CODE, DATA, STACK = 0x10000, 0x20000, 0x30000
SYSCALL = "0f05"


class Rig:
    def __init__(self) -> None:
        self.window = Window()
        self.vcpu = TwinVcpu(self.window)
        self.window.map(CODE, 2 * PAGE, READ | EXECUTE)
        self.window.map(DATA, 2 * PAGE, READ | WRITE)
        self.window.map(STACK, PAGE, READ | WRITE)
        self.state = CpuState()

    def run(self, code: str = "", budget: int = 100_000, **registers: int) -> Stop:
        if code:
            self.window.write_forced(CODE, bytes.fromhex(code))
            self.state.reset()
            self.state.rip, self.state.rsp = CODE, STACK + PAGE
            for name, value in registers.items():
                setattr(self.state, name, value)
        return self.vcpu.run(self.state, budget)


@pytest.fixture
def rig() -> Iterator[Rig]:
    try:
        native.prepare()
    except native.NexusError as reason:
        pytest.skip(f"not run: {reason}")
    made = Rig()
    yield made
    made.vcpu.close()
    made.window.close()


def plant(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    """Let T1 use the stencils of another row."""
    there: Any = native.built()
    built = there.stencils
    monkeypatch.setitem(built, right, built[wrong])


def test_what_agrees_runs_as_ever(rig: Rig) -> None:
    # add [rbx],ecx; loop -4; push rbx; cpuid; pop rbx; rdtsc; syscall
    stop = rig.run("010b e2fc 53 0fa2 5b 0f31" + SYSCALL, rbx=DATA, rcx=1000, rax=0)
    assert stop.kind == Exit.SYSCALL
    assert rig.window.u32(DATA) == 500_500
    assert rig.vcpu.instructions == 2000 + 5
    assert rig.window.u64(STACK + PAGE - 8) == DATA


def test_what_the_kernel_changes_between_stretches_is_seen_by_both(rig: Rig) -> None:
    assert rig.run("8b03" + SYSCALL, rbx=DATA).kind == Exit.SYSCALL
    rig.window.w32(DATA, 7)
    rig.window.map(0x40000, PAGE, READ | WRITE)
    rig.window.w32(0x40000, 35)
    rig.window.protect(DATA + PAGE, PAGE, READ)
    # add eax,[rbx]; add eax,[0x40000]; syscall, over the code that was there
    assert rig.run("8b03 030425 00000400" + SYSCALL, rbx=DATA).kind == Exit.SYSCALL
    assert rig.state.rax == 42
    stop = rig.run("c60301" + SYSCALL, rbx=DATA + PAGE)  # mov byte [rbx],1
    assert (stop.kind, stop.address, stop.write) == (Exit.FAULT, DATA + PAGE, True)
    rig.window.unmap(0x40000, PAGE)
    assert rig.run("8a042500000400" + SYSCALL).address == 0x40000


def test_code_that_changes_itself(rig: Rig) -> None:
    rig.window.protect(CODE, 2 * PAGE, READ | WRITE | EXECUTE)
    # mov byte [rip+1],42; mov al,0; syscall
    assert rig.run("c605010000002a b000" + SYSCALL).kind == Exit.SYSCALL
    assert rig.state.rax & 255 == 42


def test_hooks_and_steps(rig: Rig) -> None:
    rig.vcpu.hook(CODE + 2)
    assert rig.run("ffc0 ffc0" + SYSCALL, rax=0).kind == Exit.HOOK
    assert (rig.state.rip, rig.state.rax) == (CODE + 2, 1)
    assert rig.vcpu.run(rig.state, 100, past_hook=True).kind == Exit.SYSCALL
    assert rig.state.rax == 2
    rig.vcpu.unhook(CODE + 2)
    assert rig.run("ffc0 ffc0" + SYSCALL, budget=1, rax=0).kind == Exit.BUDGET
    assert (rig.state.rip, rig.state.rax) == (CODE + 2, 1)


def test_a_wrong_stencil_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its block is found 10,000 instructions into a stretch, and how much of the block it takes: `add` has a
    row for its flags, too, as long as nothing overwrites them."""
    plant(monkeypatch, "add.i64", "sub.i64")
    # dec ecx; jnz -4, 5,000 times; mov edx,3; add rdx,rbx; xor eax,eax; jmp +0; syscall
    code = "ffc9 75fc ba03000000 4801da 31c0 eb00" + SYSCALL
    with pytest.raises(Divergence) as caught:
        rig.run(code, rcx=5000, rbx=5)
    text = str(caught.value)
    assert caught.value.rip == CODE + 4
    assert text.startswith("T0 and T1 disagree after 10,000 instructions, at 0x10004:\n")
    shown, _, table = text.partition(" before            T0                T1\n")
    assert "0x10009  add rdx,rbx" in shown and "xor eax,eax" in shown and "jmp" not in shown
    assert f"* rdx     {0:016x}  {8:016x}  {3 - 5 & (1 << 64) - 1:016x}\n" in table
    assert f"  rbx     {5:016x}  {5:016x}  {5:016x}\n" in table
    assert table.count("*") == 1


def test_wrong_memory_is_found_and_does_not_stay(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "store.i64", "store.i32")
    # mov [0x20008],rdx; syscall
    code = "48891425 08000200" + SYSCALL
    with pytest.raises(Divergence, match=r"\* \[0x2000c\] 07  00"):
        rig.run(code, rdx=7 << 32 | 5)
    assert rig.window.u64(DATA + 8) == 7 << 32 | 5  # the kernel's window has what T0 did
