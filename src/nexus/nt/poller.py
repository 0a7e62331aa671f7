"""Host file descriptors the kernel watches: pipes, sockets, standard streams. The only place where the host
blocks.
"""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READABLE = select.POLLIN
WRITABLE = select.POLLOUT
BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Watch:
    """One interest in one descriptor; `ready(events)` is called each time it is met, until `unwatch`.

    A passive one does not count as something a guest waits for.
    """

    __slots__ = ("events", "fd", "passive", "ready")

    def __init__(self, fd: int, events: int, ready: Callable[[int], None], passive: bool = False) -> None:
        self.passive = passive
        self.fd = fd
        self.events = events
        self.ready = ready


class HostPoller:
    """Several watches may share a descriptor."""

    __slots__ = ("_poll", "_watches")
    snapshot_keeps = ("_poll",)

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watches: dict[int, list[Watch]] = {}

    def __bool__(self) -> bool:
        """Whether a guest waits for a descriptor."""
        return any(not watch.passive for watches in self._watches.values() for watch in watches)

    def watch(self, fd: int, events: int, ready: Callable[[int], None], passive: bool = False) -> Watch:
        watch = Watch(fd, events, ready, passive)
        self._watches.setdefault(fd, []).append(watch)
        self._register(fd)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Forget a watch; do this before its descriptor is closed."""
        watches = self._watches.get(watch.fd, [])
        if watch in watches:
            watches.remove(watch)
            self._register(watch.fd)

    def _register(self, fd: int) -> None:
        watches = self._watches[fd]
        if not watches:
            del self._watches[fd]
            self._poll.unregister(fd)
            return
        events = 0
        for watch in watches:
            events |= watch.events
        self._poll.register(fd, events)

    def snapshot_outside(self) -> Callable[[], None]:
        """See `nt/graph.py`."""
        return self._register_again

    def _register_again(self) -> None:
        self._poll = select.poll()
        for fd in self._watches:
            self._register(fd)

    def poll(self, milliseconds: float | None) -> bool:
        """Wait at most so long (None: forever) and call who is ready; tells whether anybody was."""
        if not self._watches and milliseconds == 0:
            return False
        called = False
        for fd, events in self._poll.poll(milliseconds):
            for watch in list(self._watches.get(fd, ())):
                if events & (watch.events | BROKEN):
                    called = True
                    watch.ready(events)
        return called
