"""Time as the guest sees it, in units of 100 ns.

`monotonic()` is the time since the kernel started (interrupt time), `system()` the time since 1601-01-01 UTC.
`VirtualClock` moves only when it is told to: by the instructions that were run and by idling to the next
deadline.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TICKS_PER_SECOND = 10_000_000
EPOCH_1970 = 116_444_736_000_000_000
BOOT_OFFSET = 600 * TICKS_PER_SECOND  # a machine that has been up for ten minutes
FOREVER = 0x7FFF_FFFF_FFFF_FFFF
CYCLES_PER_TICK = 200  # of the time stamp counter: 2 GHz, as the registry says (`~MHz`)
_CYCLES_PER_READ = 25


class Clock:
    """The host's clocks."""

    __slots__ = ("_start",)
    virtual = False

    def __init__(self) -> None:
        self._start = time.monotonic_ns() - BOOT_OFFSET * 100

    def snapshot_outside(self) -> Callable[[], None] | None:
        """See `nt/graph.py`: the time since the start goes on from where it was; the date is the host's."""
        passed = time.monotonic_ns() - self._start

        def put_back() -> None:
            self._start = time.monotonic_ns() - passed

        return put_back

    def monotonic(self) -> int:
        return (time.monotonic_ns() - self._start) // 100

    def system(self) -> int:
        return time.time_ns() // 100 + EPOCH_1970

    def time_stamp(self) -> int:
        """The time stamp counter (RDTSC); it begins with the machine, like `monotonic`."""
        return (time.monotonic_ns() - self._start) * CYCLES_PER_TICK // 100

    def deadline(self, timeout: int) -> int | None:
        """The `monotonic` moment that an NT timeout means; None is never."""
        if timeout == -FOREVER - 1 or timeout == FOREVER:
            return None
        if timeout <= 0:
            return self.monotonic() - timeout
        return self.monotonic() + timeout - self.system()

    def advance(self, ticks: int) -> None:
        """The guest ran (or idled) that long; only virtual time cares."""


class VirtualClock(Clock):
    """Time that passes by work done, for runs that repeat exactly."""

    __slots__ = ("_now", "_stamp", "epoch")
    virtual = True

    def __init__(self, epoch: int = EPOCH_1970 + 1_700_000_000 * TICKS_PER_SECOND) -> None:
        super().__init__()
        self._now = BOOT_OFFSET
        self._stamp = 0
        self.epoch = epoch

    def snapshot_outside(self) -> None:
        """Its time is in its fields."""

    def monotonic(self) -> int:
        return self._now

    def system(self) -> int:
        return self.epoch + self._now

    def time_stamp(self) -> int:
        """Never the same twice: programs divide by differences."""
        self._stamp = max(self._stamp + _CYCLES_PER_READ, self._now * CYCLES_PER_TICK)
        return self._stamp

    def advance(self, ticks: int) -> None:
        self._now += ticks
