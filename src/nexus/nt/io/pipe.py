"""Named pipes, entirely inside this kernel: between threads and between guest processes.

A `NamedPipe` is the name; each instance is a pair of `PipeEnd`s. What is written into one end waits in the
queue of the other: a `Message` each, even in byte mode. A write that exceeds the reader's quota pends until
it is read.
"""

from __future__ import annotations

import struct
from collections import deque

from nexus.base.errors import GuestFault
from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_DEVICE_NAMED_PIPE, FILE_OPENED, FileObject, OpenRequest, Operation
from nexus.nt.io.path import wide
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call
    from nexus.nt.io.pipe_device import PipeDevice

DISCONNECTED, LISTENING, CONNECTED, CLOSING = 1, 2, 3, 4
FILE_PIPE_INBOUND, FILE_PIPE_OUTBOUND, FILE_PIPE_FULL_DUPLEX = 0, 1, 2

FSCTL_PIPE_DISCONNECT = 0x110004
FSCTL_PIPE_LISTEN = 0x110008
FSCTL_PIPE_PEEK = 0x11400C
FSCTL_PIPE_TRANSCEIVE = 0x11C017
FSCTL_PIPE_WAIT = 0x110018
FSCTL_PIPE_IMPERSONATE = 0x11001C
FSCTL_PIPE_QUERY_CLIENT_PROCESS = 0x110024
FSCTL_PIPE_GET_CONNECTION_ATTRIBUTE = 0x110030


class NamedPipe:
    """What all instances of a name share; fixed by the first NtCreateNamedPipeFile."""

    __slots__ = (
        "device",
        "inbound_quota",
        "instances",
        "listeners",
        "maximum",
        "message_mode",
        "name",
        "outbound_quota",
        "security",
        "sharing",
        "timeout",
        "waiters",
    )

    def __init__(
        self,
        device: PipeDevice,
        name: str,
        sharing: int,
        message_mode: bool,
        maximum: int,
        inbound_quota: int,
        outbound_quota: int,
        timeout: int,
    ) -> None:
        self.device = device
        self.name = name
        self.sharing = sharing
        self.message_mode = message_mode
        self.maximum = maximum
        self.inbound_quota = inbound_quota
        self.outbound_quota = outbound_quota
        self.timeout = timeout
        self.instances = 0
        self.security: bytes | None = None
        self.listeners: list[PipeEnd] = []
        self.waiters: list[Operation] = []  # FSCTL_PIPE_WAIT

    def listening(self, server: PipeEnd) -> None:
        """A server end is ready for a client: whoever waits for one may try."""
        if server not in self.listeners:
            self.listeners.append(server)
        waiters, self.waiters = self.waiters, []
        for op in waiters:
            op.complete(Status.SUCCESS)


class Message:
    """Written data that was not read yet. `op` is the write that waits for it, None when it has been
    reported.
    """

    __slots__ = ("data", "op", "read")

    def __init__(self, data: bytes, op: Operation | None) -> None:
        self.data = data
        self.op = op
        self.read = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.read


class _Read:
    """A pending read."""

    __slots__ = ("buffer", "length")

    def __init__(self, buffer: int, length: int) -> None:
        self.buffer = buffer
        self.length = length


class _Listen:
    """A pending FSCTL_PIPE_LISTEN."""

    __slots__ = ()


class _Flush:
    """A pending flush: waits until the other end has read everything."""

    __slots__ = ()


class PipeEnd(FileObject):
    """One end of an instance. `queue` holds what the other end wrote."""

    __slots__ = (
        "client_process",
        "message_read",
        "nonblocking",
        "peer",
        "pipe",
        "queue",
        "quota",
        "server",
        "server_process",
        "state",
    )

    device_type = FILE_DEVICE_NAMED_PIPE
    characteristics = 0x20000  # FILE_DEVICE_ALLOW_APPCONTAINER_TRAVERSAL

    def __init__(
        self, pipe: NamedPipe, server: bool, granted: int, share: int, options: int, quota: int
    ) -> None:
        self.pipe: NamedPipe | None = pipe
        descriptor = pipe.security  # the base class clears it
        super().__init__(granted, share, options)
        pipe.security = descriptor
        self.server = server
        self.quota = quota
        self.peer: PipeEnd | None = None
        self.queue: deque[Message] = deque()
        self.state = LISTENING if server else CONNECTED
        self.message_read = False
        self.nonblocking = False
        self.client_process = 0
        self.server_process = 0

    @property
    def path(self) -> str:
        if self.pipe is None:
            raise NtError(Status.PIPE_DISCONNECTED)
        if not self.pipe.name:
            raise NtError(Status.OBJECT_PATH_INVALID)
        return f"\\Device\\NamedPipe\\{self.pipe.name}"

    @property
    def security(self) -> bytes | None:
        """All ends of a pipe share one security descriptor."""
        if self.pipe is None:
            raise NtError(Status.PIPE_DISCONNECTED)
        return self.pipe.security

    @security.setter
    def security(self, value: bytes | None) -> None:
        if self.pipe is None:
            raise NtError(Status.PIPE_DISCONNECTED)
        self.pipe.security = value

    @property
    def available(self) -> int:
        return sum(message.left for message in self.queue)

    def connect(self, client: PipeEnd) -> None:
        """Join a listening server end and a new client end."""
        self.peer, client.peer = client, self
        self.state = client.state = CONNECTED
        client.server_process = self.server_process
        self.client_process = client.client_process
        for op in [op for op in self.pending if isinstance(op.state, _Listen)]:
            op.complete(Status.SUCCESS)

    # moving data -------------------------------------------------------------------------------------

    def read(self, op: Operation, buffer: int, length: int, offset: int | None) -> int:
        if self.state == DISCONNECTED:
            raise NtError(Status.PIPE_DISCONNECTED)
        if self.state == LISTENING:
            raise NtError(Status.PIPE_LISTENING)
        if self.state == CLOSING and not self.queue:
            raise NtError(Status.PIPE_BROKEN)
        if self.nonblocking and not self.queue:
            raise NtError(Status.PIPE_EMPTY)
        status = op.pend(_Read(buffer, length))
        self.serve()
        return status

    def write(self, op: Operation, data: bytes, offset: int | None) -> int:
        if self.state != CONNECTED or self.peer is None or self.pipe is None:
            raise NtError(_WRITE_FAILURES.get(self.state, Status.PIPE_DISCONNECTED))
        if not data and not self.pipe.message_mode:
            return Status.SUCCESS
        reader = self.peer
        message = Message(data, op)
        reader.queue.append(message)
        status = op.pend(message)
        reader.serve()
        reader.settle()
        if not op.ended and self.nonblocking:
            sent = message.read
            if message in reader.queue:
                reader.queue.remove(message)
            op.complete(Status.SUCCESS, sent)
        return status

    def serve(self) -> None:
        """Give queued data to pending reads, then let writers go on."""
        progressed = False
        while self.queue:
            op = next((op for op in self.pending if isinstance(op.state, _Read)), None)
            if op is None:
                break
            self._give(op)
            progressed = True
        if progressed:
            self.settle()
        if not self.queue and self.peer is not None:
            for op in [op for op in self.peer.pending if isinstance(op.state, _Flush)]:
                op.complete(Status.SUCCESS)

    def _give(self, op: Operation) -> None:
        """Complete one read from the queue."""
        request = op.state
        assert isinstance(request, _Read)
        head = self.queue[0]
        status = Status.SUCCESS
        if self.message_read:
            size = min(request.length, head.left)
            if size < head.left:
                status = Status.BUFFER_OVERFLOW
        else:
            size = min(request.length, self.available)
        data = self._taken(size) if size or not head.data else b""
        try:
            op.write(request.buffer, data)
        except GuestFault:
            op.complete(Status.ACCESS_VIOLATION)
            return
        op.complete(status, len(data))

    def _taken(self, size: int) -> bytes:
        """Take `size` bytes (or one empty message) out of the queue."""
        parts, left = [], size
        while self.queue:
            message = self.queue[0]
            part = message.data[message.read : message.read + left]
            parts.append(part)
            message.read += len(part)
            left -= len(part)
            if message.left:
                break
            self.queue.popleft()
            if message.op is not None:
                message.op.complete(Status.SUCCESS, len(message.data))
            if not left:
                break
        return b"".join(parts)

    def settle(self) -> None:
        """Report the writes that now fit into this end's quota."""
        waiting = 0
        for message in list(self.queue):
            waiting += message.left
            if message.op is not None and (waiting <= self.quota or not message.data):
                op, message.op = message.op, None
                op.complete(Status.SUCCESS, len(message.data))

    def flush(self, op: Operation) -> int:
        if self.pipe is None:
            raise NtError(Status.PIPE_DISCONNECTED)
        return op.pend(_Flush()) if self.peer is not None and self.peer.queue else Status.SUCCESS

    def cancel(self, op: Operation) -> None:
        self.pending.remove(op)
        if isinstance(op.state, Message) and self.peer is not None and op.state in self.peer.queue:
            self.peer.queue.remove(op.state)
            self.peer.serve()

    # controls ----------------------------------------------------------------------------------------

    def fs_control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        if code == FSCTL_PIPE_PEEK:
            return self._peek(op, buffer, length)
        if code == FSCTL_PIPE_TRANSCEIVE:
            return self._transceive(op, data, buffer, length)
        if code == FSCTL_PIPE_GET_CONNECTION_ATTRIBUTE:
            return self._attribute(op, data, buffer, length)
        if not self.server:
            raise NtError(Status.ILLEGAL_FUNCTION if code == FSCTL_PIPE_LISTEN else Status.NOT_SUPPORTED)
        if code == FSCTL_PIPE_LISTEN:
            return self._listen(op)
        if code == FSCTL_PIPE_DISCONNECT:
            if self.state in (LISTENING, DISCONNECTED):
                raise NtError(Status.PIPE_LISTENING if self.state == LISTENING else Status.PIPE_DISCONNECTED)
            if self.peer is not None:
                self.peer.pipe = None
            self.disconnect(Status.PIPE_DISCONNECTED)
            return Status.SUCCESS
        if code == FSCTL_PIPE_IMPERSONATE:
            op.thread.token = op.process.token.duplicate(
                2, 2, False
            )  # one user: the client is who the server is
            return Status.SUCCESS
        raise NtError(Status.NOT_SUPPORTED)

    def _listen(self, op: Operation) -> int:
        if self.state == CONNECTED:
            raise NtError(Status.PIPE_CONNECTED)
        if self.state == CLOSING:
            raise NtError(Status.PIPE_CLOSING)
        assert self.pipe is not None
        self.state = LISTENING
        if self.nonblocking:
            self.pipe.listening(self)
            raise NtError(Status.PIPE_LISTENING)
        status = op.pend(_Listen())
        self.pipe.listening(self)
        return status

    def _check_joined(self) -> None:
        if self.state not in (CONNECTED, CLOSING):
            raise NtError(Status.INVALID_PIPE_STATE if self.pipe is not None else Status.PIPE_DISCONNECTED)

    def _peek(self, op: Operation, buffer: int, length: int) -> int:
        if length < 16:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        self._check_joined()
        if self.state == CLOSING and not self.queue:
            raise NtError(Status.PIPE_BROKEN)
        available = self.available
        room = min(length - 16, available)
        message_length = 0
        if self.queue and self.pipe is not None and self.pipe.message_mode:
            message_length = self.queue[0].left
            room = min(room, message_length)
        data = b"".join(message.data[message.read :] for message in self.queue)[:room]
        op.write(buffer, struct.pack("<4I", self.state, available, 0, message_length) + data)
        op.information = 16 + len(data)
        return Status.BUFFER_OVERFLOW if message_length > room else Status.SUCCESS

    def _transceive(self, op: Operation, data: bytes, buffer: int, length: int) -> int:
        if self.peer is None:
            raise NtError(Status.INVALID_PIPE_STATE if self.pipe is not None else Status.PIPE_DISCONNECTED)
        if not self.message_read:
            raise NtError(Status.INVALID_READ_MODE)
        if self.queue:
            raise NtError(Status.PIPE_BUSY)
        self.peer.queue.append(Message(data, None))
        status = op.pend(_Read(buffer, length))
        self.peer.serve()
        self.serve()
        return status

    def _attribute(self, op: Operation, data: bytes, buffer: int, length: int) -> int:
        values = {b"ClientProcessId\0": self.client_process, b"ServerProcessId\0": self.server_process}
        if data not in values:
            raise NtError(Status.ILLEGAL_FUNCTION)
        if length < 4:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        op.write(buffer, struct.pack("<I", values[data]))
        op.information = 4
        return Status.SUCCESS

    # facts -------------------------------------------------------------------------------------------

    def query(self, kind: int, length: int, granted: int) -> bytes | None:
        if kind not in (5, 9, 23, 24):
            return super().query(kind, length, granted)
        pipe = self.pipe
        if kind != 9 and not granted & access.FILE_READ_ATTRIBUTES:
            raise NtError(Status.ACCESS_DENIED)
        sizes = {5: 24, 9: 8, 23: 8, 24: 40}
        if length < sizes[kind]:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        if pipe is None:
            raise NtError(Status.PIPE_DISCONNECTED)
        if kind == 5:
            return struct.pack("<QQIBBxx", pipe.inbound_quota + pipe.outbound_quota, self.available, 1, 0, 0)
        if kind == 9:
            name = wide("\\" + pipe.name)
            return struct.pack("<I", len(name)) + name
        if kind == 23:
            return struct.pack("<II", self.message_read, self.nonblocking)
        configuration = {1: FILE_PIPE_OUTBOUND, 2: FILE_PIPE_INBOUND}.get(pipe.sharing, FILE_PIPE_FULL_DUPLEX)
        writable = self.peer.quota - min(self.peer.quota, self.peer.available) if self.peer is not None else 0
        return struct.pack(
            "<10I",
            *(pipe.message_mode, configuration, pipe.maximum, pipe.instances, pipe.inbound_quota),
            *(self.available, pipe.outbound_quota, writable, self.state, self.server),
        )

    def set_information(self, call: Call, kind: int, data: bytes) -> bool:
        if kind != 23:
            return False
        if len(data) < 8:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        read_mode, completion = struct.unpack_from("<II", data)
        if self.server and not self.granted & access.FILE_WRITE_ATTRIBUTES:
            raise NtError(Status.ACCESS_DENIED)
        if self.pipe is None:
            raise NtError(Status.PIPE_DISCONNECTED)
        if read_mode > 1 or completion > 1 or (read_mode and not self.pipe.message_mode):
            raise NtError(Status.INVALID_PARAMETER)
        self.message_read, self.nonblocking = bool(read_mode), bool(completion)
        return True

    # ends --------------------------------------------------------------------------------------------

    def disconnect(self, status: int) -> None:
        """Part the ends: pending operations of both end with `status`.

        What is queued can still be read unless the server threw the client out.
        """
        peer, self.peer = self.peer, None
        self.state = DISCONNECTED if status == Status.PIPE_DISCONNECTED else CLOSING
        if status == Status.PIPE_DISCONNECTED:
            self.queue.clear()
            self.signaled = False
        for op in list(self.pending):
            op.complete(status)
        if peer is not None:
            peer.peer = None
            # A write that was never reported is lost with its writer.
            peer.queue = deque(message for message in peer.queue if message.op is None)
            peer.disconnect(status)

    def open_relative(self, request: OpenRequest) -> tuple[FileObject, int]:
        """A client end for this very server end (how unnamed pipes get theirs)."""
        pipe = self.pipe
        if request.rest:
            raise NtError(Status.OBJECT_NAME_INVALID)
        if not self.server or pipe is None or self not in pipe.listeners:
            raise NtError(Status.PIPE_NOT_AVAILABLE)
        pipe.listeners.remove(self)
        pipe.listeners.insert(0, self)
        return pipe.device.open_client(pipe, request), FILE_OPENED

    def last_handle_closed(self) -> None:
        self.closed()

    def closed(self) -> None:
        self.disconnect(Status.PIPE_BROKEN)
        pipe = self.pipe
        self.queue.clear()
        if pipe is None or not self.server:
            return
        if self in pipe.listeners:
            pipe.listeners.remove(self)
        pipe.instances -= 1
        if not pipe.instances:
            pipe.device.forget(pipe)


_WRITE_FAILURES = {
    DISCONNECTED: Status.PIPE_DISCONNECTED,
    LISTENING: Status.PIPE_LISTENING,
    CLOSING: Status.PIPE_CLOSING,
}
