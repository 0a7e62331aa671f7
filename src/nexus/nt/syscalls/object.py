"""Handles and names: closing, duplicating, querying objects; object directories and symbolic links;
security.
"""

from __future__ import annotations

import struct

from nexus.abi.struct import Struct, span
from nexus.abi.types import boolean, u32, uptr
from nexus.nt import access as rights
from nexus.nt.access import PROCESS_DUP_HANDLE, READ_CONTROL
from nexus.nt.attributes import LONGEST_STRING, read_unicode_string
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.handles import INHERIT, OBJ_INHERIT, OBJ_OPENLINK, OBJ_PERMANENT, PROTECT
from nexus.nt.io.file import FileObject
from nexus.nt.namespace import Directory, SymbolicLink
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.ps.process import Process
from nexus.nt.query import answer, pointer
from nexus.nt.se.security import default_descriptor, read_descriptor, select_parts
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, NewHandle, ObjectAttributes, Out, syscall

DUPLICATE_CLOSE_SOURCE, DUPLICATE_SAME_ACCESS, DUPLICATE_SAME_ATTRIBUTES = 1, 2, 4
_BASIC, _NAME, _TYPE, _TYPES, _HANDLE_FLAGS = range(5)  # OBJECT_INFORMATION_CLASS
_DIRECTORY_RECORD = 32  # bytes of a DIRECTORY_BASIC_INFORMATION; an empty one ends a list


class OBJECT_BASIC_INFORMATION(Struct):
    Attributes: u32
    GrantedAccess: u32
    HandleCount: u32
    PointerCount: u32
    PagedPoolUsage: u32
    NonPagedPoolUsage: u32
    Reserved: bytes = span(12)
    NameInformationLength: u32
    TypeInformationLength: u32
    SecurityDescriptorLength: u32
    CreateTime: bytes = span(8)


@syscall
def NtClose(call: Call, handle: uptr) -> None:
    """Close a handle; closing a pseudo handle does nothing."""
    handles = call.process.handles
    number = handle - (1 << 64) if handle >> 63 else handle
    if -6 <= number <= -1:
        return
    handles.close(handle)


@syscall
def NtDuplicateObject(
    call: Call,
    source_process: Handle[Process, PROCESS_DUP_HANDLE],
    source: uptr,
    target_process: Handle[Process, PROCESS_DUP_HANDLE] | None,
    target: NewHandle | None,
    access: u32,
    attributes: u32,
    options: u32,
) -> None:
    """A second handle to an object, in the same or another process; or just close the source."""
    table = source_process.handles
    found = table.resolve(source, KernelObject, 0)
    granted = table.access_of(source)
    try:
        if target_process is not None:
            access = granted if options & DUPLICATE_SAME_ACCESS else found.type.map_access(access)
            flags = attributes
            if options & DUPLICATE_SAME_ATTRIBUTES and table.pseudo(source) is None:
                flags = OBJ_INHERIT if table.entry(source).flags & INHERIT else 0
            handle = target_process.handles.add(found, access, flags)
            if target is not None:
                try:
                    target.write(handle)
                except BaseException:
                    target_process.handles.close(handle)
                    raise
    finally:
        if options & DUPLICATE_CLOSE_SOURCE and table.pseudo(source) is None:
            table.close(source)


@syscall
def NtCompareObjects(call: Call, first: Handle[KernelObject, 0], second: Handle[KernelObject, 0]) -> int:
    """Do two handles name the same object?"""
    return Status.SUCCESS if first is second else Status.NOT_SAME_OBJECT


@syscall
def NtQueryObject(
    call: Call, handle: uptr, information_class: u32, buffer: uptr, length: u32, returned: Out[u32] | None
) -> None:
    """Basic facts, the name, the type or the handle flags of an object."""
    handles = call.process.handles
    if information_class == _TYPES:
        _query_types(call, buffer, length, returned)
        return
    target = handles.resolve(handle, KernelObject, 0)
    if information_class == _BASIC:
        if length != OBJECT_BASIC_INFORMATION.size:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        entry_flags = 0 if handles.pseudo(handle) is not None else handles.entry(handle).flags
        basic = OBJECT_BASIC_INFORMATION(
            Attributes=(OBJ_INHERIT if entry_flags & INHERIT else 0)
            | (OBJ_PERMANENT if target.permanent else 0),
            GrantedAccess=handles.access_of(handle),
            HandleCount=target.handle_count,
            PointerCount=target.handle_count + 1,
        )
        answer(call, buffer, length, returned, basic.pack())
    elif information_class == _NAME:
        _query_name(call, target, buffer, length, returned)
    elif information_class == _TYPE:
        answer(call, buffer, length, returned, _type_information(target.type, buffer))
    elif information_class == _HANDLE_FLAGS:
        flags = handles.entry(handle).flags
        data = bytes((1 if flags & INHERIT else 0, 1 if flags & PROTECT else 0))
        if length < len(data):
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        answer(call, buffer, length, returned, data)
    else:
        raise NtError(Status.INVALID_INFO_CLASS)


def _query_name(
    call: Call, target: KernelObject, buffer: int, length: int, returned: Out[u32] | None
) -> None:
    """OBJECT_NAME_INFORMATION: a UNICODE_STRING with its text behind it."""
    text = target.path.encode("utf-16-le", "surrogatepass")
    if not text:
        answer(call, buffer, length, returned, bytes(16))
        return
    if len(text) > LONGEST_STRING:
        raise NtError(Status.NAME_TOO_LONG)
    data = struct.pack("<HH4xQ", len(text), len(text) + 2, pointer(buffer + 16)) + text + b"\0\0"
    of_file = isinstance(target, FileObject) and length >= 16
    too_small = Status.BUFFER_OVERFLOW if of_file else Status.INFO_LENGTH_MISMATCH
    answer(call, buffer, length, returned, data, too_small)


def _type_information(kind: ObjectType, at: int) -> bytes:
    """OBJECT_TYPE_INFORMATION with its name behind it, as it lies at address `at`."""
    text = kind.name.encode("utf-16-le")
    mapping = (kind.read, kind.write, kind.execute, kind.all)
    head = struct.pack("<HH4xQ", len(text), len(text) + 2, pointer(at + 0x68))
    counts = bytes(12 * 4)
    rest = struct.pack("<I4I I BBBx I", 0, *mapping, kind.valid, 0, 0, kind.index, 0)
    data = (head + counts + rest).ljust(0x68, b"\0") + text + b"\0\0"
    return data + bytes(-len(data) % 8)


def _query_types(call: Call, buffer: int, length: int, returned: Out[u32] | None) -> None:
    """OBJECT_TYPES_INFORMATION: how many types there are, and each of them."""
    data = struct.pack("<Q", len(ObjectType.known))
    for kind in ObjectType.known:
        data += _type_information(kind, buffer + len(data))
    answer(call, buffer, length, returned, data)


@syscall
def NtSetInformationObject(
    call: Call, handle: uptr, information_class: u32, buffer: uptr, length: u32
) -> None:
    """Set a handle's inherit and protect-from-close flags."""
    if information_class != _HANDLE_FLAGS:
        raise NtError(Status.INVALID_INFO_CLASS)
    if length < 2:
        raise NtError(Status.INVALID_PARAMETER)
    inherit, protect = call.memory.read(buffer, 2)
    entry = call.process.handles.entry(handle)
    entry.flags = (INHERIT if inherit else 0) | (PROTECT if protect else 0)


@syscall
def NtMakePermanentObject(call: Call, target: Handle[KernelObject, 0]) -> None:
    """Keep the object's name when its last handle is closed."""
    target.permanent = True


@syscall
def NtMakeTemporaryObject(call: Call, target: Handle[KernelObject, 0]) -> None:
    """Let the name go with the last handle again."""
    target.permanent = False


# -- directories and links --------------------------------------------------------------------------------


@syscall
def NtCreateDirectoryObject(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None
) -> int:
    """Create or open an object directory."""
    directory, status = call.kernel.namespace.create(attributes, Directory, Directory)
    call.give_handle(handle, directory, access, attributes)
    return status


@syscall
def NtOpenDirectoryObject(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes) -> None:
    """Open an object directory."""
    directory = call.kernel.namespace.open(attributes, Directory)
    call.give_handle(handle, directory, access, attributes)


@syscall
def NtQueryDirectoryObject(
    call: Call,
    directory: Handle[Directory, rights.DIRECTORY_QUERY],
    buffer: uptr,
    length: u32,
    single: boolean,
    restart: boolean,
    context: Out[u32],
    returned: Out[u32] | None,
) -> int:
    """Names and types of a directory's entries: DIRECTORY_BASIC_INFORMATION records, then their texts."""
    position = 0 if restart else call.memory.u32(context.address)
    entries = list(directory.entries.values())
    if position >= len(entries):
        if returned is not None:
            returned.write(_DIRECTORY_RECORD)
        if length >= _DIRECTORY_RECORD:
            call.memory.write(buffer, bytes(_DIRECTORY_RECORD))
        raise NtError(Status.NO_MORE_ENTRIES)
    chosen: list[tuple[bytes, bytes]] = []
    needed = 32
    for entry in entries[position:]:
        name = entry.name.encode("utf-16-le", "surrogatepass")
        kind = entry.type.name.encode("utf-16-le")
        size = 32 + len(name) + 2 + len(kind) + 2
        if needed + size > length:
            break
        needed += size
        chosen.append((name, kind))
        if single:
            break
    if not chosen:
        if single:
            if returned is not None:
                first = entries[position]
                returned.write(64 + 2 * (len(first.name) + len(first.type.name)) + 4)
            return Status.BUFFER_TOO_SMALL
        if length >= _DIRECTORY_RECORD:
            call.memory.write(buffer, bytes(_DIRECTORY_RECORD))
        context.write(position)
        if returned is not None:
            returned.write(_DIRECTORY_RECORD)
        return Status.MORE_ENTRIES
    records, texts, at = b"", b"", buffer + 32 * (len(chosen) + 1)
    for name, kind in chosen:
        place = at + len(texts)
        texts += name + b"\0\0"
        records += struct.pack("<HH4xQ", len(name), len(name) + 2, pointer(place))
        place = at + len(texts)
        texts += kind + b"\0\0"
        records += struct.pack("<HH4xQ", len(kind), len(kind) + 2, pointer(place))
    call.memory.write(buffer, records + bytes(32) + texts)
    position += len(chosen)
    context.write(position)
    if returned is not None:
        returned.write(needed)
    return Status.SUCCESS if single or position >= len(entries) else Status.MORE_ENTRIES


@syscall
def NtCreateSymbolicLinkObject(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None, target: uptr
) -> int:
    """Create a symbolic link in the object directory."""
    if attributes is None:
        raise NtError(Status.ACCESS_VIOLATION)
    text = read_unicode_string(call.memory, target)
    if not text or not call.memory.u16(target + 2):
        raise NtError(Status.INVALID_PARAMETER)
    link, status = call.kernel.namespace.create(attributes, SymbolicLink, lambda: SymbolicLink(text))
    call.give_handle(handle, link, access, attributes)
    return status


@syscall
def NtOpenSymbolicLinkObject(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes
) -> None:
    """Open a symbolic link itself."""
    attributes.flags |= OBJ_OPENLINK
    call.give_handle(handle, call.kernel.namespace.open(attributes, SymbolicLink), access, attributes)


@syscall
def NtQuerySymbolicLinkObject(
    call: Call,
    link: Handle[SymbolicLink, rights.SYMBOLIC_LINK_QUERY],
    target: uptr,
    returned: Out[u32] | None,
) -> None:
    """Where a symbolic link points: into the buffer of the UNICODE_STRING given."""
    text = link.target.encode("utf-16-le", "surrogatepass")
    maximum, buffer = struct.unpack("<2xH4xQ", call.memory.read(target, 16))
    if returned is not None:
        returned.write(len(text) + 2)
    if maximum < len(text) + 2:
        raise NtError(Status.BUFFER_TOO_SMALL)
    call.memory.write(buffer, text + b"\0\0")
    call.memory.write(target, len(text).to_bytes(2, "little"))


# -- security ---------------------------------------------------------------------------------------------


@syscall
def NtQuerySecurityObject(
    call: Call,
    target: Handle[KernelObject, READ_CONTROL],
    parts: u32,
    buffer: uptr,
    length: u32,
    returned: Out[u32],
) -> None:
    """The parts of an object's security descriptor that the caller wants, self-relative."""
    descriptor = target.security or default_descriptor()
    answer(call, buffer, length, returned, select_parts(descriptor, parts), Status.BUFFER_TOO_SMALL)


@syscall
def NtSetSecurityObject(call: Call, handle: uptr, parts: u32, descriptor: uptr) -> None:
    """Replace parts of an object's security descriptor.

    It is kept and shown again; access is not decided by it.
    """
    needed = (rights.WRITE_OWNER if parts & 0x3 else 0) | (rights.WRITE_DAC if parts & 0x4 else 0)
    needed |= rights.ACCESS_SYSTEM_SECURITY if parts & 0x8 else 0
    target = call.process.handles.resolve(handle, KernelObject, needed)
    given = read_descriptor(call.memory, descriptor)
    target.security = select_parts(given, parts, base=target.security or default_descriptor())
