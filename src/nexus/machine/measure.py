"""A vCPU that counts and takes samples: for `run --stats` and `run --profile`.

What is measured is what happens at the exits of the engine; guest code itself runs as it always does. Samples
are taken every so many guest instructions, between blocks, in that slices are cut shorter.
"""

from __future__ import annotations

import ctypes
from time import thread_time_ns

from nexus.ir.state import SLOTS, Exit
from nexus.machine.stop import Stop
from nexus.machine.vcpu import Vcpu, budget_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.isa.x86.registers import CpuState
    from nexus.machine.window import Window

    # (the vCPU, the state between two blocks, the nanoseconds in guest code since the last sample of it)
    Sampler = Callable[["MeasuredVcpu", CpuState, int], None]

SAMPLE = 50_000  # guest instructions from one sample to the next
_NEARLY = SAMPLE // 16  # a stretch shorter than this is not worth a translation of its own
_BUDGET, _EXIT, _EXIT_AT = SLOTS["budget"], SLOTS["exit"], SLOTS["exit_at"]


class Measure:
    """What all vCPUs of a machine count together: `exits` of the engine by kind (`ir.state.Exit`), guest
    instructions, nanoseconds of processor time in the engine. `sampler` is None where nobody wants
    samples.
    """

    __slots__ = ("exits", "instructions", "nanoseconds", "sampler", "vcpus")

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exits: dict[int, int] = {}
        self.instructions = 0
        self.nanoseconds = 0
        self.sampler = sampler
        self.vcpus: list[MeasuredVcpu] = []


class MeasuredVcpu(Vcpu):
    """A vCPU that brings a `Measure` up to date."""

    def __init__(self, measure: Measure, window: Window, engine: str = "t0") -> None:
        super().__init__(window, engine)
        self._measure = measure
        self._run_engine = self._engine.run
        self._execute = self._timed
        self._until_sample = SAMPLE
        self._unsampled = 0  # nanoseconds
        measure.vcpus.append(self)

    def run(self, state: CpuState, budget: int, past_hook: bool = False) -> Stop:
        sampler = self._measure.sampler
        if sampler is None:
            return super().run(state, budget, past_hook)
        slots, left = state.slots, budget
        while True:
            part = min(left, self._until_sample)
            stop = super().run(state, part, past_hook)
            used = max(part - budget_left(state), 0)
            cut_short = stop.kind == Exit.BUDGET and part < left
            left -= used
            self._until_sample -= used
            if cut_short or self._until_sample < _NEARLY:
                sampler(self, state, self._unsampled)
                self._unsampled, self._until_sample = 0, SAMPLE
            if not cut_short or left < _NEARLY:
                slots[_BUDGET] = max(left, 0)
                return stop
            past_hook = False

    def _timed(self, at: int, record: int) -> None:
        """Run the engine once."""
        budget = ctypes.c_int64.from_address(at + 8 * _BUDGET)
        before = budget.value
        begin = thread_time_ns()
        self._run_engine(at, record)
        taken = thread_time_ns() - begin
        measure = self._measure
        measure.nanoseconds += taken
        self._unsampled += taken
        measure.instructions += before - budget.value
        kind = ctypes.c_uint64.from_address(at + 8 * _EXIT).value
        measure.exits[kind] = measure.exits.get(kind, 0) + 1
        if kind == Exit.FAULT:  # the block was charged as a whole
            position = ctypes.c_uint64.from_address(at + 8 * _EXIT_AT).value
            _, not_done = self.translations.locate(self.translations.record_at(position))
            measure.instructions -= not_done + 1
