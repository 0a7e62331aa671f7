"""Time: clocks, delays, yielding."""

from __future__ import annotations

from nexus.abi.types import boolean, i64, u32
from nexus.nt.call import Call
from nexus.nt.clock import TICKS_PER_SECOND
from nexus.nt.status import Status
from nexus.nt.syscall import In, Out, stub, syscall
from nexus.nt.wait import Wait

COARSEST, FINEST, DEFAULT = 156_250, 5_000, 10_000  # timer resolutions, 100 ns


@syscall
def NtQuerySystemTime(call: Call, time: Out[i64]) -> None:
    """Now, in 100 ns since 1601."""
    call.kernel.tick()  # what KUSER_SHARED_DATA says must not lag behind the answer
    time.write(call.kernel.clock.system())


@syscall
def NtQueryPerformanceCounter(call: Call, counter: Out[i64], frequency: Out[i64] | None) -> None:
    """A monotonic counter of 10 MHz."""
    counter.write(call.kernel.clock.monotonic())
    if frequency is not None:
        frequency.write(TICKS_PER_SECOND)


@syscall
def NtDelayExecution(call: Call, alertable: boolean, interval: In[i64] | None) -> Wait:
    """Sleep; an interval of zero lets other threads run."""
    call.kernel.end_slice()
    return Wait((), call.deadline(interval), alertable=bool(alertable), then=_delayed)


def _delayed(call: Call, status: int, acquired: object) -> int:
    return Status.SUCCESS if status == Status.TIMEOUT else status


@syscall
def NtYieldExecution(call: Call) -> int:
    """Let another thread run, if one is ready."""
    if not call.kernel.ready:
        return Status.NO_YIELD_PERFORMED
    call.kernel.end_slice()
    return Status.SUCCESS


@syscall
def NtQueryTimerResolution(call: Call, coarsest: Out[u32], finest: Out[u32], current: Out[u32]) -> None:
    """The clock's tick lengths."""
    coarsest.write(COARSEST)
    finest.write(FINEST)
    current.write(call.process.timer_resolution or DEFAULT)


@stub("the guest's clock moves each millisecond and timers are exact whatever is asked for")
def NtSetTimerResolution(call: Call, wanted: u32, set_it: boolean, current: Out[u32]) -> int:
    """Remember the request and tell it back."""
    process = call.process
    before = process.timer_resolution
    after = min(max(wanted, FINEST), DEFAULT) if set_it else 0
    current.write(after or DEFAULT)
    process.timer_resolution = after
    return Status.SUCCESS if set_it or before else Status.TIMER_RESOLUTION_NOT_SET


@syscall
def NtSetSystemTime(call: Call, time: In[i64], previous: Out[i64] | None) -> int:
    """Refused: the token does not hold SeSystemtimePrivilege."""
    time.read()
    return Status.PRIVILEGE_NOT_HELD


@syscall
def NtGetCurrentProcessorNumber(call: Call) -> int:
    """The number of the processor that runs the caller."""
    return 0
