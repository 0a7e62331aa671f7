"""Counted strings and object attributes, as syscalls receive them."""

from __future__ import annotations

import struct

from nexus.abi.struct import Struct
from nexus.abi.types import u16, u32, uptr
from nexus.nt.errors import NtError
from nexus.nt.handles import OBJ_INHERIT
from nexus.nt.objects import KernelObject
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.types import Memory
    from nexus.nt.handles import HandleTable

_ATTRIBUTES = struct.Struct("<I4xQQI4xQQ")


class UNICODE_STRING(Struct):
    Length: u16
    MaximumLength: u16
    Buffer: uptr


class OBJECT_ATTRIBUTES(Struct):
    Length: u32
    RootDirectory: uptr
    ObjectName: uptr
    Attributes: u32
    SecurityDescriptor: uptr
    SecurityQualityOfService: uptr


class Attributes:
    """OBJECT_ATTRIBUTES with its parts fetched: `name` is None when there is no name at all."""

    __slots__ = ("flags", "name", "root", "root_handle", "security")

    def __init__(
        self,
        name: str | None = None,
        flags: int = 0,
        root: KernelObject | None = None,
        root_handle: int = 0,
        security: bytes | None = None,
    ) -> None:
        self.name = name
        self.flags = flags
        self.root = root
        self.root_handle = root_handle
        self.security = security

    @property
    def inherit(self) -> bool:
        return bool(self.flags & OBJ_INHERIT)


def read_unicode_string(memory: Memory, address: int) -> str:
    """The text of a UNICODE_STRING; lone surrogates are kept."""
    length, _, buffer = struct.unpack("<HHxxxxQ", memory.read(address, 16))
    if length & 1:
        raise NtError(Status.OBJECT_NAME_INVALID)
    if not length:
        return ""
    return memory.read(buffer, length).decode("utf-16-le", "surrogatepass")


def read_attributes(memory: Memory, handles: HandleTable, address: int) -> Attributes:
    """Fetch OBJECT_ATTRIBUTES at `address`: the name, the root directory's object, the security descriptor."""
    length, root, name, flags, descriptor, _ = _ATTRIBUTES.unpack(memory.read(address, _ATTRIBUTES.size))
    if length != _ATTRIBUTES.size:
        raise NtError(Status.INVALID_PARAMETER)
    return Attributes(
        read_unicode_string(memory, name) if name else None,
        flags,
        handles.resolve(root, KernelObject, 0) if root else None,
        root,
        _read_descriptor(memory, descriptor) if descriptor else None,
    )


_SELF_RELATIVE = 0x8000
_DACL_PRESENT = 0x4
_SACL_PRESENT = 0x10
_MAX_DESCRIPTOR = 0x10000


def _read_descriptor(memory: Memory, address: int) -> bytes:
    """A SECURITY_DESCRIPTOR in either form, as a self-relative one."""
    revision, control = struct.unpack("<BxH", memory.read(address, 4))
    if revision != 1:
        raise NtError(Status.UNKNOWN_REVISION)
    if control & _SELF_RELATIVE:
        offsets = struct.unpack("<4I", memory.read(address + 4, 16))
        pointers = [address + offset if offset else 0 for offset in offsets]
    else:
        pointers = list(struct.unpack("<4Q", memory.read(address + 8, 32)))
    owner, group, sacl, dacl = pointers
    parts = [
        _read_sid(memory, owner) if owner else b"",
        _read_sid(memory, group) if group else b"",
        _read_acl(memory, sacl) if sacl and control & _SACL_PRESENT else b"",
        _read_acl(memory, dacl) if dacl and control & _DACL_PRESENT else b"",
    ]
    placed, position = [], 20
    for part in parts:
        placed.append(position if part else 0)
        position += len(part)
    return struct.pack("<BxH4I", 1, control | _SELF_RELATIVE, *placed) + b"".join(parts)


def _read_sid(memory: Memory, address: int) -> bytes:
    count = memory.read(address + 1, 1)[0]
    if count > 15:
        raise NtError(Status.INVALID_SID)
    return memory.read(address, 8 + 4 * count)


def _read_acl(memory: Memory, address: int) -> bytes:
    size = int.from_bytes(memory.read(address + 2, 2), "little")
    if size < 8 or size > _MAX_DESCRIPTOR:
        raise NtError(Status.INVALID_ACL)
    return memory.read(address, size)
