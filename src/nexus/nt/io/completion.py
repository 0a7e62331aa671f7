"""I/O completion ports: a queue of packets that threads take in turn."""

from __future__ import annotations

from collections import deque

from nexus.nt import access
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.io.file import Operation
    from nexus.nt.ps.thread import Thread


class Packet:
    """What one finished operation leaves in a port. The status block of `op` is filled when a thread takes
    the packet.
    """

    __slots__ = ("information", "key", "op", "status", "value")

    def __init__(
        self, key: int, value: int, status: int, information: int, op: Operation | None = None
    ) -> None:
        self.op = op
        self.key = key
        self.value = value
        self.status = status
        self.information = information


class PacketQueue(KernelObject):
    """The part of a port that threads removing packets wait for: satisfying a wait takes a packet."""

    __slots__ = ("packets",)

    def __init__(self) -> None:
        super().__init__()
        self.packets: deque[Packet] = deque()

    def is_signaled_for(self, thread: Thread) -> bool:
        return bool(self.packets)

    def acquire(self, thread: Thread) -> Packet:
        return self.take()

    def take(self) -> Packet:
        """The first packet; there must be one."""
        packet = self.packets.popleft()
        if packet.op is not None:
            packet.op.report(packet.status, packet.information)
        return packet

    def notify(self) -> None:
        """The thread that began to wait last is served first, as Windows does to keep caches warm."""
        for thread in reversed(self.waiters.copy()):
            thread.check_wait()

    def abandon(self) -> None:
        """The port is gone: who waits for a packet will not get one."""
        for thread in self.waiters.copy():
            thread.end_wait(Status.ABANDONED_WAIT_0)


class IoCompletionReserve(KernelObject):
    """Memory for a packet, set aside."""

    __slots__ = ()

    type = ObjectType(
        "IoCompletionReserve", read=1, write=2, execute=0, all=access.STANDARD_RIGHTS_REQUIRED | 3
    )
    waitable = False


class IoCompletion(KernelObject):
    """A port. Waiting for its handle (not for a packet) takes nothing out."""

    __slots__ = ("closed", "concurrency", "queue")

    type = ObjectType(
        "IoCompletion",
        read=access.IO_COMPLETION_QUERY_STATE,
        write=access.IO_COMPLETION_MODIFY_STATE,
        execute=access.SYNCHRONIZE,
        all=access.STANDARD_RIGHTS_ALL | 0x3,
    )

    def __init__(self, concurrency: int) -> None:
        super().__init__()
        self.concurrency = concurrency
        self.queue = PacketQueue()
        self.closed = False

    def is_signaled_for(self, thread: Thread) -> bool:
        return bool(self.queue.packets) or self.closed

    def last_handle_closed(self) -> None:
        self.closed = True
        self.queue.abandon()
        self.notify()

    def post(self, key: int, value: int, status: int, information: int, op: Operation | None = None) -> None:
        self.queue.packets.append(Packet(key, value, status, information, op))
        self.queue.notify()
        self.notify()
