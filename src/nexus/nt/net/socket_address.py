"""Socket addresses and errors between Winsock's forms and the host's."""

from __future__ import annotations

import errno
import socket
import struct

from nexus.nt.errors import NtError
from nexus.nt.status import Status

WS_AF_INET, WS_AF_INET6 = 2, 23
WS_SOCK_STREAM, WS_SOCK_DGRAM = 1, 2
HOST_FAMILIES = {WS_AF_INET: socket.AF_INET, WS_AF_INET6: socket.AF_INET6}

_STATUS_OF_ERRNO = {
    errno.EBUSY: Status.DEVICE_BUSY,
    errno.EPERM: Status.ACCESS_DENIED,
    errno.EACCES: Status.ACCESS_DENIED,
    errno.EINVAL: Status.INVALID_PARAMETER,
    errno.ENFILE: Status.TOO_MANY_OPENED_FILES,
    errno.EMFILE: Status.TOO_MANY_OPENED_FILES,
    errno.EWOULDBLOCK: Status.DEVICE_NOT_READY,
    errno.EINPROGRESS: Status.DEVICE_NOT_READY,
    errno.EALREADY: Status.NETWORK_BUSY,
    errno.EDESTADDRREQ: Status.INVALID_CONNECTION,
    errno.EMSGSIZE: Status.BUFFER_OVERFLOW,
    errno.EPROTONOSUPPORT: Status.NOT_SUPPORTED,
    errno.ESOCKTNOSUPPORT: Status.NOT_SUPPORTED,
    errno.EAFNOSUPPORT: Status.NOT_SUPPORTED,
    errno.EPROTOTYPE: Status.NOT_SUPPORTED,
    errno.EOPNOTSUPP: Status.NOT_SUPPORTED,
    errno.ENOPROTOOPT: Status.INVALID_PARAMETER,
    errno.EADDRINUSE: Status.SHARING_VIOLATION,
    errno.EADDRNOTAVAIL: Status.INVALID_PARAMETER,
    errno.ECONNREFUSED: Status.CONNECTION_REFUSED,
    errno.ESHUTDOWN: Status.PIPE_DISCONNECTED,
    errno.ENOTCONN: Status.INVALID_CONNECTION,
    errno.ETIMEDOUT: Status.IO_TIMEOUT,
    errno.ENETUNREACH: Status.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Status.HOST_UNREACHABLE,
    errno.ENETDOWN: Status.NETWORK_BUSY,
    errno.EPIPE: Status.CONNECTION_RESET,
    errno.ECONNRESET: Status.CONNECTION_RESET,
    errno.ECONNABORTED: Status.CONNECTION_ABORTED,
    errno.EISCONN: Status.CONNECTION_ACTIVE,
}
_WSA_OF_ERRNO = {
    errno.EINTR: 10004,
    errno.EBADF: 10009,
    errno.EPERM: 10013,
    errno.EACCES: 10013,
    errno.EINVAL: 10022,
    errno.EMFILE: 10024,
    errno.EWOULDBLOCK: 10035,
    errno.EMSGSIZE: 10040,
    errno.EAFNOSUPPORT: 10047,
    errno.EADDRINUSE: 10048,
    errno.EADDRNOTAVAIL: 10049,
    errno.ENETDOWN: 10050,
    errno.ENETUNREACH: 10051,
    errno.ECONNABORTED: 10053,
    errno.ECONNRESET: 10054,
    errno.EPIPE: 10054,
    errno.ENOTCONN: 10057,
    errno.ETIMEDOUT: 10060,
    errno.ECONNREFUSED: 10061,
    errno.EHOSTUNREACH: 10065,
}

Address = tuple[str, int] | tuple[str, int, int, int]


def status_of(code: int) -> int:
    """The NTSTATUS of a host errno on a socket."""
    return _STATUS_OF_ERRNO.get(code, Status.UNSUCCESSFUL) if code else Status.SUCCESS


def wsa_error(code: int) -> int:
    """The Winsock error number of a host errno."""
    return _WSA_OF_ERRNO.get(code, 10045) if code else 0


def failure(error: OSError) -> NtError:
    return NtError(status_of(error.errno or 0))


def to_host(data: bytes) -> Address:
    """A Winsock sockaddr as Python's address tuple; raises STATUS_INVALID_ADDRESS."""
    if len(data) < 2:
        raise NtError(Status.INVALID_ADDRESS)
    family = int.from_bytes(data[:2], "little")
    if family == WS_AF_INET and len(data) >= 16:
        return socket.inet_ntop(socket.AF_INET, data[4:8]), int.from_bytes(data[2:4], "big")
    if family == WS_AF_INET6 and len(data) >= 28:
        port = int.from_bytes(data[2:4], "big")
        flow, scope = int.from_bytes(data[4:8], "big"), int.from_bytes(data[24:28], "little")
        return socket.inet_ntop(socket.AF_INET6, data[8:24]), port, flow, scope
    raise NtError(Status.INVALID_ADDRESS)


def from_host(address: Address) -> bytes:
    """Python's address tuple as a Winsock sockaddr."""
    if len(address) == 2:
        return (
            struct.pack("<H", WS_AF_INET)
            + struct.pack(">H", address[1])
            + socket.inet_aton(address[0])
            + bytes(8)
        )
    host, port, flow, scope = address
    packed = socket.inet_pton(socket.AF_INET6, host.split("%")[0])
    return struct.pack("<H", WS_AF_INET6) + struct.pack(">HI", port, flow) + packed + struct.pack("<I", scope)
