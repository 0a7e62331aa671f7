"""The access check of NtAccessCheck: a token against a discretionary access control list."""

from __future__ import annotations

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.se.security import read_descriptor
from nexus.nt.se.token import SE_GROUP_ENABLED
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.types import Memory
    from nexus.nt.se.token import Token

ACCESS_ALLOWED_ACE, ACCESS_DENIED_ACE = 0, 1
INHERIT_ONLY_ACE = 0x8
_DACL_PRESENT = 0x4


def map_generic(mask: int, mapping: tuple[int, int, int, int]) -> int:
    """Replace generic bits by what `mapping` (read, write, execute, all) says they mean."""
    specific = mask & 0x0FFF_FFFF
    for bit, meaning in zip(
        (access.GENERIC_READ, access.GENERIC_WRITE, access.GENERIC_EXECUTE, access.GENERIC_ALL),
        mapping,
        strict=True,
    ):
        if mask & bit:
            specific |= meaning
    return specific


def check_access(
    memory: Memory, address: int, token: Token, desired: int, mapping: tuple[int, int, int, int]
) -> tuple[int, int]:
    """(granted access, status)."""
    descriptor = read_descriptor(memory, address)
    control = int.from_bytes(descriptor[2:4], "little")
    owner_at, group_at, _, dacl_at = (
        int.from_bytes(descriptor[i : i + 4], "little") for i in range(4, 20, 4)
    )
    if not owner_at or not group_at:
        raise NtError(Status.INVALID_SECURITY_DESCR)
    if desired & 0xF000_0000:
        raise NtError(Status.GENERIC_NOT_MAPPED)
    maximum = bool(desired & access.MAXIMUM_ALLOWED)
    desired &= ~access.MAXIMUM_ALLOWED
    everything = mapping[3]
    if not control & _DACL_PRESENT or not dacl_at:
        return (everything if maximum else desired), Status.SUCCESS
    granted = 0
    if descriptor[owner_at : owner_at + len(token.owner)] == token.owner:
        granted |= access.READ_CONTROL | access.WRITE_DAC
    allowed, denied = _walk(descriptor[dacl_at:], token, mapping)
    granted |= allowed
    if maximum:
        granted &= ~(denied & ~allowed)
        return (granted, Status.SUCCESS) if granted & desired == desired else (0, Status.ACCESS_DENIED)
    if desired & ~granted:
        return 0, Status.ACCESS_DENIED
    return desired, Status.SUCCESS


def _walk(acl: bytes, token: Token, mapping: tuple[int, int, int, int]) -> tuple[int, int]:
    """What the entries allow and deny, first come first served."""
    sids = [token.user, *(sid for sid, attributes in token.groups if attributes & SE_GROUP_ENABLED)]
    count = int.from_bytes(acl[4:6], "little")
    position, allowed, denied = 8, 0, 0
    for _ in range(count):
        if position + 8 > len(acl):
            break
        kind, flags = acl[position], acl[position + 1]
        size = int.from_bytes(acl[position + 2 : position + 4], "little")
        mask = map_generic(int.from_bytes(acl[position + 4 : position + 8], "little"), mapping)
        sid = acl[position + 8 : position + size]
        if not flags & INHERIT_ONLY_ACE and any(sid.startswith(own) for own in sids):
            if kind == ACCESS_ALLOWED_ACE:
                allowed |= mask & ~denied
            elif kind == ACCESS_DENIED_ACE:
                denied |= mask & ~allowed
        if size < 8:
            break
        position += size
    return allowed, denied
