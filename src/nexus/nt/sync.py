"""Synchronisation objects: events, mutants, semaphores, timers and keyed events."""

from __future__ import annotations

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.kernel import Kernel
    from nexus.nt.ps.thread import Thread

_ALL = access.STANDARD_RIGHTS_ALL


class Event(KernelObject):
    """A flag. A synchronisation event (`auto_reset`) lets one waiter through, a notification event all."""

    __slots__ = ("auto_reset",)

    type = ObjectType(
        "Event",
        read=access.EVENT_QUERY_STATE,
        write=access.EVENT_MODIFY_STATE,
        execute=access.SYNCHRONIZE,
        all=_ALL | 0x3,
    )

    def __init__(self, auto_reset: bool, signaled: bool = False) -> None:
        super().__init__(signaled)
        self.auto_reset = auto_reset

    def acquire(self, thread: Thread) -> object:
        if self.auto_reset:
            self.signaled = False
        return None

    def pulse(self) -> None:
        """Set, release whoever waits now, reset."""
        self.signaled = True
        self.signaled = False


class Mutant(KernelObject):
    """A mutex: owned by a thread, recursively; abandoned when its owner ends without releasing it."""

    __slots__ = ("_abandoned", "count", "owner")

    type = ObjectType(
        "Mutant",
        read=access.MUTANT_QUERY_STATE,
        write=0,
        execute=access.SYNCHRONIZE,
        all=_ALL | access.MUTANT_QUERY_STATE,
    )

    def __init__(self, owner: Thread | None = None) -> None:
        super().__init__()
        self.owner: Thread | None = None
        self.count = 0
        self._abandoned = False
        if owner is not None:
            self.acquire(owner)

    def is_signaled_for(self, thread: Thread) -> bool:
        return self.owner is None or self.owner is thread

    def abandoned(self) -> bool:
        return self._abandoned

    def acquire(self, thread: Thread) -> object:
        if self.count == 0x7FFF_FFFF:
            raise NtError(Status.MUTANT_LIMIT_EXCEEDED)
        self._abandoned = False
        self.owner = thread
        self.count += 1
        thread.mutants.add(self)
        return None

    def release(self, thread: Thread) -> int:
        """Give it back once; returns the previous count as NtReleaseMutant reports it (1 - recursion)."""
        if self.owner is not thread:
            raise NtError(Status.MUTANT_NOT_OWNED)
        previous = 1 - self.count
        self.count -= 1
        if self.count == 0:
            self.owner = None
            thread.mutants.discard(self)
            self.notify()
        return previous

    def abandon(self) -> None:
        """The owner ended."""
        self.owner = None
        self.count = 0
        self._abandoned = True
        self.notify()


class Semaphore(KernelObject):
    """A counter that waits decrement."""

    __slots__ = ("count", "maximum")

    type = ObjectType(
        "Semaphore",
        read=access.SEMAPHORE_QUERY_STATE,
        write=access.SEMAPHORE_MODIFY_STATE,
        execute=access.SYNCHRONIZE,
        all=_ALL | 0x3,
    )

    def __init__(self, count: int, maximum: int) -> None:
        super().__init__()
        self.count = count
        self.maximum = maximum

    def is_signaled_for(self, thread: Thread) -> bool:
        return self.count > 0

    def acquire(self, thread: Thread) -> object:
        self.count -= 1
        return None

    def release(self, amount: int) -> int:
        """Add `amount`; returns the count before."""
        previous = self.count
        if previous + amount > self.maximum:
            raise NtError(Status.SEMAPHORE_LIMIT_EXCEEDED)
        self.count += amount
        self.notify()
        return previous


class Timer(KernelObject):
    """A timer: signalled at its due time, again each `period`, with an optional APC for its setter."""

    __slots__ = ("apc", "auto_reset", "due", "kernel", "period", "setter")

    type = ObjectType(
        "Timer",
        read=access.TIMER_QUERY_STATE,
        write=access.TIMER_MODIFY_STATE,
        execute=access.SYNCHRONIZE,
        all=_ALL | 0x3,
    )

    def __init__(self, kernel: Kernel, auto_reset: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.auto_reset = auto_reset
        self.due: int | None = None
        self.period = 0
        self.setter: Thread | None = None
        self.apc: tuple[int, int] | None = None

    def acquire(self, thread: Thread) -> object:
        if self.auto_reset:
            self.signaled = False
        return None

    def start(self, due: int, period: int, setter: Thread | None, apc: tuple[int, int] | None) -> None:
        """(Re)arm; `period` in 100 ns, 0 for one shot; `apc` is (routine, context) queued to `setter`."""
        self.cancel()
        self.signaled = False
        self.due, self.period, self.setter, self.apc = due, period, setter, apc
        self.kernel.timers.add(due, self)

    def cancel(self) -> bool:
        """Disarm; tells whether it was armed."""
        armed = self.due is not None
        self.kernel.timers.remove(self)
        if self.setter is not None:
            self.setter.remove_apc(self)
        self.due = None
        return armed

    def expired(self) -> None:
        """The kernel's timer queue found the due time passed."""
        due = self.due
        assert due is not None
        if self.period:
            missed = max(0, self.kernel.clock.monotonic() - due) // self.period
            self.due = due + (missed + 1) * self.period
            self.kernel.timers.add(self.due, self)
        else:
            self.due = None
        if self.apc is not None and self.setter is not None:
            routine, context = self.apc
            now = self.kernel.clock.system()
            self.setter.queue_timer_apc(self, routine, (context, now & 0xFFFF_FFFF, now >> 32))
        self.signaled = True

    def last_handle_closed(self) -> None:
        self.cancel()


class KeyedEvent(KernelObject):
    """A meeting point: a waiter and a releaser with the same key (an address) in one process let each other
    go.
    """

    __slots__ = ("releasing", "waiting")

    type = ObjectType(
        "KeyedEvent",
        read=access.KEYEDEVENT_WAIT,
        write=access.KEYEDEVENT_WAKE,
        execute=0,
        all=access.STANDARD_RIGHTS_REQUIRED | 0x3,
        more=access.SYNCHRONIZE,
    )

    def __init__(self) -> None:
        super().__init__(signaled=True)  # waiting for the object itself means nothing, and ends at once
        self.waiting: list[KeyedSide] = []
        self.releasing: list[KeyedSide] = []


class KeyedSide(KernelObject):
    """One thread standing at a keyed event; signalled when its partner has come."""

    __slots__ = ("key", "queue")

    def __init__(self, queue: list[KeyedSide], key: tuple[object, int]) -> None:
        super().__init__()
        self.queue = queue
        self.key = key
        queue.append(self)

    def acquire(self, thread: Thread) -> object:
        return None

    def leave(self) -> None:
        """The wait is over, with or without a partner."""
        if self in self.queue:
            self.queue.remove(self)
