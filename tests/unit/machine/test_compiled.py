"""T2 in a vCPU: hot code is compiled beside the guest, and code that changes, faults or is not there any more
is found out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from nexus.ir.state import Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine.compiled import Compiled
from nexus.machine.measure import Measure, MeasuredVcpu
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window
from peers import test_programs as programs

CODE, DATA, STACK, PAGE = 0x40_0000, 0x50_0000, 0x60_0000, 0x1000
SLICE = 500  # so that slices end in short loops
TURNS = 1_000_000  # until something has been compiled; some thousand are usual
# again: mov rax,[rdi+rcx*8]; add [rsi],rax; dec rcx; jns again; syscall
SUM = bytes.fromhex("488b04cf480106" + "48ffc9" + "79f4" + "0f05")
NUMBERS = [3 * n + 1 for n in range(500)]


class Guest:
    """A window with code in it, run by T2."""

    def __init__(self, code: bytes) -> None:
        self.window = Window()
        self.vcpu = Vcpu(self.window, "t2")
        self.window.map(CODE, -(-len(code) // PAGE) * PAGE + PAGE, READ | WRITE | EXECUTE)
        self.window.write_forced(CODE, code)
        self.window.map(DATA, PAGE, READ | WRITE)
        self.window.map(STACK, 16 * PAGE, READ | WRITE)

    def run(self, rip: int, back: int, **registers: int) -> CpuState:
        """Call `rip`, which returns to `back`; `stop` is how that ended."""
        state = CpuState()
        state.reset()
        state.rip, state.rsp = rip, STACK + 16 * PAGE - 24
        self.window.w64(state.rsp, back)
        for name, value in registers.items():
            setattr(state, name, value)
        while (stop := self.vcpu.run(state, SLICE)).kind == Exit.BUDGET:
            pass
        self.stop = stop
        return state

    @property
    def units(self) -> int:
        hot = self.vcpu.translations.hot
        return 0 if hot is None else hot.units

    def close(self) -> None:
        self.vcpu.close()
        self.window.close()


class Summing(Guest):
    """A loop that adds numbers of DATA to a place in memory, compiled."""

    def __init__(self) -> None:
        super().__init__(SUM)
        self.window.write(DATA, b"".join(number.to_bytes(8, "little") for number in NUMBERS))
        for _ in range(TURNS):
            self.sum(STACK)
            if self.units:
                return
        pytest.fail("nothing was compiled")

    def sum(self, to: int, count: int = len(NUMBERS), numbers: int = DATA) -> CpuState:
        self.window.w64(to, 0)
        return self.run(CODE, 0, rdi=numbers, rsi=to, rcx=count - 1)

    @property
    def is_compiled(self) -> bool:
        return isinstance(self.vcpu.translations.known(CODE), Compiled)


@pytest.fixture
def summing() -> Iterator[Summing]:
    guest = Summing()
    yield guest
    guest.close()


@pytest.mark.parametrize(("name", "n", "level"), [("fib", 14, 0), ("sort", 200, 2), ("float", 1000, 2)])
def test_programs_compute_what_the_host_does(name: str, n: int, level: int) -> None:
    code, symbols = programs.compiled(level)
    expected = programs.on_host(name, level, n)[0]
    guest = Guest(code + b"\x0f\x05")
    try:
        after = 0
        for _ in range(TURNS):
            state = guest.run(CODE + symbols[name], CODE + len(code), rdi=DATA, rsi=n)
            assert (guest.stop.kind, state.rax) == (Exit.SYSCALL, expected)
            after += guest.units > 0
            if after == 20:
                return
        pytest.fail("nothing was compiled")
    finally:
        guest.close()


def test_a_fault_in_compiled_code_is_that_of_the_instruction(summing: Summing) -> None:
    state = summing.sum(STACK, count=100, numbers=DATA - 80)
    stop = summing.stop
    assert summing.is_compiled
    assert (stop.kind, stop.address, stop.write) == (Exit.FAULT, DATA - 8, False)
    assert (state.rip, state.rcx, state.rax) == (CODE, 9, NUMBERS[0])
    assert summing.window.u64(STACK) == sum(NUMBERS[:90])


def test_a_wild_address_faults_as_the_guest_wrote_it(summing: Summing) -> None:
    for wild in (1 << 63, (1 << 64) - 0x1000, DATA + (1 << 42), 0x10):
        state = summing.sum(STACK, count=1, numbers=wild)
        canonical = not 1 << 47 <= wild < (1 << 64) - (1 << 47)
        assert summing.stop.kind == Exit.FAULT
        assert summing.stop.address == (wild if canonical else (1 << 64) - 1)
        assert state.rip == CODE


def test_compiled_code_that_overwrites_itself_is_dropped(summing: Summing) -> None:
    assert summing.is_compiled
    summing.sum(CODE + 0x100)
    assert summing.window.u64(CODE + 0x100) == sum(NUMBERS)
    assert not summing.is_compiled
    summing.window.write(CODE + 4, bytes.fromhex("482906"))  # sub [rsi],rax
    summing.sum(STACK)
    assert summing.window.u64(STACK) == -sum(NUMBERS) & (1 << 64) - 1


def test_without_its_compiler_the_guest_goes_on(summing: Summing) -> None:
    hot = summing.vcpu.translations.hot
    assert hot is not None and hot.compiler is not None
    os.kill(hot.compiler.pid, signal.SIGKILL)
    summing.window.write(CODE + 4, bytes.fromhex("482906"))
    for _ in range(2000):
        summing.sum(STACK)
        assert summing.window.u64(STACK) == -sum(NUMBERS) & (1 << 64) - 1


def test_a_loop_that_goes_beyond_its_budget_is_measured(summing: Summing) -> None:
    """What T2 leaves of a budget may be negative; instructions are counted all the same."""
    measure = Measure()
    vcpu = MeasuredVcpu(measure, summing.window, "t2")
    summing.vcpu.close()
    summing.vcpu = vcpu
    for _ in range(TURNS):
        summing.sum(STACK)
        if summing.units:
            break
    measure.instructions = 0
    summing.sum(STACK)
    least = 4 * len(NUMBERS)
    assert least <= measure.instructions <= least + SLICE
