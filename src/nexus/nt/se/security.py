"""Security descriptors: stored with an object and shown again. Access is decided by handles, not by them."""

from __future__ import annotations

import struct

from nexus.nt.errors import NtError
from nexus.nt.se.token import PRIMARY_GROUP_SID, USER_SID, default_dacl
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.types import Memory

OWNER, GROUP, DACL, SACL = 1, 2, 4, 8  # SECURITY_INFORMATION
_SELF_RELATIVE, _DACL_PRESENT, _SACL_PRESENT = 0x8000, 0x4, 0x10
_FLAGS_OF = {DACL: 0x140C, SACL: 0x2830}  # the control bits that travel with each list
_HEAD = struct.Struct("<BxH4I")
_MAXIMUM = 0x10000

Parts = tuple[int, list[bytes]]


def read_descriptor(memory: Memory, address: int) -> bytes:
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
    return _join(
        control,
        [
            read_sid(memory, owner) if owner else b"",
            read_sid(memory, group) if group else b"",
            _read_acl(memory, sacl) if sacl and control & _SACL_PRESENT else b"",
            _read_acl(memory, dacl) if dacl and control & _DACL_PRESENT else b"",
        ],
    )


def read_sid(memory: Memory, address: int) -> bytes:
    """A SID, its sub-authorities counted."""
    count = memory.read(address + 1, 1)[0]
    if count > 15:
        raise NtError(Status.INVALID_SID)
    return memory.read(address, 8 + 4 * count)


def _read_acl(memory: Memory, address: int) -> bytes:
    size = int.from_bytes(memory.read(address + 2, 2), "little")
    if size < 8 or size > _MAXIMUM:
        raise NtError(Status.INVALID_ACL)
    return memory.read(address, size)


def _join(control: int, parts: list[bytes]) -> bytes:
    placed, position = [], _HEAD.size
    for part in parts:
        placed.append(position if part else 0)
        position += len(part)
    return _HEAD.pack(1, control | _SELF_RELATIVE, *placed) + b"".join(parts)


def _split(descriptor: bytes) -> Parts:
    """Control bits and [owner, group, SACL, DACL] of a descriptor that `_join` made."""
    _, control, *offsets = _HEAD.unpack_from(descriptor)
    ends = sorted({offset for offset in offsets if offset} | {len(descriptor)})
    parts = [descriptor[o : ends[ends.index(o) + 1]] if o else b"" for o in offsets]
    return control, parts


def select_parts(descriptor: bytes, wanted: int, base: bytes | None = None) -> bytes:
    """The wanted parts of `descriptor`; the others come from `base` or are left out."""
    control, parts = _split(descriptor)
    base_control, base_parts = _split(base) if base is not None else (0, [b""] * 4)
    chosen_control = 0
    chosen = []
    for bit, own, other in zip((OWNER, GROUP, SACL, DACL), parts, base_parts, strict=True):
        chosen.append(own if wanted & bit else other)
        chosen_control |= (control if wanted & bit else base_control) & _FLAGS_OF.get(bit, 0)
    return _join(chosen_control, chosen)


def default_descriptor() -> bytes:
    """What an object without a descriptor of its own shows: the user owns it, user and system have all
    access.
    """
    return _join(_DACL_PRESENT, [USER_SID, PRIMARY_GROUP_SID, b"", default_dacl()])
