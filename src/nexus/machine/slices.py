"""How long a thread may run at a time: about a millisecond, whatever the engine.

The shorter a slice, the sooner somebody else runs and an interrupt is seen; but ending one costs a good part
of a tenth of a millisecond. Engines differ by a factor of a hundred, so the number of instructions is
learnt. Where runs have to repeat exactly it is fixed.
"""

from __future__ import annotations

from time import perf_counter_ns

from nexus.ir.state import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.isa.x86.registers import CpuState
    from nexus.machine.stop import Stop
    from nexus.machine.vcpu import Vcpu

FIXED = 100_000  # guest instructions
_LONGEST = 64 * FIXED
_SHORT, _LONG = 500_000, 2_000_000  # ns


class Slices:
    """Runs vCPUs, a slice at a time."""

    __slots__ = ("fixed", "length")

    def __init__(self, fixed: bool = False) -> None:
        self.fixed = fixed
        self.length = FIXED

    def run(self, vcpu: Vcpu, state: CpuState, past_hook: bool = False) -> Stop:
        """One slice of a thread, or less if something happens."""
        if self.fixed:
            return vcpu.run(state, FIXED, past_hook)
        started = perf_counter_ns()
        stop = vcpu.run(state, self.length, past_hook)
        taken = perf_counter_ns() - started
        if taken > _LONG:
            self.length = max(FIXED, self.length // 2)
        elif taken < _SHORT and stop.kind == Exit.BUDGET:
            self.length = min(_LONGEST, self.length * 2)
        return stop
