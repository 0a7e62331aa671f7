"""The pipe file system: names of pipes, opening client ends, making server ends, waiting for an instance."""

from __future__ import annotations

import struct

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.file import (
    FILE_CREATE,
    FILE_CREATED,
    FILE_DEVICE_NAMED_PIPE,
    FILE_DIRECTORY_FILE,
    FILE_OPEN,
    FILE_OPEN_IF,
    FILE_OPENED,
    FILE_OVERWRITE_IF,
    FileObject,
    OpenRequest,
    Operation,
)
from nexus.nt.io.path import text_of, upcase
from nexus.nt.io.pipe import (
    FSCTL_PIPE_DISCONNECT,
    FSCTL_PIPE_IMPERSONATE,
    FSCTL_PIPE_LISTEN,
    FSCTL_PIPE_QUERY_CLIENT_PROCESS,
    FSCTL_PIPE_TRANSCEIVE,
    FSCTL_PIPE_WAIT,
    NamedPipe,
    PipeEnd,
)
from nexus.nt.namespace import Device
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call
    from nexus.nt.kernel import Kernel

_SERVER_READS, _CLIENT_READS = 2, 1  # FILE_SHARE_WRITE: clients may write; FILE_SHARE_READ: they may read


class PipeDevice(Device):
    """`\\\\Device\\\\NamedPipe`."""

    __slots__ = ("kernel", "pipes")

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.pipes: dict[str, NamedPipe] = {}

    def open(self, request: OpenRequest) -> tuple[FileObject, int]:
        """A client end, or the file system itself."""
        name = request.rest.removeprefix("\\")
        if not name:
            return PipeFolder(self, request), FILE_OPENED
        pipe = self.pipes.get(upcase(name))
        if pipe is None:
            raise NtError(Status.OBJECT_NAME_NOT_FOUND)
        return self.open_client(pipe, request), FILE_OPENED

    def open_client(self, pipe: NamedPipe, request: OpenRequest) -> PipeEnd:
        if request.options & FILE_DIRECTORY_FILE:
            raise NtError(Status.NOT_A_DIRECTORY)
        if not pipe.listeners:
            raise NtError(Status.PIPE_NOT_AVAILABLE)
        wanted = request.desired
        if (wanted & access.FILE_READ_DATA and not pipe.sharing & _CLIENT_READS) or (
            wanted & access.FILE_WRITE_DATA and not pipe.sharing & _SERVER_READS
        ):
            raise NtError(Status.ACCESS_DENIED)
        granted = wanted | (FileObject.type.all if request.maximum else 0)
        client = PipeEnd(pipe, False, granted, request.share, request.options, pipe.outbound_quota)
        client.client_process = request.call.process.id
        pipe.listeners.pop(0).connect(client)
        return client

    def create(
        self,
        call: Call,
        name: str,
        desired: int,
        sharing: int,
        disposition: int,
        options: int,
        message_mode: bool,
        message_read: bool,
        nonblocking: bool,
        maximum: int,
        quotas: tuple[int, int],
        timeout: int,
    ) -> tuple[PipeEnd, int]:
        """A server end, and FILE_CREATED for the first of its name."""
        if not sharing or sharing & ~3 or (message_read and not message_mode):
            raise NtError(Status.INVALID_PARAMETER)
        if disposition == FILE_OVERWRITE_IF and call.process.version.pipe_overwrite:
            disposition = FILE_OPEN_IF
        if disposition not in (FILE_OPEN, FILE_CREATE, FILE_OPEN_IF):
            raise NtError(Status.INVALID_PARAMETER)
        pipe = self.pipes.get(upcase(name)) if name else None
        information = FILE_OPENED
        if pipe is None:
            if disposition == FILE_OPEN:
                raise NtError(Status.OBJECT_NAME_NOT_FOUND)
            pipe = NamedPipe(self, name, sharing, message_mode, maximum, *quotas, timeout)
            if name:
                self.pipes[upcase(name)] = pipe
            information = FILE_CREATED
        else:
            if pipe.instances >= pipe.maximum:
                raise NtError(Status.INSTANCE_NOT_AVAILABLE)
            if pipe.sharing != sharing or disposition == FILE_CREATE:
                raise NtError(Status.ACCESS_DENIED)
        granted = FileObject.type.map_access(desired)
        server = PipeEnd(pipe, True, granted, sharing, options, pipe.inbound_quota)
        server.message_read, server.nonblocking = message_read, nonblocking
        server.server_process = call.process.id
        pipe.instances += 1
        pipe.listening(server)
        return server, information

    def forget(self, pipe: NamedPipe) -> None:
        """The last server end is gone."""
        if self.pipes.get(upcase(pipe.name)) is pipe:
            del self.pipes[upcase(pipe.name)]
        for op in list(pipe.waiters):
            op.complete(Status.OBJECT_NAME_NOT_FOUND)


class PipeFolder(FileObject):
    """An open handle to the pipe file system or its root folder."""

    __slots__ = ("device", "root")

    device_type = FILE_DEVICE_NAMED_PIPE

    def __init__(self, device: PipeDevice, request: OpenRequest) -> None:
        super().__init__(
            request.desired | (FileObject.type.all if request.maximum else 0), request.share, request.options
        )
        self.device = device
        self.root = request.rest == "\\"

    @property
    def path(self) -> str:
        return "\\Device\\NamedPipe" + ("\\" if self.root else "")

    def open_relative(self, request: OpenRequest) -> tuple[FileObject, int]:
        if request.rest and not self.root:
            raise NtError(Status.OBJECT_NAME_INVALID)
        return self.device.open(request)

    def fs_control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        if code == FSCTL_PIPE_WAIT and self.root:
            return self._wait(op, data)
        if code in (FSCTL_PIPE_WAIT, FSCTL_PIPE_LISTEN, FSCTL_PIPE_IMPERSONATE):
            raise NtError(Status.ILLEGAL_FUNCTION)
        if code in (FSCTL_PIPE_DISCONNECT, FSCTL_PIPE_TRANSCEIVE):
            raise NtError(Status.PIPE_DISCONNECTED)
        if code == FSCTL_PIPE_QUERY_CLIENT_PROCESS:
            raise NtError(Status.INVALID_PARAMETER)
        raise NtError(Status.NOT_SUPPORTED)

    def _wait(self, op: Operation, data: bytes) -> int:
        """FILE_PIPE_WAIT_FOR_BUFFER: until an instance of that name listens."""
        if len(data) < 14:
            raise NtError(Status.INVALID_PARAMETER)
        timeout, length, specified = struct.unpack_from("<qIB", data)
        if len(data) < 14 + length:
            raise NtError(Status.INVALID_PARAMETER)
        pipe = self.device.pipes.get(upcase(text_of(data[14 : 14 + (length & ~1)])))
        if pipe is None:
            raise NtError(Status.OBJECT_NAME_NOT_FOUND)
        if pipe.listeners:
            return Status.SUCCESS
        kernel = self.device.kernel
        deadline = kernel.clock.deadline(timeout if specified else pipe.timeout)
        wait = _Waiting(pipe, op, kernel)
        pipe.waiters.append(op)
        status = op.pend(wait)
        if deadline is not None:
            kernel.timers.add(deadline, wait)
        return status

    def cancel(self, op: Operation) -> None:
        self.pending.remove(op)
        if isinstance(op.state, _Waiting):
            op.state.forget()


class _Waiting:
    """The deadline of a FSCTL_PIPE_WAIT."""

    __slots__ = ("kernel", "op", "pipe")

    def __init__(self, pipe: NamedPipe, op: Operation, kernel: Kernel) -> None:
        self.pipe = pipe
        self.op = op
        self.kernel = kernel

    def expired(self) -> None:
        self.forget()
        self.op.complete(Status.IO_TIMEOUT)

    def forget(self) -> None:
        self.kernel.timers.remove(self)
        if self.op in self.pipe.waiters:
            self.pipe.waiters.remove(self.op)
