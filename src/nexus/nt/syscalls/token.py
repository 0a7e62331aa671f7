"""Access tokens: opening, querying, adjusting, duplicating; access checks."""

from __future__ import annotations

import struct

from nexus.abi.struct import Struct, span
from nexus.abi.types import boolean, i32, i64, u32, uptr
from nexus.nt.access import (
    PROCESS_QUERY_INFORMATION,
    THREAD_QUERY_INFORMATION,
    TOKEN_ADJUST_DEFAULT,
    TOKEN_ADJUST_GROUPS,
    TOKEN_ADJUST_PRIVILEGES,
    TOKEN_DUPLICATE,
    TOKEN_QUERY,
)
from nexus.nt.attributes import Attributes
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.ps.process import Process
from nexus.nt.ps.thread import Thread
from nexus.nt.query import answer, pointer
from nexus.nt.se.access_check import check_access
from nexus.nt.se.security import read_sid
from nexus.nt.se.token import (
    LOGON_SID,
    SE_GROUP_ENABLED,
    SE_GROUP_INTEGRITY,
    SE_GROUP_INTEGRITY_ENABLED,
    SE_GROUP_MANDATORY,
    SE_PRIVILEGE_ENABLED,
    TOKEN_IMPERSONATION,
    TOKEN_PRIMARY,
    Token,
)
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, In, NewHandle, ObjectAttributes, Out, syscall

(
    _USER,
    _GROUPS,
    _PRIVILEGES,
    _OWNER,
    _PRIMARY_GROUP,
    _DEFAULT_DACL,
    _SOURCE,
    _TYPE,
    _IMPERSONATION_LEVEL,
    _STATISTICS,
    _RESTRICTED_SIDS,
    _SESSION_ID,
) = range(1, 13)  # TOKEN_INFORMATION_CLASS
_SANDBOX_INERT, _ORIGIN, _ELEVATION_TYPE, _LINKED, _ELEVATION = 15, 17, 18, 19, 20
_VIRTUALIZATION_ALLOWED, _VIRTUALIZATION_ENABLED, _INTEGRITY_LEVEL, _UI_ACCESS = 23, 24, 25, 26
_MANDATORY_POLICY, _LOGON_SID, _IS_APP_CONTAINER, _CAPABILITIES, _APP_CONTAINER_SID = 27, 28, 29, 30, 31
_IS_RESTRICTED = 40
_FILE = "src/nexus/nt/syscalls/token.py"
_MAXIMUM_PRIVILEGES = 0x100
SE_PRIVILEGE_REMOVED = 0x4
SECURITY_IMPERSONATION = 2
TOKEN_ELEVATION_TYPE_DEFAULT = 1
TOKEN_MANDATORY_POLICY_NO_WRITE_UP = 1
NO_EXPIRATION = 0x7FFF_FFFF_FFFF_FFFF


class TOKEN_STATISTICS(Struct):
    TokenId: bytes = span(8)
    AuthenticationId: bytes = span(8)
    ExpirationTime: bytes = span(8)
    TokenType: u32
    ImpersonationLevel: u32
    DynamicCharged: u32
    DynamicAvailable: u32
    GroupCount: u32
    PrivilegeCount: u32
    ModifiedId: bytes = span(8)


class GENERIC_MAPPING(Struct):
    GenericRead: u32
    GenericWrite: u32
    GenericExecute: u32
    GenericAll: u32


class SECURITY_QUALITY_OF_SERVICE(Struct):
    Length: u32
    ImpersonationLevel: i32
    ContextTrackingMode: boolean
    EffectiveOnly: boolean


# -- opening ----------------------------------------------------------------------------------------------


@syscall
def NtOpenProcessToken(
    call: Call, process: Handle[Process, PROCESS_QUERY_INFORMATION], access: u32, handle: NewHandle
) -> None:
    """Open the token of a process."""
    call.give_handle(handle, process.token, access)


@syscall
def NtOpenProcessTokenEx(
    call: Call,
    process: Handle[Process, PROCESS_QUERY_INFORMATION],
    access: u32,
    attributes: u32,
    handle: NewHandle,
) -> None:
    """Open the token of a process, with handle attributes."""
    call.give_handle(handle, process.token, access, Attributes(flags=attributes))


def _thread_token(thread: Thread) -> Token:
    if thread.token is None:
        raise NtError(Status.NO_TOKEN)
    return thread.token


@syscall
def NtOpenThreadToken(
    call: Call,
    thread: Handle[Thread, THREAD_QUERY_INFORMATION],
    access: u32,
    as_self: boolean,
    handle: NewHandle,
) -> None:
    """Open the token a thread impersonates with."""
    call.give_handle(handle, _thread_token(thread), access)


@syscall
def NtOpenThreadTokenEx(
    call: Call,
    thread: Handle[Thread, THREAD_QUERY_INFORMATION],
    access: u32,
    as_self: boolean,
    attributes: u32,
    handle: NewHandle,
) -> None:
    """Open the token a thread impersonates with, with handle attributes."""
    call.give_handle(handle, _thread_token(thread), access, Attributes(flags=attributes))


@syscall
def NtDuplicateToken(
    call: Call,
    existing: uptr,
    access: u32,
    attributes: ObjectAttributes | None,
    effective_only: boolean,
    kind: u32,
    handle: NewHandle,
) -> None:
    """A new token like another one."""
    token = call.process.handles.resolve(existing, Token, TOKEN_DUPLICATE)
    if kind not in (TOKEN_PRIMARY, TOKEN_IMPERSONATION):
        raise NtError(Status.INVALID_PARAMETER)
    level = SECURITY_IMPERSONATION
    if attributes is not None and attributes.quality:
        quality = SECURITY_QUALITY_OF_SERVICE.read(call.memory, attributes.quality)
        level = quality.ImpersonationLevel
        if not 0 <= level <= 3:
            raise NtError(Status.BAD_IMPERSONATION_LEVEL)
    if token.kind == TOKEN_IMPERSONATION and level > token.impersonation_level:
        raise NtError(Status.BAD_IMPERSONATION_LEVEL)
    copy = token.duplicate(kind, level if kind == TOKEN_IMPERSONATION else 0, bool(effective_only))
    call.give_handle(handle, copy, access or call.process.handles.access_of(existing), attributes)


# -- queries ----------------------------------------------------------------------------------------------


@syscall
def NtQueryInformationToken(
    call: Call,
    token: Handle[Token, 0],
    information_class: u32,
    buffer: uptr,
    length: u32,
    returned: Out[u32] | None,
) -> None:
    """One class of information about a token."""
    data = _information(call, token, information_class, buffer)
    answer(call, buffer, length, returned, data, Status.BUFFER_TOO_SMALL)


def _information(call: Call, token: Token, kind: int, buffer: int) -> bytes:
    simple = {
        _TYPE: token.kind,
        _SESSION_ID: token.session,
        _SANDBOX_INERT: 0,
        _ELEVATION_TYPE: TOKEN_ELEVATION_TYPE_DEFAULT,
        _ELEVATION: int(token.elevated),
        _VIRTUALIZATION_ALLOWED: 0,
        _VIRTUALIZATION_ENABLED: 0,
        _UI_ACCESS: 0,
        _MANDATORY_POLICY: TOKEN_MANDATORY_POLICY_NO_WRITE_UP,
        _IS_APP_CONTAINER: 0,
        _IS_RESTRICTED: 0,
    }
    if kind in simple:
        return struct.pack("<I", simple[kind])
    if kind == _USER:
        return struct.pack("<QI4x", pointer(buffer + 16), 0) + token.user
    if kind in (_OWNER, _PRIMARY_GROUP):
        return struct.pack("<Q", pointer(buffer + 8)) + (
            token.owner if kind == _OWNER else token.primary_group
        )
    if kind == _GROUPS:
        return _sid_list(buffer, token.groups)
    if kind == _LOGON_SID:
        return _sid_list(buffer, [group for group in token.groups if group[0] == LOGON_SID])
    if kind in (_CAPABILITIES, _RESTRICTED_SIDS):
        return _sid_list(buffer, [])
    if kind == _INTEGRITY_LEVEL:
        attributes = SE_GROUP_INTEGRITY | SE_GROUP_INTEGRITY_ENABLED
        return struct.pack("<QI4x", pointer(buffer + 16), attributes) + token.integrity
    if kind == _PRIVILEGES:
        pairs = b"".join(
            struct.pack("<QI", luid, attributes) for luid, attributes in token.privileges.items()
        )
        return struct.pack("<I", len(token.privileges)) + pairs
    if kind == _DEFAULT_DACL:
        return struct.pack("<Q", pointer(buffer + 8) if token.default_dacl else 0) + token.default_dacl
    if kind in (_APP_CONTAINER_SID, _LINKED):
        return bytes(8)
    if kind == _SOURCE:
        return token.source + bytes(8)
    if kind == _ORIGIN:
        return struct.pack("<Q", 0x3E7)
    if kind == _IMPERSONATION_LEVEL:
        if token.kind == TOKEN_PRIMARY:
            raise NtError(Status.INVALID_PARAMETER)
        return struct.pack("<I", token.impersonation_level)
    if kind == _STATISTICS:
        return _statistics(token)
    if kind == 0 or kind > 49:
        raise NtError(Status.INVALID_INFO_CLASS)
    raise call.unsupported(f"information class {kind} of NtQueryInformationToken", _FILE)


def _sid_list(buffer: int, groups: list[tuple[bytes, int]]) -> bytes:
    """TOKEN_GROUPS with its SIDs behind it."""
    entries, sids = b"", b""
    start = buffer + 8 + 16 * len(groups)
    for sid, attributes in groups:
        entries += struct.pack("<QI4x", pointer(start + len(sids)), attributes)
        sids += sid
    return struct.pack("<I4x", len(groups)) + entries + sids


def _statistics(token: Token) -> bytes:
    return TOKEN_STATISTICS(
        TokenId=struct.pack("<Q", token.id),
        AuthenticationId=struct.pack("<Q", 0x3E7),
        ExpirationTime=struct.pack("<Q", NO_EXPIRATION),
        TokenType=token.kind,
        ImpersonationLevel=token.impersonation_level,
        GroupCount=len(token.groups),
        PrivilegeCount=len(token.privileges),
        ModifiedId=struct.pack("<Q", token.modified_id),
    ).pack()


@syscall
def NtCompareTokens(
    call: Call, first: Handle[Token, TOKEN_QUERY], second: Handle[Token, TOKEN_QUERY], equal: Out[boolean]
) -> None:
    """Do two tokens grant the same?"""
    same = first is second or (first.groups == second.groups and first.privileges == second.privileges)
    equal.write(same)


# -- changes ----------------------------------------------------------------------------------------------


@syscall
def NtSetInformationToken(
    call: Call, token: Handle[Token, TOKEN_ADJUST_DEFAULT], information_class: u32, buffer: uptr, length: u32
) -> None:
    """Set the default DACL, the owner, the primary group or the integrity level."""
    if information_class == _DEFAULT_DACL:
        if length < 8:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        acl = call.memory.u64(buffer)
        size = call.memory.u16(acl + 2) if acl else 0
        token.default_dacl = call.memory.read(acl, size) if acl else b""
    elif information_class in (_OWNER, _PRIMARY_GROUP):
        if length < 8:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        sid = read_sid(call.memory, call.memory.u64(buffer))
        if information_class == _OWNER:
            token.owner = sid
        else:
            token.primary_group = sid
    elif information_class == _INTEGRITY_LEVEL:
        if length < 16:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        token.integrity = read_sid(call.memory, call.memory.u64(buffer))
    elif information_class == _SESSION_ID:
        raise NtError(Status.PRIVILEGE_NOT_HELD)
    else:
        raise call.unsupported(f"information class {information_class} of NtSetInformationToken", _FILE)


@syscall
def NtAdjustPrivilegesToken(
    call: Call,
    token: Handle[Token, TOKEN_ADJUST_PRIVILEGES],
    disable_all: boolean,
    new_state: uptr,
    length: u32,
    previous: uptr,
    returned: Out[u32] | None,
) -> int:
    """Enable, disable or remove privileges."""
    changes: list[tuple[int, int]] = []
    if disable_all:
        changes = [(luid, 0) for luid in token.privileges]
    elif new_state:
        count = call.memory.u32(new_state)
        if count > _MAXIMUM_PRIVILEGES:
            raise NtError(Status.INVALID_PARAMETER)
        changes = list(struct.iter_unpack("<QI", call.memory.read(new_state + 4, 12 * count)))
    changed: list[tuple[int, int]] = []
    missing = False
    for luid, attributes in changes:
        before = token.privileges.get(luid)
        if before is None:
            missing = True
            continue
        if (before ^ attributes) & (SE_PRIVILEGE_ENABLED | SE_PRIVILEGE_REMOVED):
            changed.append((luid, before))
    if previous:
        old = struct.pack("<I", len(changed)) + b"".join(struct.pack("<QI", *pair) for pair in changed)
        answer(call, previous, length, returned, old, Status.BUFFER_TOO_SMALL)
    for luid, attributes in changes:
        if luid not in token.privileges:
            continue
        if attributes & SE_PRIVILEGE_REMOVED:
            del token.privileges[luid]
        else:
            kept = token.privileges[luid] & ~SE_PRIVILEGE_ENABLED
            token.privileges[luid] = kept | (attributes & SE_PRIVILEGE_ENABLED)
    return Status.NOT_ALL_ASSIGNED if missing else Status.SUCCESS


@syscall
def NtAdjustGroupsToken(
    call: Call,
    token: Handle[Token, TOKEN_ADJUST_GROUPS],
    reset: boolean,
    new_state: uptr,
    length: u32,
    previous: uptr,
    returned: Out[u32] | None,
) -> int:
    """Groups of this token are all mandatory and cannot be adjusted."""
    return Status.CANT_DISABLE_MANDATORY


@syscall
def NtFilterToken(
    call: Call,
    token: Handle[Token, TOKEN_DUPLICATE],
    flags: u32,
    disable_sids: uptr,
    delete_privileges: uptr,
    restricted_sids: uptr,
    handle: NewHandle,
) -> None:
    """A copy with fewer privileges and disabled groups."""
    if restricted_sids:
        raise call.unsupported("restricting SIDs of NtFilterToken", _FILE)
    copy = token.duplicate(token.kind, token.impersonation_level, False)
    if flags & 1:  # DISABLE_MAX_PRIVILEGE
        copy.privileges = {23: copy.privileges[23]} if 23 in copy.privileges else {}
    elif delete_privileges:
        count = min(call.memory.u32(delete_privileges), _MAXIMUM_PRIVILEGES)
        for luid, _ in struct.iter_unpack("<QI", call.memory.read(delete_privileges + 4, 12 * count)):
            copy.privileges.pop(luid, None)
    if disable_sids:
        count = min(call.memory.u32(disable_sids), _MAXIMUM_PRIVILEGES)
        raw = call.memory.read(disable_sids + 8, 16 * count)
        disabled = {read_sid(call.memory, address) for address, _ in struct.iter_unpack("<QI4x", raw)}
        copy.groups = [
            (sid, attributes & ~(SE_GROUP_ENABLED | SE_GROUP_MANDATORY) if sid in disabled else attributes)
            for sid, attributes in copy.groups
        ]
    call.give_handle(handle, copy, token.type.all)


# -- checks -----------------------------------------------------------------------------------------------


@syscall
def NtPrivilegeCheck(
    call: Call, token: Handle[Token, TOKEN_QUERY], required: uptr, result: Out[boolean]
) -> None:
    """Are the privileges of a PRIVILEGE_SET enabled (all of them, or any)?"""
    count, control = struct.unpack("<II", call.memory.read(required, 8))
    if count > _MAXIMUM_PRIVILEGES:
        raise NtError(Status.INVALID_PARAMETER)
    held = []
    for index in range(count):
        at = required + 8 + 12 * index
        luid, attributes = struct.unpack("<QI", call.memory.read(at, 12))
        enabled = bool(token.privileges.get(luid, 0) & SE_PRIVILEGE_ENABLED)
        if enabled:  # SE_PRIVILEGE_USED_FOR_ACCESS
            call.memory.write(at + 8, struct.pack("<I", attributes | 0x8000_0000))
        held.append(enabled)
    result.write(all(held) if control & 1 else any(held))


@syscall
def NtAccessCheck(
    call: Call,
    descriptor: uptr,
    token: Handle[Token, TOKEN_QUERY],
    desired: u32,
    mapping: In[GENERIC_MAPPING],
    privileges: uptr,
    privileges_length: Out[u32],
    granted: Out[u32],
    result: Out[u32],
) -> None:
    """Would the DACL of a descriptor grant a token the access wanted?"""
    if token.kind != TOKEN_IMPERSONATION:
        raise NtError(Status.NO_IMPERSONATION_TOKEN)
    generic = mapping.read()
    given, status = check_access(
        call.memory,
        descriptor,
        token,
        desired,
        (generic.GenericRead, generic.GenericWrite, generic.GenericExecute, generic.GenericAll),
    )
    length = privileges_length.address
    if call.memory.u32(length) < 20:
        privileges_length.write(20)
        raise NtError(Status.BUFFER_TOO_SMALL)
    call.memory.write(privileges, bytes(8))
    privileges_length.write(20)
    granted.write(given)
    result.write(status)


@syscall
def NtAllocateLocallyUniqueId(call: Call, luid: Out[i64]) -> None:
    """A number that is unique on this machine until it restarts."""
    luid.write(call.kernel.new_luid())


@syscall
def NtAllocateUuids(call: Call, time: Out[i64], duration: Out[u32], sequence: Out[u32], seed: uptr) -> None:
    """A range of time-based UUIDs."""
    time.write(call.kernel.clock.system())
    duration.write(10_000)
    sequence.write(int.from_bytes(call.kernel.random_bytes(2), "little") & 0x3FFF)
    call.memory.write(seed, call.kernel.random_bytes(6))
