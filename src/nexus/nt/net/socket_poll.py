"""Waiting for several sockets at once: IOCTL_AFD_POLL, which select and WSAPoll use (wine/afd.h)."""

from __future__ import annotations

import struct

from nexus.nt.errors import NtError
from nexus.nt.net.socket_address import status_of
from nexus.nt.net.socket_file import AFD_POLL_CLOSE, Poller, SocketFile
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.io.device_io import IoManager
    from nexus.nt.io.file import Operation

_INFINITE = 0x7FFF_FFFF_FFFF_FFFF


class PollRequest(Poller):
    """A pending IOCTL_AFD_POLL over several sockets."""

    __slots__ = ("buffer", "entries", "exclusive", "io", "op", "timeout")

    def __init__(
        self,
        io: IoManager,
        op: Operation,
        buffer: int,
        timeout: int,
        exclusive: int,
        entries: list[tuple[int, int, SocketFile]],
    ) -> None:
        self.io = io
        self.op = op
        self.buffer = buffer
        self.timeout = timeout
        self.exclusive = exclusive
        self.entries = entries

    def ready(self) -> list[tuple[int, int, int]]:
        """(handle, flags, status) of the sockets for which something holds now."""
        found = []
        for handle, mask, file in self.entries:
            flags = file.events() if file.sock is not None else AFD_POLL_CLOSE
            if flags & (mask | AFD_POLL_CLOSE):
                found.append((handle, flags & (mask | AFD_POLL_CLOSE), status_of(file.connect_error)))
        return found

    def answer(self, ready: list[tuple[int, int, int]]) -> None:
        data = struct.pack("<qIBxxx", self.timeout, len(ready), self.exclusive)
        data += b"".join(struct.pack("<QII", *entry) for entry in ready)
        self.op.write(self.buffer, data)
        self.op.information = len(data)

    def mask_of(self, file: SocketFile) -> int:
        mask = 0
        for _, wanted, other in self.entries:
            if other is file:
                mask |= wanted
        return mask

    def dropped(self) -> None:
        self.io.kernel.timers.remove(self)
        for _, _, file in self.entries:
            if self in file.pollers:
                file.pollers.remove(self)
                file.update()

    def try_again(self) -> None:
        ready = self.ready()
        if ready and not self.op.ended:
            self.dropped()
            self.answer(ready)
            self.op.complete(Status.SUCCESS, self.op.information)

    def expired(self) -> None:
        self.dropped()
        self.answer([])
        self.op.complete(Status.TIMEOUT, self.op.information)


def poll(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    """Answer at once if something holds or nobody wants to wait, else when it does."""
    if len(data) < 16:
        raise NtError(Status.INVALID_PARAMETER)
    timeout, count, exclusive = struct.unpack_from("<qIB", data)
    if not count or len(data) < 16 + 16 * count or length < 16 + 16 * count:
        raise NtError(Status.INVALID_PARAMETER)
    entries = []
    for handle, mask, _ in struct.iter_unpack("<QII", data[16 : 16 + 16 * count]):
        entries.append((handle, mask, op.process.handles.resolve(handle, SocketFile, 0)))
    request = PollRequest(file.io, op, buffer, timeout, exclusive, entries)
    ready = request.ready()
    if ready or not timeout:
        request.answer(ready)
        return Status.SUCCESS if ready else Status.TIMEOUT
    status = op.pend(request)
    kernel = file.io.kernel
    deadline = kernel.clock.deadline(timeout)
    if deadline is not None and timeout != _INFINITE:
        kernel.timers.add(deadline, request)
    for _, _, target in entries:
        target.pollers.append(request)
        target.update()
    return status
