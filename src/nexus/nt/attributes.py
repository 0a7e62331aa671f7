"""Counted strings and object attributes, as syscalls receive them."""

from __future__ import annotations

import struct

from nexus.abi.struct import Struct
from nexus.abi.types import u16, uptr
from nexus.nt.errors import NtError
from nexus.nt.handles import OBJ_INHERIT
from nexus.nt.objects import KernelObject
from nexus.nt.se.security import read_descriptor
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.types import Memory
    from nexus.nt.handles import HandleTable

_ATTRIBUTES = struct.Struct("<I4xQQI4xQQ")  # OBJECT_ATTRIBUTES: read so often that it is unpacked in one go


LONGEST_STRING = 0xFFFC
"""Bytes of text that a UNICODE_STRING can count together with their zero."""


class UNICODE_STRING(Struct):
    Length: u16
    MaximumLength: u16
    Buffer: uptr


class Attributes:
    """OBJECT_ATTRIBUTES with its parts fetched: `name` is None when there is no name at all.

    What is wrong with a name (`bad_name`, a status) is raised when somebody asks for it: the other arguments
    of a call are checked before.
    """

    __slots__ = ("_name", "bad_name", "flags", "quality", "root", "root_handle", "security")

    def __init__(
        self,
        name: str | None = None,
        flags: int = 0,
        root: KernelObject | None = None,
        root_handle: int = 0,
        security: bytes | None = None,
        quality: int = 0,
    ) -> None:
        self._name = name
        self.bad_name = 0
        self.flags = flags
        self.root = root
        self.root_handle = root_handle
        self.security = security
        self.quality = quality  # address of the SECURITY_QUALITY_OF_SERVICE

    @property
    def name(self) -> str | None:
        if self.bad_name:
            raise NtError(self.bad_name)
        return self._name

    @property
    def inherit(self) -> bool:
        return bool(self.flags & OBJ_INHERIT)


def read_unicode_string(memory: Memory, address: int) -> str:
    """The text of a UNICODE_STRING; lone surrogates are kept."""
    length, _, buffer = struct.unpack("<HHxxxxQ", memory.read(address, 16))
    if buffer & 1:
        raise NtError(Status.DATATYPE_MISALIGNMENT)
    if length & 1 or length > LONGEST_STRING:
        raise NtError(Status.OBJECT_NAME_INVALID)
    if not length:
        return ""
    return memory.read(buffer, length).decode("utf-16-le", "surrogatepass")


def _root(handles: HandleTable, handle: int, required: bool) -> KernelObject | None:
    """The root directory's object; a wrong handle does not matter where no name needs it."""
    try:
        return handles.resolve(handle, KernelObject, 0)
    except NtError:
        if required:
            raise
        return None


def read_attributes(memory: Memory, handles: HandleTable, address: int) -> Attributes:
    """Fetch OBJECT_ATTRIBUTES at `address`: the name, the root's object, the security descriptor."""
    if not address:
        raise NtError(Status.INVALID_PARAMETER)
    length, root, name, flags, descriptor, quality = _ATTRIBUTES.unpack(
        memory.read(address, _ATTRIBUTES.size)
    )
    if length != _ATTRIBUTES.size:
        raise NtError(Status.INVALID_PARAMETER)
    bad_name = 0
    try:
        text = read_unicode_string(memory, name) if name else None
    except NtError as error:
        text, bad_name = None, error.status
    attributes = Attributes(
        text,
        flags,
        _root(handles, root, bool(text)) if root else None,
        root,
        read_descriptor(memory, descriptor) if descriptor else None,
        quality,
    )
    attributes.bad_name = bad_name
    return attributes
