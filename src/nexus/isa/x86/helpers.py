"""Instructions that the host does in Python, by number (`Exit.HELPER`): their cost does not matter.

Imported where programs run, so it imports nothing else than what it needs for that.
"""

from __future__ import annotations

from nexus.isa.x86 import registers as r
from nexus.isa.x86.cpuid import cpuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Ticks = Callable[[], int]

FLAGS_LOADED, CPUID, RDTSC, RDTSCP, MXCSR_LOADED = range(5)
PROCESSOR = 0  # TSC_AUX: the number of the processor, as Windows keeps it there


def _flags_loaded(state: r.CpuState, ticks: Ticks, processors: int) -> None:
    """Nothing to do: the exit gives the machine the occasion to see a TF that has just been set."""


def _cpuid(state: r.CpuState, ticks: Ticks, processors: int) -> None:
    leaf, subleaf = state.rax & 0xFFFFFFFF, state.rcx & 0xFFFFFFFF
    state.rax, state.rbx, state.rcx, state.rdx = cpuid(leaf, subleaf, processors)


def _rdtsc(state: r.CpuState, ticks: Ticks, processors: int) -> None:
    now = ticks()
    state.rax, state.rdx = now & 0xFFFFFFFF, now >> 32 & 0xFFFFFFFF


def _rdtscp(state: r.CpuState, ticks: Ticks, processors: int) -> None:
    _rdtsc(state, ticks, processors)
    state.rcx = PROCESSOR


def _mxcsr_loaded(state: r.CpuState, ticks: Ticks, processors: int) -> None:
    """Nothing to do: the exit gives the machine the occasion to see an exception that is unmasked now."""


HELPERS = (_flags_loaded, _cpuid, _rdtsc, _rdtscp, _mxcsr_loaded)


def run(number: int, state: r.CpuState, ticks: Ticks, processors: int = 1) -> None:
    """Do helper `number`; pc is past the instruction already.

    `ticks()` is the time stamp counter, real or virtual, `processors` what CPUID counts.
    """
    HELPERS[number](state, ticks, processors)
