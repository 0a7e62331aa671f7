"""Virtual memory: NtAllocateVirtualMemory and its family."""

from __future__ import annotations

import struct

from nexus.abi.types import i32, u32, uptr
from nexus.base.errors import GuestFault
from nexus.loader.pe import MACHINE_AMD64
from nexus.nt.access import (
    PROCESS_QUERY_INFORMATION,
    PROCESS_SET_INFORMATION,
    PROCESS_VM_OPERATION,
    PROCESS_VM_READ,
    PROCESS_VM_WRITE,
)
from nexus.nt.errors import NtError
from nexus.nt.mm.memory import ANYWHERE, Limits, zero_bits_limit
from nexus.nt.mm.memory_query import query_memory
from nexus.nt.mm.vad import (
    GRANULARITY,
    MEM_COMMIT,
    MEM_PRIVATE,
    MEM_RELEASE,
    MEM_REPLACE_PLACEHOLDER,
    MEM_RESERVE,
    MEM_RESERVE_PLACEHOLDER,
    MEM_RESET,
    MEM_TOP_DOWN,
    MEM_WRITE_WATCH,
    PAGE,
    round_up,
)
from nexus.nt.ps.process import Process
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, In, Out, Ptr, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call
    from nexus.nt.mm.memory import AddressSpace
    from nexus.nt.mm.vad import Region

_ALLOCATION_TYPES = MEM_COMMIT | MEM_RESERVE | MEM_TOP_DOWN | MEM_WRITE_WATCH | MEM_RESET
_COPY_CHUNK = 1 << 20
_WRITE_WATCH_FLAG_RESET = 1

_ADDRESS_REQUIREMENTS, _NUMA_NODE, _PARTITION, _USER_PHYSICAL, _ATTRIBUTES, _IMAGE_MACHINE = range(1, 7)
_EC_CODE = 0x40


def extended_parameters(
    call: Call, address: int, count: int, space: AddressSpace, images: bool = True
) -> Limits:
    """The MEM_EXTENDED_PARAMETER array of the Ex calls; a machine is only for what can map `images`."""
    if count and not address:
        raise NtError(Status.INVALID_PARAMETER)
    limits = Limits()
    present: set[int] = set()
    machine = 0
    for index in range(count):
        kind, value = struct.unpack("<QQ", call.memory.read(address + 16 * index, 16))
        kind &= 0xFF
        if kind in present or kind >= 32:
            raise NtError(Status.INVALID_PARAMETER)
        present.add(kind)
        if kind == _ADDRESS_REQUIREMENTS:
            _read_requirements(call, value, space, limits)
        elif kind == _ATTRIBUTES:
            if value & _EC_CODE:
                raise NtError(Status.INVALID_PARAMETER)
        elif kind == _IMAGE_MACHINE and images:
            machine = value & 0xFFFF_FFFF
        elif kind != _NUMA_NODE:
            raise NtError(Status.INVALID_PARAMETER)
    if machine not in (0, MACHINE_AMD64):
        raise NtError(Status.NOT_SUPPORTED)
    return limits


def _read_requirements(call: Call, address: int, space: AddressSpace, limits: Limits) -> None:
    low, high, alignment = struct.unpack("<QQQ", call.memory.read(address, 24))
    if alignment and (alignment & (alignment - 1) or alignment < GRANULARITY):
        raise NtError(Status.INVALID_PARAMETER)
    if low and (low >= space.top or low & (GRANULARITY - 1)):
        raise NtError(Status.INVALID_PARAMETER)
    if high and (high > space.top or high <= low or (high + 1) & (PAGE - 1)):
        raise NtError(Status.INVALID_PARAMETER)
    limits.low, limits.high, limits.alignment = low, high, alignment


@syscall
def NtAllocateVirtualMemory(
    call: Call,
    process: Handle[Process, PROCESS_VM_OPERATION],
    base: Ptr[uptr],
    zero_bits: uptr,
    size: Ptr[uptr],
    kind: u32,
    protect: u32,
) -> None:
    """Reserve, commit or reset pages."""
    address, length = base.read(), size.read()
    if not length:
        raise NtError(Status.INVALID_PARAMETER)
    limits = zero_bits_limit(zero_bits, Status.INVALID_PARAMETER_3)
    if kind & ~_ALLOCATION_TYPES:
        raise NtError(Status.INVALID_PARAMETER)
    result = process.space.allocate(address, length, kind, protect, ANYWHERE if address else limits)
    base.write(result[0])
    size.write(result[1])


@syscall
def NtAllocateVirtualMemoryEx(
    call: Call,
    process: Handle[Process, PROCESS_VM_OPERATION],
    base: Ptr[uptr],
    size: Ptr[uptr],
    kind: u32,
    protect: u32,
    parameters: uptr,
    count: u32,
) -> None:
    """Like NtAllocateVirtualMemory, with placeholders and address requirements."""
    limits = extended_parameters(call, parameters, count, process.space, images=False)
    if kind & ~(_ALLOCATION_TYPES | MEM_RESERVE_PLACEHOLDER | MEM_REPLACE_PLACEHOLDER):
        raise NtError(Status.INVALID_PARAMETER)
    address, length = base.read(), size.read()
    if not length or (address and (limits.low or limits.high or limits.alignment)):
        raise NtError(Status.INVALID_PARAMETER)
    result = process.space.allocate(address, length, kind, protect, limits)
    base.write(result[0])
    size.write(result[1])


@syscall
def NtFreeVirtualMemory(
    call: Call, process: Handle[Process, PROCESS_VM_OPERATION], base: Ptr[uptr], size: Ptr[uptr], kind: u32
) -> None:
    """Decommit pages, or release a region or a part of one."""
    address, length = base.read(), size.read()
    if length and kind == MEM_RELEASE and process.version.release_whole:
        region = process.space.regions.at(address)
        if region is not None and not region.placeholder and round_up(length, PAGE) != region.size:
            raise NtError(Status.INVALID_PARAMETER)
    result = process.space.free(address, length, kind)
    base.write(result[0])
    size.write(result[1])


@syscall
def NtProtectVirtualMemory(
    call: Call,
    process: Handle[Process, PROCESS_VM_OPERATION],
    base: Ptr[uptr],
    size: Ptr[uptr],
    protect: u32,
    old: Out[u32] | None,
) -> None:
    """Change the protection of committed pages."""
    if old is None:
        raise NtError(Status.ACCESS_VIOLATION)
    new_base, new_size, before = process.space.protect(base.read(), size.read(), protect)
    base.write(new_base)
    size.write(new_size)
    old.write(before)


@syscall
def NtQueryVirtualMemory(
    call: Call,
    process: uptr,
    address: uptr,
    kind: i32,
    buffer: uptr,
    length: uptr,
    returned: Out[uptr] | None,
) -> None:
    """What lies at an address; the classes are in `nexus.nt.mm.memory_query`."""
    target = call.process.handles.resolve(process, Process, PROCESS_QUERY_INFORMATION)
    written = query_memory(call, target, address, kind, buffer, length)
    if returned is not None:
        returned.write(written)


@syscall
def NtReadVirtualMemory(
    call: Call,
    process: Handle[Process, PROCESS_VM_READ],
    address: uptr,
    buffer: uptr,
    size: uptr,
    returned: Out[uptr] | None,
) -> int:
    """Copy from another (or the own) process."""
    return _copy(process.space, address, call.process.space, buffer, size, returned, foreign_write=False)


@syscall
def NtWriteVirtualMemory(
    call: Call,
    process: Handle[Process, PROCESS_VM_WRITE],
    address: uptr,
    buffer: uptr,
    size: uptr,
    returned: Out[uptr] | None,
) -> int:
    """Copy into another (or the own) process; pages that forbid writing are refused."""
    return _copy(call.process.space, buffer, process.space, address, size, returned, foreign_write=True)


def _copy(
    source: AddressSpace,
    read_from: int,
    target: AddressSpace,
    write_to: int,
    size: int,
    returned: Out[uptr] | None,
    *,
    foreign_write: bool,
) -> int:
    """Copy between processes; what lies before the first address that refuses is copied and counted."""
    status, done = 0, 0
    try:
        while done < size:
            part = min(_COPY_CHUNK, size - done)
            content = source.window.read(read_from + done, part)
            try:
                target.window.write(write_to + done, content)
            except GuestFault as fault:
                if foreign_write:
                    done += max(0, min(fault.address - write_to - done, part))
                raise
            done += part
    except GuestFault as fault:
        status = Status.ACCESS_VIOLATION if fault.write and not foreign_write else Status.PARTIAL_COPY
        done = done if fault.write and foreign_write else 0
    if returned is not None:
        returned.write(done)
    return status


@syscall
def NtFlushInstructionCache(call: Call, process: Handle[Process, 0], address: uptr, size: uptr) -> None:
    """Nothing to do: translated code notices every write to the bytes it was made from."""


@syscall
def NtFlushProcessWriteBuffers(call: Call) -> None:
    """Nothing to do: a thread that is not running has no buffered writes."""


@syscall
def NtFlushVirtualMemory(
    call: Call,
    process: Handle[Process, PROCESS_VM_OPERATION],
    base: Ptr[uptr],
    size: Ptr[uptr],
    status_block: uptr,
) -> None:
    """Views share the file's pages, so there is nothing to write back; only the arguments are checked."""
    address, length = base.read() & -PAGE, size.read()
    region = process.space.regions.holding(address, length)
    if region is None:
        raise NtError(Status.INVALID_PARAMETER)
    if region.kind == MEM_PRIVATE:
        raise NtError(Status.NOT_MAPPED_DATA)
    base.write(address)
    if not length:
        size.write(region.size)


@syscall
def NtLockVirtualMemory(
    call: Call,
    process: Handle[Process, PROCESS_VM_OPERATION],
    base: Ptr[uptr],
    size: Ptr[uptr],
    how: u32,
) -> None:
    """Guest memory is never swapped by us: locking succeeds for every accessible range."""
    _lock_range(process, base, size)


@syscall
def NtUnlockVirtualMemory(
    call: Call,
    process: Handle[Process, PROCESS_VM_OPERATION],
    base: Ptr[uptr],
    size: Ptr[uptr],
    how: u32,
) -> None:
    """The counterpart of NtLockVirtualMemory."""
    _lock_range(process, base, size)


def _lock_range(process: Process, base: Ptr[uptr], size: Ptr[uptr]) -> None:
    address, length = base.read(), size.read()
    start = address & -PAGE
    whole = round_up(address + length, PAGE) - start
    if start + whole > process.space.top or not process.space.is_committed(start, whole):
        raise NtError(Status.ACCESS_DENIED)
    base.write(start)
    size.write(whole)


@syscall
def NtGetWriteWatch(
    call: Call,
    process: Handle[Process, PROCESS_VM_OPERATION],
    flags: u32,
    base: uptr,
    size: uptr,
    addresses: uptr,
    count: Ptr[uptr] | None,
    granularity: Out[u32] | None,
) -> None:
    """The pages of a MEM_WRITE_WATCH region that were written."""
    start, whole = base & -PAGE, round_up(base + size, PAGE) - (base & -PAGE)
    if count is None or granularity is None:
        raise NtError(Status.ACCESS_VIOLATION)
    room = count.read()
    if not room or not whole or flags & ~_WRITE_WATCH_FLAG_RESET:
        raise NtError(Status.INVALID_PARAMETER)
    if not addresses:
        raise NtError(Status.ACCESS_VIOLATION)
    region = _watched(process.space, start, whole)
    pages = process.space.written(region, start, whole)[:room]
    call.memory.write(addresses, struct.pack(f"<{len(pages)}Q", *pages))
    if flags & _WRITE_WATCH_FLAG_RESET:
        end = start + whole if len(pages) < room else pages[-1] + PAGE
        process.space.forget_written(region, start, end - start)
    count.write(len(pages))
    granularity.write(PAGE)


@syscall
def NtResetWriteWatch(
    call: Call, process: Handle[Process, PROCESS_VM_OPERATION], base: uptr, size: uptr
) -> None:
    """Forget which pages of a MEM_WRITE_WATCH region were written."""
    start, whole = base & -PAGE, round_up(base + size, PAGE) - (base & -PAGE)
    if not whole:
        raise NtError(Status.INVALID_PARAMETER)
    process.space.forget_written(_watched(process.space, start, whole), start, whole)


def _watched(space: AddressSpace, start: int, size: int) -> Region:
    region = space.regions.holding(start, size)
    if region is None or not region.write_watch:
        raise NtError(Status.INVALID_PARAMETER)
    return region


@syscall
def NtAreMappedFilesTheSame(call: Call, first: uptr, second: uptr) -> None:
    """Whether two views are images of one file."""
    regions = call.process.space.regions
    one, other = regions.at(first), regions.at(second)
    if one is None or other is None:
        raise NtError(Status.INVALID_ADDRESS)
    if one.kind == MEM_PRIVATE or other.kind == MEM_PRIVATE:
        raise NtError(Status.CONFLICTING_ADDRESSES)
    if one is other:
        return
    if one.backing is None or other.backing is None or not one.backing.same_file(other.backing):
        raise NtError(Status.NOT_SAME_DEVICE)


_VM_PREFETCH, _VM_PAGE_PRIORITY, _VM_CFG_CALL_TARGETS, _VM_PAGE_DIRTY_STATE = range(4)


@syscall
def NtSetInformationVirtualMemory(
    call: Call,
    process: Handle[Process, PROCESS_SET_INFORMATION],
    kind: u32,
    count: uptr,
    ranges: In[uptr],
    information: In[u32] | None,
    size: u32,
) -> None:
    """VmPrefetchInformation is a hint and nothing more; other classes are not supported, as on stock Wine."""
    if kind == _VM_PREFETCH:
        if information is None:
            raise NtError(Status.INVALID_PARAMETER_5)
        if size != 4:
            raise NtError(Status.INVALID_PARAMETER_6)
        if not count:
            raise NtError(Status.INVALID_PARAMETER_3)
        information.read()
        for index in range(min(count, 0x10000)):
            if not ranges.at(2 * index + 1).read():
                raise NtError(Status.INVALID_PARAMETER_4)
        return
    raise NtError(Status.NOT_SUPPORTED if kind == _VM_PAGE_DIRTY_STATE else Status.INVALID_PARAMETER_2)
