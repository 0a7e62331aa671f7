"""The information classes of NtQueryVirtualMemory, each a function that returns the bytes for the guest."""

from __future__ import annotations

import struct

from nexus.nt.errors import NtError
from nexus.nt.information import refuse
from nexus.nt.mm.vad import (
    MEM_COMMIT,
    MEM_FREE,
    MEM_IMAGE,
    MEM_PRIVATE,
    MEM_RESERVE,
    PAGE,
    PAGE_GUARD,
    PAGE_NOACCESS,
)
from nexus.nt.query import pointer
from nexus.nt.status import Status
from nexus.nt.unix.unixlibs import unixlib_handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call
    from nexus.nt.mm.memory import AddressSpace
    from nexus.nt.ps.process import Process

BASIC, WORKING_SET, MAPPED_FILE_NAME, REGION, WORKING_SET_EX, _SHARED_COMMIT, IMAGE = range(7)
WINE_UNIX_FUNCTIONS, WINE_UNIX_WOW64_FUNCTIONS = 1000, 1001

_BASIC = struct.Struct("<QQIIQIIII")
_REGION = struct.Struct("<QIIQQQQ")
_IMAGE = struct.Struct("<QQII")
_IMAGE_SIGNING_LEVEL = 12


def query_memory(call: Call, process: Process, address: int, kind: int, buffer: int, length: int) -> int:
    """Write one class's answer to `buffer`; returns its size."""
    space = process.space
    if kind == BASIC:
        return _write(call, buffer, length, basic_information(space, address))
    if kind == WORKING_SET_EX:
        return _working_set_ex(call, space, buffer, length)
    if kind == MAPPED_FILE_NAME:
        return _mapped_file_name(call, space, address, buffer, length)
    if kind == REGION:
        return _region(call, space, address, buffer, length)
    if kind == IMAGE:
        return _write(call, buffer, length, _image_information(space, address))
    if kind in (WINE_UNIX_FUNCTIONS, WINE_UNIX_WOW64_FUNCTIONS):
        return _unix_functions(call, process, address, kind, buffer, length)
    raise refuse(call, "NtQueryVirtualMemory", kind, (), "src/nexus/nt/mm/memory_query.py")


def _write(call: Call, buffer: int, length: int, content: bytes) -> int:
    if length < len(content):
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    call.memory.write(buffer, content)
    return len(content)


def basic_information(space: AddressSpace, address: int) -> bytes:
    """MEMORY_BASIC_INFORMATION of the stretch of equal pages that begins at `address`."""
    base = address & -PAGE
    if base >= space.top:
        raise NtError(Status.INVALID_PARAMETER)
    region = space.regions.at(base)
    if region is None:
        following = space.regions.next_after(base)
        end = following.base if following is not None else space.top
        return _BASIC.pack(base, 0, 0, 0, end - base, MEM_FREE, PAGE_NOACCESS, 0, 0)
    end, protect = space.page_run(region, base)
    state = MEM_COMMIT if protect else MEM_RESERVE
    return _BASIC.pack(
        base, region.base, region.protect, 0, end - base, state, protect, region.kind, 0
    )  # fmt: skip


def _region(call: Call, space: AddressSpace, address: int, buffer: int, length: int) -> int:
    """MEMORY_REGION_INFORMATION; callers may leave out its last fields."""
    base = address & -PAGE
    region = space.regions.at(base) if base < space.top else None
    if length < 24:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    if region is None:
        raise NtError(Status.INVALID_ADDRESS if base < space.top else Status.INVALID_PARAMETER)
    committed = sum(end - start for start, end, p in space.pages.runs(region.base, region.end) if p)
    content = _REGION.pack(region.base, region.protect, 0, region.size, committed, 0, 0)[:length]
    call.memory.write(buffer, content)
    return len(content)


def _image_information(space: AddressSpace, address: int) -> bytes:
    """MEMORY_IMAGE_INFORMATION; all zero for memory that is not an image."""
    region = space.regions.at(address)
    if region is None:
        raise NtError(Status.INVALID_ADDRESS)
    if region.kind != MEM_IMAGE:
        return bytes(_IMAGE.size)
    return _IMAGE.pack(region.base, region.size, _IMAGE_SIGNING_LEVEL << 2, 0)


def _working_set_ex(call: Call, space: AddressSpace, buffer: int, length: int) -> int:
    """MEMORY_WORKING_SET_EX_INFORMATION: every accessible page counts as resident."""
    if length < 16:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    for at in range(buffer, buffer + length // 16 * 16, 16):
        address = call.memory.u64(at)
        call.memory.w64(at + 8, _page_attributes(space, address & -PAGE))
    return length


def _page_attributes(space: AddressSpace, page: int) -> int:
    """Valid (bit 0), share count (1-3), Win32 protection (4-14), shared (15)."""
    region = space.regions.at(page) if page < space.top else None
    protect = space.pages[page] if region is not None else 0
    if region is None or not protect:
        return 0
    shared = region.kind != MEM_PRIVATE
    if protect & PAGE_GUARD or protect & 0xFF == PAGE_NOACCESS:
        return shared << 15
    return 1 | shared << 1 | (protect & 0x7FF) << 4 | shared << 15


def _mapped_file_name(call: Call, space: AddressSpace, address: int, buffer: int, length: int) -> int:
    """UNICODE_STRING and the NT path of the mapped file behind it."""
    region = space.regions.at(address)
    if region is None or region.backing is None:
        raise NtError(Status.INVALID_ADDRESS)
    name = region.backing.file_name()
    if name is None:
        raise NtError(Status.FILE_INVALID)
    text = name.encode("utf-16-le", "surrogatepass")
    size = 16 + len(text) + 2
    if length < size:
        raise NtError(Status.INFO_LENGTH_MISMATCH if length < 16 else Status.BUFFER_OVERFLOW)
    header = struct.pack("<HHIQ", len(text), len(text) + 2, 0, pointer(buffer + 16))
    call.memory.write(buffer, header + text + b"\0\0")
    return size


def _unix_functions(call: Call, process: Process, address: int, kind: int, buffer: int, length: int) -> int:
    """Wine's own class: the handle under which a DLL makes its unix calls."""
    if length != 8:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    region = process.space.regions.at(address)
    if region is None or region.kind != MEM_IMAGE:
        raise NtError(Status.INVALID_PARAMETER)
    handle = unixlib_handle(region.name) if kind == WINE_UNIX_FUNCTIONS else 0
    if not handle:
        raise NtError(Status.DLL_NOT_FOUND)
    call.memory.w64(buffer, handle)
    return 8
