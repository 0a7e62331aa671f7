"""Socket options: Wine's control codes against the host's setsockopt."""

from __future__ import annotations

import socket
import struct

from nexus.nt.errors import NtError
from nexus.nt.net.socket_address import failure
from nexus.nt.status import Status


def code(number: int) -> int:
    """WINE_AFD_IOC: CTL_CODE(FILE_DEVICE_NETWORK, number, METHOD_BUFFERED, FILE_ANY_ACCESS)."""
    return 0x12 << 16 | number << 2


_SO, _IP, _V6, _TCP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_DONT = 10, 2, 0
IPV6_MTU_DISCOVER = 23

# (number to get, number to set, level, option): plain integers on both sides
_INTEGERS = (
    (220, 221, _SO, socket.SO_BROADCAST),
    (223, 224, _SO, socket.SO_KEEPALIVE),
    (227, 228, _SO, socket.SO_OOBINLINE),
    (230, 229, _SO, socket.SO_RCVBUF),
    (236, 235, _SO, socket.SO_SNDBUF),
    (250, 251, _IP, socket.IP_MULTICAST_LOOP),
    (252, 253, _IP, socket.IP_MULTICAST_TTL),
    (256, 257, _IP, 8),  # IP_PKTINFO
    (258, 259, _IP, socket.IP_TOS),
    (260, 261, _IP, socket.IP_TTL),
    (269, 270, _V6, socket.IPV6_MULTICAST_HOPS),
    (271, 272, _V6, socket.IPV6_MULTICAST_IF),
    (273, 274, _V6, socket.IPV6_MULTICAST_LOOP),
    (275, 276, _V6, socket.IPV6_UNICAST_HOPS),
    (279, 280, _V6, socket.IPV6_V6ONLY),
    (284, 285, _TCP, socket.TCP_NODELAY),
    (286, 287, _V6, socket.IPV6_RECVHOPLIMIT),
    (288, 289, _V6, socket.IPV6_RECVPKTINFO),
    (290, 291, _V6, socket.IPV6_RECVTCLASS),
    (293, 294, _IP, 12),  # IP_RECVTTL
    (295, 296, _IP, socket.IP_RECVTOS),
    (299, 300, _TCP, socket.TCP_KEEPIDLE),
    (301, 302, _TCP, socket.TCP_KEEPCNT),
    (303, 304, _TCP, socket.TCP_KEEPINTVL),
)
_GET = {code(get): (level, option) for get, _, level, option in _INTEGERS}
_SET = {code(put): (level, option) for _, put, level, option in _INTEGERS}
# structures with the same layout on both sides
_SET_RAW = {
    code(239): (_IP, socket.IP_ADD_MEMBERSHIP, 8),
    code(244): (_IP, socket.IP_DROP_MEMBERSHIP, 8),
    code(249): (_IP, socket.IP_MULTICAST_IF, 4),
    code(265): (_V6, socket.IPV6_JOIN_GROUP, 20),
    code(268): (_V6, socket.IPV6_LEAVE_GROUP, 20),
}
_HALVED = (socket.SO_RCVBUF, socket.SO_SNDBUF)  # Linux reports twice what was set
GET_LINGER, SET_LINGER = code(225), code(226)
GET_DONTFRAGMENT, SET_DONTFRAGMENT = code(242), code(243)
KEEPALIVE_VALS = code(214)


def get(sock: socket.socket, control: int) -> bytes | None:
    """The answer to an option request; None when the code is no such request."""
    try:
        where = _GET.get(control)
        if where is not None:
            value = sock.getsockopt(*where)
            if where[0] == _SO and where[1] in _HALVED:
                value //= 2
            return struct.pack("<i", value)
        if control == GET_LINGER:
            on, seconds = struct.unpack("ii", sock.getsockopt(_SO, socket.SO_LINGER, 8))
            return struct.pack("<HH", bool(on), seconds & 0xFFFF)
        if control == GET_DONTFRAGMENT:
            return struct.pack("<i", sock.getsockopt(_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_DO)
    except OSError as error:
        raise failure(error) from error
    return None


def put(sock: socket.socket, control: int, data: bytes) -> bool:
    """Set an option; False when the code is no such request."""
    try:
        where = _SET.get(control)
        if where is not None:
            sock.setsockopt(*where, _integer(data))
            return True
        raw = _SET_RAW.get(control)
        if raw is not None:
            level, option, size = raw
            if len(data) < size:
                raise NtError(Status.BUFFER_TOO_SMALL)
            sock.setsockopt(level, option, data[:size])
            return True
        if control == SET_LINGER:
            if len(data) < 4:
                raise NtError(Status.BUFFER_TOO_SMALL)
            on, seconds = struct.unpack_from("<HH", data)
            sock.setsockopt(_SO, socket.SO_LINGER, struct.pack("ii", bool(on), seconds))
            return True
        if control == SET_DONTFRAGMENT:
            sock.setsockopt(_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO if _integer(data) else IP_PMTUDISC_DONT)
            return True
        if control == KEEPALIVE_VALS:
            if len(data) < 12:
                raise NtError(Status.BUFFER_TOO_SMALL)
            on, after, every = struct.unpack_from("<III", data)
            sock.setsockopt(_SO, socket.SO_KEEPALIVE, bool(on))
            if on:
                sock.setsockopt(_TCP, socket.TCP_KEEPIDLE, max(1, after // 1000))
                sock.setsockopt(_TCP, socket.TCP_KEEPINTVL, max(1, every // 1000))
            return True
    except OSError as error:
        raise failure(error) from error
    return False


def _integer(data: bytes) -> int:
    """Options are four bytes, some callers pass one."""
    if not data:
        raise NtError(Status.BUFFER_TOO_SMALL)
    return int.from_bytes(data[:4], "little", signed=len(data) >= 4)
