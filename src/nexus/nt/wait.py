"""`Wait`: how a syscall blocks. It is a value that the syscall returns; no host thread waits anywhere.

    return Wait((event,), deadline)                            # NtWaitForSingleObject
    return Wait((port,), deadline, then=_removed, data=(...))  # _removed(call, status, acquired, *data)

The thread sleeps until the objects are satisfied (any of them, or all with `all=True`), the deadline
passes, or - when alertable - a user APC or alert arrives. `then`, a function at module level, turns the
outcome into the syscall's result (and may return another Wait); without it the status is the result.
`status` is the index of the satisfied object (plus STATUS_ABANDONED_WAIT_0 for an abandoned mutant),
STATUS_TIMEOUT, STATUS_USER_APC or STATUS_ALERTED; `acquired` is what the object's `acquire` returned.
"""

from __future__ import annotations

from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nexus.nt.objects import KernelObject
    from nexus.nt.ps.thread import Thread


class Wait:
    """A blocked syscall.

    `deadline` is in the kernel clock's 100 ns units (see `clock`), None means forever.
    """

    __slots__ = ("alertable", "all", "data", "deadline", "objects", "then")

    def __init__(
        self,
        objects: Sequence[KernelObject],
        deadline: int | None = None,
        *,
        all: bool = False,
        alertable: bool = False,
        then: Callable[..., Any] | None = None,
        data: tuple[Any, ...] = (),
    ) -> None:
        self.objects = objects
        self.deadline = deadline
        self.all = all
        self.alertable = alertable
        self.then = then
        self.data = data

    def satisfied(self, thread: Thread) -> tuple[int, object] | None:
        """Consume the signal and tell (status, acquired) when the objects allow it now, else None."""
        if self.all:
            return self._all(thread)
        for index, target in enumerate(self.objects):
            if target.is_signaled_for(thread):
                abandoned = target.abandoned()
                return index + (Status.ABANDONED_WAIT_0 if abandoned else 0), target.acquire(thread)
        return None

    def _all(self, thread: Thread) -> tuple[int, object] | None:
        if not self.objects or not all(target.is_signaled_for(thread) for target in self.objects):
            return None
        status, acquired = 0, None
        for index, target in enumerate(self.objects):
            if target.abandoned():
                status = Status.ABANDONED_WAIT_0 + index
            acquired = target.acquire(thread)
        return status, acquired


class UserCallback:
    """Call into the guest: `KiUserCallbackDispatcher(index, arguments)`; `then(call, status, output,
    *data)` follows.

    Returned by a syscall like a Wait. Callbacks nest: the frame of the interrupted syscall is kept on the
    thread.
    """

    __slots__ = ("arguments", "data", "index", "then")

    def __init__(
        self,
        index: int,
        arguments: bytes,
        *,
        then: Callable[..., Any] | None = None,
        data: tuple[Any, ...] = (),
    ) -> None:
        self.index = index
        self.arguments = arguments
        self.then = then
        self.data = data


class Resume:
    """The type of `RESUME`."""

    __slots__ = ()


RESUME = Resume()
"""Returned by a syscall that has set the thread's registers itself: nothing is written to rax."""
