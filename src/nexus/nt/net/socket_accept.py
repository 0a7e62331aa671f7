"""Accepting connections: into a new handle (accept) or into a socket made beforehand (AcceptEx)."""

from __future__ import annotations

import socket
import struct

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.file import FileObject, Operation
from nexus.nt.net.socket_address import failure, from_host
from nexus.nt.net.socket_file import AFD_POLL_ACCEPT, CONNECTED, LISTENING, UNCONNECTED, SocketFile, Waiting
from nexus.nt.poller import BROKEN, READABLE
from nexus.nt.status import Status

OBJ_INHERIT = 2


class Accept(Waiting):
    """A pending accept. With `into`, what first arrives and both addresses go to the buffer, too."""

    __slots__ = ("buffer", "connection", "into", "length", "listener", "local_length", "receive_length")
    wants = READABLE

    def __init__(
        self,
        listener: SocketFile,
        buffer: int,
        length: int,
        into: SocketFile | None = None,
        receive_length: int = 0,
        local_length: int = 0,
    ) -> None:
        self.listener = listener
        self.buffer = buffer
        self.length = length
        self.into = into
        self.receive_length = receive_length
        self.local_length = local_length
        self.connection: socket.socket | None = None

    def go_on(self, op: Operation, events: int) -> int:
        return self.attempt(op) if events & (READABLE | BROKEN) else Status.PENDING

    def dropped(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def attempt(self, op: Operation) -> int:
        """STATUS_PENDING when nobody has called (or, for AcceptEx, has said anything)."""
        connection = self.connection
        if connection is None:
            try:
                connection, _ = self.listener.host.accept()
            except BlockingIOError:
                return Status.PENDING
            except OSError as error:
                raise failure(error) from error
            connection.setblocking(False)
        self.connection = connection
        if self.into is None:
            self._into_new(op, connection)
        else:
            received = self._first_data(connection)
            if received is None:
                return Status.PENDING
            self._into_given(op, self.into, connection, received)
        self.connection = None
        return Status.SUCCESS

    def _into_new(self, op: Operation, connection: socket.socket) -> None:
        listener = self.listener
        granted = FileObject.type.map_access(access.GENERIC_READ | access.GENERIC_WRITE | access.SYNCHRONIZE)
        accepted = SocketFile(listener.io, granted, 0, 0)
        self._join(accepted, connection)
        accepted.nonblocking = listener.nonblocking
        accepted.event, accepted.event_mask = listener.event, listener.event_mask
        handle = op.process.handles.add(accepted, granted, OBJ_INHERIT)
        op.write(self.buffer, struct.pack("<I", handle))
        op.information = 4
        accepted.update()

    def _first_data(self, connection: socket.socket) -> bytes | None:
        if not self.receive_length:
            return b""
        try:
            return connection.recv(self.receive_length)
        except BlockingIOError:
            return None
        except OSError as error:
            raise failure(error) from error

    def _into_given(
        self, op: Operation, into: SocketFile, connection: socket.socket, received: bytes
    ) -> None:
        local, remote = from_host(connection.getsockname()), from_host(connection.getpeername())
        op.write(self.buffer, received)
        at = self.buffer + self.receive_length
        if self.local_length >= 4 + len(local):
            op.write(at, struct.pack("<I", len(local)) + local)
        if self.length - self.receive_length - self.local_length >= 4 + len(remote):
            op.write(at + self.local_length, struct.pack("<I", len(remote)) + remote)
        into.unwatch()
        if into.sock is not None:
            into.sock.close()
        self._join(into, connection)
        op.information = len(received)

    def _join(self, target: SocketFile, connection: socket.socket) -> None:
        listener = self.listener
        target.adopt(connection, listener.family, listener.kind, listener.protocol)
        target.state, target.bound, target.peer = CONNECTED, True, connection.getpeername()
        target.connected_at = listener.io.kernel.clock.monotonic()


def accept(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    """IOCTL_AFD_WINE_ACCEPT."""
    if length != 4:
        raise NtError(Status.BUFFER_TOO_SMALL)
    return _begin(file, op, Accept(file, buffer, length), not file.nonblocking)


def accept_into(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    """IOCTL_AFD_WINE_ACCEPT_INTO."""
    if len(data) < 12:
        raise NtError(Status.BUFFER_TOO_SMALL)
    handle, receive_length, local_length = struct.unpack_from("<III", data)
    into = op.process.handles.resolve(handle, SocketFile, 0)
    if into.state != UNCONNECTED or into.bound or length < receive_length + local_length:
        raise NtError(Status.INVALID_PARAMETER)
    return _begin(file, op, Accept(file, buffer, length, into, receive_length, local_length), True)


def _begin(file: SocketFile, op: Operation, state: Accept, wait: bool) -> int:
    if file.state != LISTENING:
        raise NtError(Status.INVALID_PARAMETER)
    status = state.attempt(op)
    if status != Status.PENDING:
        file.enable(AFD_POLL_ACCEPT)
        return status
    if not wait:
        raise NtError(Status.DEVICE_NOT_READY)
    return file.pend(op, state)
