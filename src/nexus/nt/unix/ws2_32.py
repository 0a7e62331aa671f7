"""The host half of ws2_32.dll: names and addresses, under the network rules."""

from __future__ import annotations

import socket
import struct

from nexus.nt.errors import NtError
from nexus.nt.net.socket_address import WS_AF_INET, WS_AF_INET6, from_host, to_host, wsa_error
from nexus.nt.net.socket_names import Lookup
from nexus.nt.status import Status
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nexus.nt.call import Call

ERROR_INSUFFICIENT_BUFFER = 122
WSAHOST_NOT_FOUND, WSATRY_AGAIN, WSANO_DATA, WSAEFAULT = 11001, 11002, 11004, 10014
WSAESOCKTNOSUPPORT = 10044
EAI = {
    socket.EAI_AGAIN: 11002,
    socket.EAI_BADFLAGS: 10022,
    socket.EAI_FAIL: 11003,
    socket.EAI_FAMILY: 10047,
    socket.EAI_MEMORY: 8,
    socket.EAI_NONAME: 11001,
    socket.EAI_SERVICE: 10109,
    socket.EAI_SOCKTYPE: 10044,
}
EAI_NODATA = -5
_HINT_FLAGS = (
    (0x1, socket.AI_PASSIVE),
    (0x2, socket.AI_CANONNAME),
    (0x4, socket.AI_NUMERICHOST),
    (0x8, socket.AI_NUMERICSERV),
)
_HINT_FLAGS_V6 = ((0x400, socket.AI_ADDRCONFIG), (0x800, socket.AI_V4MAPPED), (0x100, socket.AI_ALL))
_NAME_FLAGS = (
    (0x1, socket.NI_NOFQDN),
    (0x2, socket.NI_NUMERICHOST),
    (0x4, socket.NI_NAMEREQD),
    (0x8, socket.NI_NUMERICSERV),
    (0x10, socket.NI_DGRAM),
)
_FAMILIES = {0: socket.AF_UNSPEC, WS_AF_INET: socket.AF_INET, WS_AF_INET6: socket.AF_INET6}
_KINDS = {0: 0, 1: socket.SOCK_STREAM, 2: socket.SOCK_DGRAM}
LOCAL_NAMES = ("", "localhost", "nexus")
HOST_NAME = "nexus"


def ws2_32(call: Call, number: int, parameters: int) -> Any:
    """Dispatch by number; the order is that of Wine's ws_unix_funcs."""
    functions = (_getaddrinfo, _gethostbyaddr, _gethostbyname, _gethostname, _getnameinfo)
    if number >= len(functions):
        raise call.unsupported(f"ws2_32's unix call {number}", "src/nexus/nt/unix/ws2_32.py")
    return functions[number](call, parameters)


def _text(call: Call, address: int) -> str | None:
    """A NUL-terminated string of at most 1 KB."""
    if not address:
        return None
    data = b""
    while b"\0" not in data and len(data) < 1024:
        at = address + len(data)
        data += call.memory.read(at, min(256, 4096 - at % 4096))
    return data.split(b"\0")[0].decode("utf-8", "replace")


def _may_resolve(call: Call, name: str) -> bool:
    if name.lower() in LOCAL_NAMES or _is_numeric(name):
        return True
    rules = call.kernel.io.network
    return rules is not None and rules.may_resolve(name)


def _is_numeric(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name.split("%")[0])
        except OSError:
            continue
        return True
    return False


def _learn(call: Call, name: str, addresses: list[str]) -> None:
    rules = call.kernel.io.network
    if rules is not None and not _is_numeric(name):
        rules.learn(name, addresses)


# getaddrinfo -----------------------------------------------------------------------------------------


def _getaddrinfo(call: Call, parameters: int) -> Any:
    node_at, service_at, hints_at, info, size_at = struct.unpack("<5Q", call.memory.read(parameters, 40))
    node, service = _text(call, node_at), _text(call, service_at)
    flags = family = kind = protocol = 0
    if hints_at:
        hint_flags, family, kind, protocol = struct.unpack("<4i", call.memory.read(hints_at, 16))
        flags = sum(host for theirs, host in _HINT_FLAGS + _HINT_FLAGS_V6 if hint_flags & theirs)
        if kind not in _KINDS:
            return WSAESOCKTNOSUPPORT
    if family not in _FAMILIES:
        return EAI[socket.EAI_FAMILY]
    if node is not None and not _may_resolve(call, node):
        return EAI[socket.EAI_NONAME]
    host_node = "localhost" if node is not None and node.lower() in LOCAL_NAMES else node
    host_kind = 0 if protocol == socket.IPPROTO_TCP and kind != 1 else _KINDS[kind]
    wanted = (host_node, service or None, _FAMILIES[family], host_kind, max(protocol, 0), flags)
    lookup = Lookup(call.kernel, lambda: socket.getaddrinfo(*wanted))
    data = (lookup, node, bool(hints_at), kind, protocol, info, size_at)
    return Wait((lookup,), None, then=_got_addresses, data=data)


def _got_addresses(
    call: Call,
    status: int,
    acquired: object,
    lookup: Lookup,
    node: str | None,
    hinted: bool,
    kind: int,
    protocol: int,
    info: int,
    size_at: int,
) -> int:
    if lookup.error is not None:
        code = lookup.error.errno or 0
        return 11001 if code == EAI_NODATA else EAI.get(code, wsa_error(code) or 11003)
    found: list[Any] = []
    for family, host_kind, host_protocol, canonical, address in lookup.result:
        entry = (
            family,
            kind if hinted else host_kind,
            protocol if hinted else host_protocol,
            canonical,
            address,
        )
        if entry not in found:
            found.append(entry)
    if node is not None:
        _learn(call, node, [entry[4][0] for entry in found])
    blocks = []
    for _, _, _, canonical, address in found:
        name = canonical.encode() + b"\0" if canonical else b""
        blocks.append((name, from_host(address)))
    needed = sum(48 + len(name) + len(address) + 16 for name, address in blocks)
    if int.from_bytes(call.memory.read(size_at, 4), "little") < needed:
        call.memory.write(size_at, struct.pack("<I", needed))
        return ERROR_INSUFFICIENT_BUFFER
    out, at = b"", info
    for index, ((family, entry_kind, entry_protocol, _, _), (name, address)) in enumerate(
        zip(found, blocks, strict=True)
    ):
        size = 48 + (len(address) + 7 & ~7) + (len(name) + 7 & ~7)
        following = at + size if index + 1 < len(found) else 0
        address_at = at + 48
        name_at = address_at + (len(address) + 7 & ~7) if name else 0
        ws_family = WS_AF_INET if family == socket.AF_INET else WS_AF_INET6
        head = (0, ws_family, entry_kind, entry_protocol, len(address), name_at, address_at, following)
        block = struct.pack("<4iQQQQ", *head) + address.ljust(len(address) + 7 & ~7, b"\0") + name
        out += block.ljust(size, b"\0")
        at += size
    call.memory.write(info, out)
    return 0


# the older functions ---------------------------------------------------------------------------------


def _gethostname(call: Call, parameters: int) -> int:
    buffer, size = struct.unpack("<QI", call.memory.read(parameters, 12))
    name = HOST_NAME.encode() + b"\0"
    if size < len(name):
        return WSAEFAULT
    call.memory.write(buffer, name)
    return 0


def _gethostbyname(call: Call, parameters: int) -> Any:
    name_at, host, size_at = struct.unpack("<3Q", call.memory.read(parameters, 24))
    name = _text(call, name_at) or ""
    if not _may_resolve(call, name):
        return WSAHOST_NOT_FOUND
    host_name = "localhost" if name.lower() in LOCAL_NAMES else name
    lookup = Lookup(call.kernel, lambda: socket.gethostbyname_ex(host_name))
    return Wait((lookup,), None, then=_got_host, data=(lookup, name, host, size_at))


def _gethostbyaddr(call: Call, parameters: int) -> Any:
    address_at, length, family, host, size_at = struct.unpack("<QiiQQ", call.memory.read(parameters, 32))
    if (family, length) not in ((WS_AF_INET, 4), (WS_AF_INET6, 16)):
        return EAI[socket.EAI_FAMILY]
    packed = call.memory.read(address_at, length)
    text = socket.inet_ntop(_FAMILIES[family], packed)
    if not _may_resolve_address(call, text):
        return WSAHOST_NOT_FOUND
    lookup = Lookup(call.kernel, lambda: socket.gethostbyaddr(text))
    return Wait((lookup,), None, then=_got_host, data=(lookup, text, host, size_at))


def _may_resolve_address(call: Call, address: str) -> bool:
    rules = call.kernel.io.network
    return address in ("127.0.0.1", "::1") or (rules is not None and rules.may_resolve(address))


def _got_host(
    call: Call, status: int, acquired: object, lookup: Lookup, name: str, host: int, size_at: int
) -> int:
    if lookup.error is not None:
        return WSATRY_AGAIN if lookup.error.errno == socket.EAI_AGAIN else WSAHOST_NOT_FOUND
    real, aliases, addresses = lookup.result
    _learn(call, name, addresses)
    packed = [socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in addresses]
    texts = [alias.encode() + b"\0" for alias in aliases]
    canonical = real.encode() + b"\0"
    tables = 32 + 8 * (len(texts) + 1) + 8 * (len(packed) + 1)
    needed = tables + sum(map(len, packed)) + sum(map(len, texts)) + len(canonical)
    if int.from_bytes(call.memory.read(size_at, 4), "little") < needed:
        call.memory.write(size_at, struct.pack("<I", needed))
        return ERROR_INSUFFICIENT_BUFFER
    at = host + tables
    places = []
    for item in (*packed, *texts, canonical):
        places.append(at)
        at += len(item)
    family, width = (WS_AF_INET6, 16) if packed and len(packed[0]) == 16 else (WS_AF_INET, 4)
    alias_table = host + 32
    address_table = alias_table + 8 * (len(texts) + 1)
    head = struct.pack("<QQhhxxxxQ", places[-1], alias_table, family, width, address_table)
    pointers = [*places[len(packed) : -1], 0, *places[: len(packed)], 0]
    body = struct.pack(f"<{len(pointers)}Q", *pointers) + b"".join((*packed, *texts, canonical))
    call.memory.write(host, head + body)
    return 0


def _getnameinfo(call: Call, parameters: int) -> Any:
    address_at, length, host, host_length, service, service_length, flags = struct.unpack(
        "<QixxxxQIxxxxQIi", call.memory.read(parameters, 48)
    )
    try:
        address = to_host(call.memory.read(address_at, min(max(length, 0), 28)))
    except NtError as error:
        if error.status != Status.INVALID_ADDRESS:
            raise
        return EAI[socket.EAI_FAMILY]
    host_flags = sum(ours for theirs, ours in _NAME_FLAGS if flags & theirs)
    if not _may_resolve_address(call, address[0]):
        host_flags |= socket.NI_NUMERICHOST
    lookup = Lookup(call.kernel, lambda: socket.getnameinfo(address, host_flags))
    return Wait((lookup,), None, then=_got_name, data=(lookup, host, host_length, service, service_length))


def _got_name(
    call: Call,
    status: int,
    acquired: object,
    lookup: Lookup,
    host: int,
    host_length: int,
    service: int,
    service_length: int,
) -> int:
    if lookup.error is not None:
        return EAI.get(lookup.error.errno or 0, 11003)
    for text, at, room in zip(lookup.result, (host, service), (host_length, service_length), strict=True):
        data = text.encode() + b"\0"
        if at and room:
            if room < len(data):
                return ERROR_INSUFFICIENT_BUFFER
            call.memory.write(at, data)
    return 0
