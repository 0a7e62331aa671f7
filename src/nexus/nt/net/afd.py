"""The AFD device: the control codes by which Wine's ws2_32 drives sockets (wine/afd.h)."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import termios

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_OPENED, FileObject, OpenRequest, Operation
from nexus.nt.net import socket_options
from nexus.nt.net.socket_accept import accept, accept_into
from nexus.nt.net.socket_address import WS_SOCK_DGRAM, failure, from_host, status_of, to_host, wsa_error
from nexus.nt.net.socket_file import (
    CONNECTED,
    CONNECTING,
    CONNECTIONLESS,
    EVENT_BITS,
    LISTENING,
    Connect,
    Receive,
    Send,
    SocketFile,
)
from nexus.nt.net.socket_options import code
from nexus.nt.net.socket_poll import poll
from nexus.nt.status import Status
from nexus.nt.sync import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.nt.io.device_io import IoManager

    Handler = Callable[[SocketFile, Operation, bytes, int, int], int]

_FILE = "nexus/nt/net/afd.py"
_MAX_BUFFERS = 1024
_MAX_SEND = 1 << 26
_MSG_OOB, _MSG_PEEK = 0x1, 0x2
AFD_MSG_NOT_OOB, AFD_MSG_OOB, AFD_MSG_PEEK = 0x20, 0x40, 0x80


def open_socket(io: IoManager, request: OpenRequest) -> tuple[FileObject, int]:
    """A handle of `\\\\Device\\\\Afd`; it becomes a socket by IOCTL_AFD_WINE_CREATE."""
    granted = request.desired | (FileObject.type.all if request.maximum else 0)
    return SocketFile(io, granted, request.share, request.options), FILE_OPENED


def control(file: SocketFile, op: Operation, number: int, data: bytes, buffer: int, length: int) -> int:
    """One control code on a socket."""
    handler = _HANDLERS.get(number)
    if handler is not None:
        return handler(file, op, data, buffer, length)
    found = socket_options.get(file.host, number)
    if found is not None:
        return _answer(
            op, buffer, length, found[:length] or found
        )  # callers may take fewer bytes of an option
    if socket_options.put(file.host, number, data):
        return Status.SUCCESS
    raise op.thread.call.unsupported(f"socket control code {number:#x}", _FILE)


def _answer(op: Operation, buffer: int, length: int, data: bytes) -> int:
    if length < len(data):
        raise NtError(Status.BUFFER_TOO_SMALL)
    op.write(buffer, data)
    op.information = len(data)
    return Status.SUCCESS


def _need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise NtError(Status.BUFFER_TOO_SMALL)


def _flag(data: bytes) -> int:
    _need(data, 4)
    return int.from_bytes(data[:4], "little")


def _create(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    if len(data) != 16:
        raise NtError(Status.INVALID_PARAMETER)
    family, kind, protocol, _ = struct.unpack("<iiiI", data)
    file.create(family, kind, protocol)
    return Status.SUCCESS


# addresses -------------------------------------------------------------------------------------------


def _bind(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    if len(data) < 6:
        raise NtError(Status.INVALID_PARAMETER)
    if file.bound:
        raise NtError(Status.ADDRESS_ALREADY_ASSOCIATED)
    address = to_host(data[4:])
    if address[1]:
        file.check_address(address)
    try:
        file.host.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and file.reuse:
            raise NtError(Status.ACCESS_DENIED) from error
        raise failure(error) from error
    file.bound = True
    packed = from_host(file.host.getsockname())
    if length >= len(packed):
        op.write(buffer, packed)
        op.information = len(packed)
    return Status.SUCCESS


def _name(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    if not file.bound:
        raise NtError(Status.INVALID_PARAMETER)
    return _answer(op, buffer, length, from_host(file.host.getsockname()))


def _peer_name(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    if file.state not in (CONNECTED, CONNECTING, CONNECTIONLESS) or file.peer is None:
        raise NtError(Status.INVALID_CONNECTION)
    return _answer(op, buffer, length, from_host(file.peer))


# connections -----------------------------------------------------------------------------------------


def _listen(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    if len(data) < 12:
        raise NtError(Status.INVALID_PARAMETER)
    if file.kind == WS_SOCK_DGRAM:
        raise NtError(Status.NOT_SUPPORTED)
    if not file.bound:
        raise NtError(Status.INVALID_PARAMETER)
    file.check_address(file.host.getsockname())
    try:
        file.host.listen(max(0, struct.unpack_from("<i", data, 4)[0]))
    except OSError as error:
        raise failure(error) from error
    file.state = LISTENING
    file.update()
    return Status.SUCCESS


def _connect(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    _need(data, 8)
    size, synchronous = struct.unpack_from("<ii", data)
    if size < 0 or len(data) - 8 < size:
        raise NtError(Status.BUFFER_TOO_SMALL)
    extra = data[8 + size :]
    if not synchronous and not file.bound:
        raise NtError(Status.INVALID_PARAMETER)
    if file.state == LISTENING:
        raise NtError(Status.INVALID_PARAMETER)
    if file.state == CONNECTING:
        raise NtError(Status.ADDRESS_ALREADY_ASSOCIATED if synchronous else Status.INVALID_PARAMETER)
    if file.state == CONNECTED:
        raise NtError(Status.CONNECTION_ACTIVE)
    address = to_host(data[8 : 8 + size])
    if address[0] in ("0.0.0.0", "::"):
        raise NtError(Status.INVALID_ADDRESS_COMPONENT)
    file.check_address(address)
    code = file.host.connect_ex(address)
    if code == errno.ECONNABORTED:  # Linux reports the former failure once
        code = file.host.connect_ex(address)
    if code not in (0, errno.EINPROGRESS):
        raise NtError(status_of(code))
    file.bound, file.peer, file.connect_error = True, address, 0
    if file.kind == WS_SOCK_DGRAM:
        return Status.SUCCESS
    if code == 0:
        file.connect_ended(0)
        if not extra:
            file.update()
            return Status.SUCCESS
    else:
        file.state = CONNECTING
    if synchronous and file.nonblocking:
        file.update()
        raise NtError(Status.DEVICE_NOT_READY)
    return file.pend(op, Connect(file, extra))


def _shutdown(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    how = _flag(data)
    if how > 2:
        raise NtError(Status.INVALID_PARAMETER)
    if file.state not in (CONNECTED, CONNECTIONLESS):
        raise NtError(Status.INVALID_CONNECTION)
    if how != 1:
        file.read_closed = True
    if how != 0:
        file.write_closed = True
        try:
            file.host.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise failure(error) from error
    file.update()
    return Status.SUCCESS


# data ------------------------------------------------------------------------------------------------


def _buffers(op: Operation, address: int, count: int) -> list[tuple[int, int]]:
    """WSABUF[] as (address, length) pairs."""
    if count > _MAX_BUFFERS:
        raise NtError(Status.INVALID_PARAMETER)
    raw = op.process.window.read(address, 16 * count) if count else b""
    return [(pointer, length) for length, pointer in struct.iter_unpack("<IxxxxQ", raw)]


def _receive_message(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    _need(data, 48)
    control_data, address, address_length, flags_at, force, count, buffers = struct.unpack_from(
        "<QQQQiIQ", data
    )
    if control_data:
        raise op.thread.call.unsupported("WSARecvMsg with control data", _FILE)
    flags = int.from_bytes(op.process.window.read(flags_at, 4), "little")
    state = Receive(
        file, op, _buffers(op, buffers, count), _host_flags(flags), address, address_length, flags_at
    )
    return file.receive(state, bool(force) or not file.nonblocking)


def _receive(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    if len(data) < 24:
        raise NtError(Status.INVALID_PARAMETER)
    buffers, count, receive_flags, message_flags = struct.unpack_from("<QIii", data)
    kind = message_flags & (AFD_MSG_NOT_OOB | AFD_MSG_OOB)
    if kind not in (AFD_MSG_NOT_OOB, AFD_MSG_OOB):
        raise NtError(Status.INVALID_PARAMETER)
    flags = (socket.MSG_OOB if kind == AFD_MSG_OOB else 0) | (
        socket.MSG_PEEK if message_flags & AFD_MSG_PEEK else 0
    )
    state = Receive(file, op, _buffers(op, buffers, count), flags)
    return file.receive(state, bool(receive_flags & 2) or not file.nonblocking)


def _host_flags(flags: int) -> int:
    return (socket.MSG_OOB if flags & _MSG_OOB else 0) | (socket.MSG_PEEK if flags & _MSG_PEEK else 0)


def _send_message(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    _need(data, 32)
    address, address_length, flags, force, count, buffers = struct.unpack_from("<QIIiIQ", data)
    pieces = _buffers(op, buffers, count)
    if sum(size for _, size in pieces) > _MAX_SEND:
        raise NtError(Status.INSUFFICIENT_RESOURCES)
    target = None
    if address and file.kind == WS_SOCK_DGRAM:
        target = to_host(op.process.window.read(address, min(address_length, 28)))
        file.check_address(target)
    content = b"".join(op.process.window.read(at, size) for at, size in pieces if size)
    state = Send(file, op, content, _host_flags(flags & _MSG_OOB), target)
    return file.send(state, bool(force) or not file.nonblocking)


def _available(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    if file.state == LISTENING:
        raise NtError(Status.INVALID_PARAMETER)
    value = fcntl.ioctl(file.host.fileno(), termios.FIONREAD, bytes(4))
    return _answer(op, buffer, length, value)


# events ----------------------------------------------------------------------------------------------


def _nonblocking(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    wanted = bool(_flag(data))
    if not wanted and file.event_mask:
        raise NtError(Status.INVALID_PARAMETER)
    file.nonblocking = wanted
    return Status.SUCCESS


def _event_select(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    if len(data) < 12:
        raise NtError(Status.INVALID_PARAMETER)
    handle, mask = struct.unpack_from("<QI", data)
    event = None
    if handle or mask:
        try:
            event = op.process.handles.resolve(handle, Event, access.EVENT_MODIFY_STATE)
        except NtError:
            raise NtError(Status.INVALID_PARAMETER) from None
    file.event, file.event_mask, file.nonblocking = event, mask, True
    if event is not None and file.pending_events & mask:
        event.signaled = True
    file.report(file.events())
    file.update()
    return Status.SUCCESS


def _get_events(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    """The reported conditions and their errors; the input "pointer" is the handle of an event to reset."""
    if length < 4 + 4 * EVENT_BITS:
        raise NtError(Status.INVALID_PARAMETER)
    event = op.process.handles.resolve(op.input, Event, access.EVENT_MODIFY_STATE) if op.input else None
    flags = file.pending_events & file.event_mask
    errors = [status_of(code) if flags >> bit & 1 else 0 for bit, code in enumerate(file.errors)]
    op.write(buffer, struct.pack(f"<I{EVENT_BITS}I", flags, *errors))
    file.pending_events = 0
    file.errors = [0] * EVENT_BITS
    if event is not None:
        event.signaled = False
    op.information = 0
    return Status.SUCCESS


# facts and switches ----------------------------------------------------------------------------------


def _info(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    return _answer(op, buffer, length, struct.pack("<iii", file.family, file.kind, file.protocol))


def _is_listening(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    return _answer(op, buffer, length, struct.pack("<i", file.state == LISTENING))


def _error(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    code = file.connect_error or file.host.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    file.connect_error = 0
    return _answer(op, buffer, length, struct.pack("<i", wsa_error(code)))


def _connect_time(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    seconds = 0xFFFF_FFFF
    if file.state == CONNECTED:
        seconds = (file.io.kernel.clock.monotonic() - file.connected_at) // 10_000_000
    return _answer(op, buffer, length, struct.pack("<I", seconds))


def _remembered(field: str) -> tuple[Handler, Handler]:
    """Get and set an option that is kept here, not in the host's socket."""

    def get(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
        return _answer(op, buffer, length, struct.pack("<I", int(getattr(file, field))))

    def put(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
        setattr(file, field, _flag(data))
        return Status.SUCCESS

    return get, put


def _set_reuse(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    file.reuse = bool(_flag(data))
    try:
        file.host.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, file.reuse)
    except OSError as error:
        raise failure(error) from error
    return Status.SUCCESS


def _complete(file: SocketFile, op: Operation, data: bytes, buffer: int, length: int) -> int:
    """ws2_32 reports the end of something it did on its own."""
    if len(data) != 4:
        raise NtError(Status.BUFFER_TOO_SMALL)
    status = _flag(data)
    op.complete(status)
    return status


_GET_RECEIVE_TIMEOUT, _SET_RECEIVE_TIMEOUT = _remembered("receive_timeout")
_GET_SEND_TIMEOUT, _SET_SEND_TIMEOUT = _remembered("send_timeout")
_GET_EXCLUSIVE, _SET_EXCLUSIVE = _remembered("exclusive")
_GET_REUSE, _ = _remembered("reuse")

_HANDLERS: dict[int, Handler] = {
    0x12003: _bind,
    0x1200B: _listen,
    0x12017: _receive,
    0x12024: poll,
    0x1202F: _name,
    0x12087: _event_select,
    0x1208B: _get_events,
    code(200): _create,
    code(201): accept,
    code(202): accept_into,
    code(203): _connect,
    code(204): _shutdown,
    code(205): _receive_message,
    code(206): _send_message,
    code(209): _nonblocking,
    code(210): _complete,
    code(211): _available,
    code(216): _peer_name,
    code(218): _info,
    code(219): _is_listening,
    code(222): _error,
    code(231): _SET_RECEIVE_TIMEOUT,
    code(232): _GET_RECEIVE_TIMEOUT,
    code(233): _GET_REUSE,
    code(234): _set_reuse,
    code(237): _GET_SEND_TIMEOUT,
    code(238): _SET_SEND_TIMEOUT,
    code(292): _connect_time,
    code(297): _GET_EXCLUSIVE,
    code(298): _SET_EXCLUSIVE,
}
