"""Sections: NtCreateSection, views, and what can be asked about them."""

from __future__ import annotations

import struct

from nexus.abi.types import i32, i64, u32, u64, uptr
from nexus.nt.access import (
    PROCESS_VM_OPERATION,
    SECTION_MAP_EXECUTE,
    SECTION_MAP_READ,
    SECTION_MAP_WRITE,
    SECTION_QUERY,
)
from nexus.nt.errors import NtError
from nexus.nt.information import refuse
from nexus.nt.mm.memory import Limits, zero_bits_limit
from nexus.nt.mm.section import (
    SEC_IMAGE,
    Section,
    anonymous_section,
    check_section_arguments,
    file_section,
    image_section,
    source_of,
)
from nexus.nt.mm.vad import (
    GRANULARITY,
    MEM_IMAGE,
    MEM_PRESERVE_PLACEHOLDER,
    MEM_REPLACE_PLACEHOLDER,
    PAGE,
    PAGE_EXECUTE,
    PAGE_EXECUTE_READ,
    PAGE_EXECUTE_READWRITE,
    PAGE_EXECUTE_WRITECOPY,
    PAGE_NOACCESS,
    PAGE_READONLY,
    PAGE_READWRITE,
    PAGE_WRITECOPY,
)
from nexus.nt.objects import KernelObject
from nexus.nt.ps.process import Process
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, In, NewHandle, ObjectAttributes, Out, Ptr, syscall
from nexus.nt.syscalls.memory import extended_parameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_BASIC, _IMAGE = 0, 1
_FILE_READ_DATA, _FILE_WRITE_DATA = 1, 2

_RIGHTS_FOR_VIEW = {
    PAGE_NOACCESS: SECTION_MAP_READ,
    PAGE_READONLY: SECTION_MAP_READ,
    PAGE_WRITECOPY: SECTION_MAP_READ,
    PAGE_READWRITE: SECTION_MAP_WRITE,
    PAGE_EXECUTE: SECTION_MAP_READ | SECTION_MAP_EXECUTE,
    PAGE_EXECUTE_READ: SECTION_MAP_READ | SECTION_MAP_EXECUTE,
    PAGE_EXECUTE_WRITECOPY: SECTION_MAP_READ | SECTION_MAP_EXECUTE,
    PAGE_EXECUTE_READWRITE: SECTION_MAP_WRITE | SECTION_MAP_EXECUTE,
}
_RIGHTS_ON_FILE = {
    PAGE_READWRITE: _FILE_READ_DATA | _FILE_WRITE_DATA,
    PAGE_EXECUTE_READWRITE: _FILE_READ_DATA | _FILE_WRITE_DATA,
    PAGE_EXECUTE: 0,
    PAGE_NOACCESS: 0,
}


@syscall
def NtCreateSection(
    call: Call,
    handle: NewHandle,
    access: u32,
    attributes: ObjectAttributes | None,
    size: In[i64] | None,
    protect: u32,
    flags: u32,
    file: uptr,
) -> int:
    """A section over a file, an image or anonymous memory."""
    length = size.read() if size is not None else 0
    check_section_arguments(length, protect, flags, bool(file))

    def create() -> Section:
        return _create(call, length, protect, flags, file)

    section, status = call.kernel.namespace.create(attributes, Section, create)
    call.give_handle(handle, section, access, attributes)
    return status


def _create(call: Call, size: int, protect: int, flags: int, file: int) -> Section:
    if not file:
        return anonymous_section(size, protect, flags, call.kernel.commitment)
    rights = _RIGHTS_ON_FILE.get(protect & 0xFF, _FILE_READ_DATA)
    if flags & SEC_IMAGE:
        rights &= _FILE_READ_DATA
    source = source_of(call.process.handles.resolve(file, KernelObject, rights))
    if flags & SEC_IMAGE:
        return image_section(source, protect, flags)
    return file_section(source, size, protect, flags)


@syscall
def NtOpenSection(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes) -> None:
    """A handle to a section by its name."""
    call.give_handle(handle, call.kernel.namespace.open(attributes, Section), access, attributes)


@syscall
def NtMapViewOfSection(
    call: Call,
    section: uptr,
    process: Handle[Process, PROCESS_VM_OPERATION],
    base: Ptr[uptr],
    zero_bits: uptr,
    commit_size: uptr,
    offset: Ptr[i64] | None,
    size: Ptr[uptr],
    inherit: u32,
    flags: u32,
    protect: u32,
) -> int:
    """Show a section in a process."""
    address = base.read()
    limits = zero_bits_limit(zero_bits, Status.INVALID_PARAMETER_4)
    if address and limits.high and address > limits.high:
        raise NtError(Status.INVALID_PARAMETER_4)
    if address:
        limits = Limits()
    return _map(call, section, process, base, offset, size, flags, protect, limits)


@syscall
def NtMapViewOfSectionEx(
    call: Call,
    section: uptr,
    process: Handle[Process, PROCESS_VM_OPERATION],
    base: Ptr[uptr],
    offset: Ptr[i64] | None,
    size: Ptr[uptr],
    flags: u32,
    protect: u32,
    parameters: uptr,
    count: u32,
) -> int:
    """Like NtMapViewOfSection, with placeholders and address requirements."""
    limits = extended_parameters(call, parameters, count, process.space)
    if limits.alignment or (base.read() and (limits.low or limits.high)):
        raise NtError(Status.INVALID_PARAMETER)
    return _map(call, section, process, base, offset, size, flags, protect, limits)


def _map(
    call: Call,
    section: int,
    process: Process,
    base: Ptr[uptr],
    offset: Ptr[i64] | None,
    size: Ptr[uptr],
    flags: int,
    protect: int,
    limits: Limits,
) -> int:
    address, length = base.read(), size.read()
    start = offset.read() if offset is not None else 0
    unit = PAGE if flags & MEM_REPLACE_PLACEHOLDER else GRANULARITY
    if start & (unit - 1) or address & (unit - 1):
        raise NtError(Status.MAPPED_ALIGNMENT)
    if start < 0:
        raise NtError(Status.INVALID_PARAMETER)
    rights = _RIGHTS_FOR_VIEW.get(protect & 0xFF)
    if rights is None:
        raise NtError(Status.INVALID_PAGE_PROTECTION)
    target = call.process.handles.resolve(section, Section, rights)
    region = target.map(process.space, address, start, length, flags, protect, limits)
    if region.kind == MEM_IMAGE:
        process.module_mapped(region)
    try:
        base.write(region.base)
        size.write(region.size)
    except BaseException:
        _unmap(process, region.base)
        raise
    away = target.image is not None and region.base != target.image.home(process.space)
    return Status.IMAGE_NOT_AT_BASE if away else Status.SUCCESS


@syscall
def NtUnmapViewOfSection(call: Call, process: Handle[Process, PROCESS_VM_OPERATION], address: uptr) -> None:
    """Take a view out of a process."""
    _unmap(process, address)


@syscall
def NtUnmapViewOfSectionEx(
    call: Call, process: Handle[Process, PROCESS_VM_OPERATION], address: uptr, flags: u32
) -> None:
    """Like NtUnmapViewOfSection; the address space may stay behind as a placeholder."""
    if flags & ~(MEM_PRESERVE_PLACEHOLDER | 1):
        raise NtError(Status.INVALID_PARAMETER)
    _unmap(process, address, keep_placeholder=bool(flags & MEM_PRESERVE_PLACEHOLDER))


def _unmap(process: Process, address: int, *, keep_placeholder: bool = False) -> None:
    region = process.space.regions.at(address)
    process.space.unmap(address, keep_placeholder=keep_placeholder)
    if region is not None and region.kind == MEM_IMAGE:
        process.module_unmapped(region.base)


@syscall
def NtQuerySection(
    call: Call,
    section: Handle[Section, SECTION_QUERY],
    kind: i32,
    buffer: uptr,
    length: uptr,
    returned: Out[u64] | None,
) -> None:
    """SectionBasicInformation and SectionImageInformation."""
    if kind == _BASIC:
        content = struct.pack("<QIIQ", 0, section.attributes, 0, section.size)
    elif kind == _IMAGE:
        if section.image is None:
            raise NtError(Status.INFO_LENGTH_MISMATCH if length < 64 else Status.SECTION_NOT_IMAGE)
        content = section.image.information()
    else:
        raise refuse(call, "NtQuerySection", kind, (), "", Status.NOT_IMPLEMENTED)
    if length < len(content):
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    call.memory.write(buffer, content)
    if returned is not None:
        returned.write(len(content))
