"""What `run --stats` counts is what happened, and what `run --profile` samples does not change it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nexus.ir.state import SLOTS, Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine.host import PAGE
from nexus.machine.measure import SAMPLE, Measure, MeasuredVcpu
from nexus.machine.stop import Stop
from nexus.machine.window import EXECUTE, READ, WRITE, Window

CODE, DATA = 0x10000, 0x20000
BUDGET = SLOTS["budget"]
# mov ecx,edi; inc rax; dec ecx; jnz -7; syscall: 2 + 3 n instructions
LOOP = "89f9 48ffc0 ffc9 75f9 0f05"


class Rig:
    """A measured vCPU, with the pcs of its samples."""

    def __init__(self, engine: str, sampled: bool) -> None:
        self.samples: list[tuple[int, int]] = []
        self.measure = Measure(self.sample if sampled else None)
        self.window = Window()
        self.vcpu = MeasuredVcpu(self.measure, self.window, engine)
        self.window.map(CODE, PAGE, READ | EXECUTE)
        self.window.map(DATA, PAGE, READ | WRITE)
        self.state = CpuState()

    def sample(self, vcpu: MeasuredVcpu, state: CpuState, nanoseconds: int) -> None:
        assert vcpu is self.vcpu
        self.samples.append((state.rip, nanoseconds))

    def start(self, code: str, **registers: int) -> None:
        self.window.write_forced(CODE, bytes.fromhex(code))
        self.state.reset()
        self.state.rip, self.state.rsp = CODE, DATA + PAGE
        for name, value in registers.items():
            setattr(self.state, name, value)

    def finish(self, budget: int = 100_000) -> Stop:
        while (stop := self.vcpu.run(self.state, budget)).kind == Exit.BUDGET:
            pass
        return stop


@pytest.fixture(params=["t0", "t1"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["counted", "sampled"])
def rig(engine: str, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(engine, request.param)
    yield made
    made.vcpu.close()
    made.window.close()


def test_instructions_are_counted(rig: Rig) -> None:
    rig.start(LOOP, rdi=123_456)
    assert rig.finish().kind == Exit.SYSCALL
    assert rig.state.rax == 123_456
    assert rig.measure.instructions == 2 + 3 * 123_456
    assert rig.measure.exits[Exit.SYSCALL] == 1
    assert rig.measure.nanoseconds > 0
    assert rig.vcpu.translations.counts.made >= 2


def test_instructions_before_a_fault_are_counted(rig: Rig) -> None:
    rig.start("90 90 c70425 00000000 01000000 90 90 0f05")  # two nops, then mov dword [0],1
    assert rig.finish().kind == Exit.FAULT
    assert rig.measure.instructions == 2
    assert rig.measure.exits[Exit.FAULT] == 1


def test_the_budget_holds(engine: str) -> None:
    """However often a slice is cut for samples, it is as long as it would have been."""
    for sampled in (False, True):
        rig = Rig(engine, sampled)
        rig.start(LOOP, rdi=1_000_000)
        for _ in range(5):
            assert rig.vcpu.run(rig.state, 100_000).kind == Exit.BUDGET
        assert abs(rig.measure.instructions - 500_000) <= (5 * 3 if not sampled else 5 * SAMPLE // 8)
        assert 0 <= rig.state.slots[BUDGET] < SAMPLE
        rig.vcpu.close()
        rig.window.close()


def test_samples_are_where_the_guest_is(engine: str) -> None:
    rig = Rig(engine, True)
    rig.start(LOOP, rdi=1_000_000)
    rig.finish()
    expected = 3_000_000 // SAMPLE
    assert expected * 0.9 <= len(rig.samples) <= expected * 1.1
    assert {pc for pc, _ in rig.samples} == {CODE + 2}  # the loop's block
    assert sum(taken for _, taken in rig.samples) <= rig.measure.nanoseconds
    rig.vcpu.close()
    rig.window.close()


def test_stepping_is_left_alone(rig: Rig) -> None:
    rig.start(LOOP, rdi=3)
    seen = []
    while (stop := rig.vcpu.run(rig.state, 1)).kind == Exit.BUDGET:
        seen.append(rig.state.rip - CODE)
    assert stop.kind == Exit.SYSCALL
    assert seen == [2, 5, 7, 2, 5, 7, 2, 5, 7, 9]
