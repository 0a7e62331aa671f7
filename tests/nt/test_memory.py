"""Virtual memory: expected values are those of Windows as Wine's own tests and Microsoft's documentation
state them.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from fake_machine import SCRATCH, SCRATCH_SIZE, Machine
from nexus.base.errors import GuestFault
from nexus.nt.errors import NtError
from nexus.nt.mm.vad import PAGE_READWRITE, Region
from nexus.nt.status import Status

SELF = -1
COMMIT, RESERVE, DECOMMIT, RELEASE, TOP_DOWN = 0x1000, 0x2000, 0x4000, 0x8000, 0x100000
PLACEHOLDER, REPLACE, PRESERVE, COALESCE = 0x40000, 0x4000, 2, 1
WRITE_WATCH = 0x200000
NOACCESS, READONLY, READWRITE, WRITECOPY, EXECUTE_READ, GUARD = 1, 2, 4, 8, 0x20, 0x100
FREE, PRIVATE = 0x10000, 0x20000
PAGE = 0x1000


@pytest.fixture(autouse=True)
def scratch_is_a_region(machine: Machine) -> None:
    machine.process.space.regions.add(Region(SCRATCH, SCRATCH_SIZE, PAGE_READWRITE))


def allocate(
    machine: Machine, size: int, kind: int, protect: int, at: int = 0, zero_bits: int = 0
) -> tuple[int, int, int]:
    """(status, base, size) of NtAllocateVirtualMemory."""
    base, length = machine.put(struct.pack("<Q", at)), machine.put(struct.pack("<Q", size))
    status = machine.NtAllocateVirtualMemory(SELF, base, zero_bits, length, kind, protect)
    return status, machine.memory.u64(base), machine.memory.u64(length)


def allocate_ex(machine: Machine, size: int, kind: int, protect: int, at: int = 0) -> tuple[int, int]:
    base, length = machine.put(struct.pack("<Q", at)), machine.put(struct.pack("<Q", size))
    status = machine.NtAllocateVirtualMemoryEx(SELF, base, length, kind, protect, 0, 0)
    return status, machine.memory.u64(base)


def reserve(machine: Machine, size: int, kind: int = RESERVE | COMMIT, protect: int = READWRITE) -> int:
    status, base, _ = allocate(machine, size, kind, protect)
    assert status == Status.SUCCESS
    return base


def free(machine: Machine, at: int, size: int, kind: int) -> int:
    base, length = machine.put(struct.pack("<Q", at)), machine.put(struct.pack("<Q", size))
    status: int = machine.NtFreeVirtualMemory(SELF, base, length, kind)
    return status


def protect(machine: Machine, at: int, size: int, wanted: int) -> tuple[int, int]:
    """(status, old protection)."""
    base, length = machine.put(struct.pack("<Q", at)), machine.put(struct.pack("<Q", size))
    old = machine.put(8)
    status = machine.NtProtectVirtualMemory(SELF, base, length, wanted, old)
    return status, machine.memory.u32(old)


def query(machine: Machine, address: int) -> Any:
    """(base, allocation base, allocation protection, size, state, protection, type)."""
    buffer = machine.put(48)
    assert machine.NtQueryVirtualMemory(SELF, address, 0, buffer, 48, 0) == Status.SUCCESS
    base, allocation, initial, _, size, state, now, kind, _ = struct.unpack(
        "<QQIIQIIII", machine.memory.read(buffer, 48)
    )
    return base, allocation, initial, size, state, now, kind


def test_reserving_rounds_to_64_kb_and_committing_to_pages(machine: Machine) -> None:
    status, base, size = allocate(machine, 0x1001, RESERVE, READWRITE)
    assert (status, base % 0x10000, size) == (Status.SUCCESS, 0, 0x2000)
    assert query(machine, base) == (base, base, READWRITE, 0x2000, RESERVE, 0, PRIVATE)
    status, at, size = allocate(machine, 2, COMMIT, READONLY, at=base + 0xFFF)
    assert (status, at, size) == (Status.SUCCESS, base, 0x2000)
    assert query(machine, base + PAGE) == (base + PAGE, base, READWRITE, PAGE, COMMIT, READONLY, PRIVATE)


def test_a_reservation_at_an_odd_address_begins_below_it(machine: Machine) -> None:
    status, base, size = allocate(machine, PAGE, RESERVE, READWRITE, at=0x1001_2345)
    assert (status, base, size) == (Status.SUCCESS, 0x1001_0000, 0x4000)


@pytest.mark.parametrize(
    ("size", "kind", "protection", "at", "zero_bits", "status"),
    [
        (0, COMMIT, READWRITE, 0, 0, Status.INVALID_PARAMETER),
        (PAGE, 0, READWRITE, 0, 0, Status.INVALID_PARAMETER),
        (PAGE, 0x80000000, READWRITE, 0, 0, Status.INVALID_PARAMETER),
        (PAGE, COMMIT, 0x55, 0, 0, Status.INVALID_PAGE_PROTECTION),
        (PAGE, RESERVE, WRITECOPY, 0, 0, Status.INVALID_PAGE_PROTECTION),
        (PAGE, RESERVE, READWRITE, 0x1000, 0, Status.INVALID_PARAMETER),
        (PAGE, RESERVE, READWRITE, 0xFFFF_8000_0000_0000, 0, Status.INVALID_PARAMETER),
        (1 << 62, RESERVE, READWRITE, 0, 0, Status.NO_MEMORY),
        (PAGE, RESERVE, READWRITE, SCRATCH, 0, Status.CONFLICTING_ADDRESSES),
        (PAGE, COMMIT, READWRITE, 0x3000_0000, 0, Status.CONFLICTING_ADDRESSES),
        (PAGE, RESERVE, READWRITE, 0, 22, Status.INVALID_PARAMETER_3),
        (PAGE, RESERVE, READWRITE, 0, 33, Status.INVALID_PARAMETER_3),
    ],
)
def test_refused_allocations(
    machine: Machine, size: int, kind: int, protection: int, at: int, zero_bits: int, status: int
) -> None:
    assert allocate(machine, size, kind, protection, at, zero_bits)[0] == status


def test_zero_bits_and_top_down_choose_the_place(machine: Machine) -> None:
    _, low, _ = allocate(machine, PAGE, RESERVE, READWRITE, zero_bits=12)
    assert low < 1 << 20
    _, high, _ = allocate(machine, PAGE, RESERVE | TOP_DOWN, READWRITE)
    assert high > machine.process.space.top - 0x20000


def test_committed_memory_counts_against_the_limit(machine: Machine) -> None:
    limit = machine.kernel.commitment.limit
    machine.kernel.commitment.limit = machine.kernel.commitment.used + 0x10000
    try:
        assert allocate(machine, 0x20000, RESERVE | COMMIT, READWRITE)[0] == Status.COMMITMENT_LIMIT
        base = reserve(machine, 0x10000)
        assert free(machine, base, 0, RELEASE) == Status.SUCCESS
        reserve(machine, 0x10000)
    finally:
        machine.kernel.commitment.limit = limit


def test_freeing(machine: Machine) -> None:
    base = reserve(machine, 0x10000)
    assert free(machine, base + 0x1001, 0, DECOMMIT) == Status.FREE_VM_NOT_AT_BASE
    assert free(machine, base, 0x20000, RELEASE) == Status.UNABLE_TO_FREE_VM
    assert free(machine, 0x3000_0000, 0, RELEASE) == Status.MEMORY_NOT_ALLOCATED
    assert free(machine, base + 0x1FFF, 2, DECOMMIT) == Status.SUCCESS
    assert query(machine, base + 0x1000)[3:6] == (0x2000, RESERVE, 0)
    assert free(machine, base + 0x4000, 0x1000, RELEASE) == Status.SUCCESS
    assert query(machine, base + 0x4000)[4] == FREE
    assert query(machine, base + 0x5000)[1] == base + 0x5000


def test_decommitted_pages_come_back_as_zeros(machine: Machine) -> None:
    base = reserve(machine, PAGE)
    machine.memory.write(base, b"old")
    free(machine, base, PAGE, DECOMMIT)
    with pytest.raises(GuestFault):
        machine.memory.read(base, 3)
    allocate(machine, PAGE, COMMIT, READWRITE, at=base)
    assert machine.memory.read(base, 3) == b"\0\0\0"


def test_protecting_tells_the_old_protection_and_needs_committed_pages(machine: Machine) -> None:
    base = reserve(machine, 0x3000)
    assert protect(machine, base + PAGE, 1, EXECUTE_READ) == (Status.SUCCESS, READWRITE)
    assert protect(machine, base, 0x3000, READONLY) == (Status.SUCCESS, READWRITE)
    assert protect(machine, base + PAGE, PAGE, NOACCESS) == (Status.SUCCESS, READONLY)
    assert protect(machine, base, PAGE, WRITECOPY)[0] == Status.INVALID_PAGE_PROTECTION
    assert protect(machine, base, PAGE, 0)[0] == Status.INVALID_PAGE_PROTECTION
    free(machine, base, PAGE, DECOMMIT)
    assert protect(machine, base, 0x2000, READONLY)[0] == Status.NOT_COMMITTED
    with pytest.raises(GuestFault):
        machine.memory.write(base + 0x2000, b"x")


def test_a_guard_page_guards_once(machine: Machine) -> None:
    base = reserve(machine, PAGE, RESERVE | COMMIT, READWRITE | GUARD)
    space = machine.process.space
    with pytest.raises(GuestFault):
        machine.memory.read(base, 1)
    assert space.guard_hit(base + 5)
    assert not space.guard_hit(base + 5)
    assert machine.memory.read(base, 1) == b"\0"
    assert query(machine, base)[5] == READWRITE


def test_placeholders_split_are_replaced_and_coalesce(machine: Machine) -> None:
    status, base = allocate_ex(machine, 0x30000, RESERVE | PLACEHOLDER, NOACCESS)
    assert status == Status.SUCCESS
    kind = RESERVE | COMMIT | REPLACE
    assert allocate_ex(machine, 0x10000, kind, READWRITE, base)[0] == Status.CONFLICTING_ADDRESSES
    assert free(machine, base + 0x10000, 0x10000, RELEASE | PRESERVE) == Status.SUCCESS
    assert query(machine, base)[3] == query(machine, base + 0x10000)[3] == 0x10000
    assert allocate_ex(machine, 0x10000, kind, READWRITE, base + 0x10000)[0] == Status.SUCCESS
    assert free(machine, base, 0x30000, RELEASE | COALESCE) == Status.CONFLICTING_ADDRESSES
    assert free(machine, base + 0x10000, 0x10000, RELEASE | PRESERVE) == Status.SUCCESS
    assert free(machine, base, 0x30000, RELEASE | COALESCE) == Status.SUCCESS
    assert query(machine, base)[3] == 0x30000
    assert allocate_ex(machine, PAGE, RESERVE | PLACEHOLDER, READWRITE)[0] == Status.INVALID_PARAMETER


def test_write_watch_names_the_written_pages(machine: Machine) -> None:
    base = reserve(machine, 0x8000, RESERVE | COMMIT | WRITE_WATCH)
    machine.memory.write(base + 0x2FFF, b"xy")
    addresses, count, size = machine.put(64), machine.put(struct.pack("<Q", 8)), machine.put(8)
    assert machine.NtGetWriteWatch(SELF, 1, base, 0x8000, addresses, count, size) == Status.SUCCESS
    assert machine.memory.u64(count) == 2
    assert struct.unpack("<QQ", machine.memory.read(addresses, 16)) == (base + 0x2000, base + 0x3000)
    machine.memory.w64(count, 8)
    machine.NtGetWriteWatch(SELF, 0, base, 0x8000, addresses, count, size)
    assert machine.memory.u64(count) == 0


def test_write_watch_remembers_decommitted_pages_and_counts_what_is_announced(machine: Machine) -> None:
    base = reserve(machine, 0x8000, RESERVE | COMMIT | WRITE_WATCH)
    machine.memory.write(base + 0x2000, b"x")
    assert free(machine, base, 0x8000, DECOMMIT) == Status.SUCCESS
    addresses, count, size = machine.put(64), machine.put(struct.pack("<Q", 8)), machine.put(8)
    assert machine.NtGetWriteWatch(SELF, 1, base, 0x8000, addresses, count, size) == Status.SUCCESS
    assert (machine.memory.u64(count), machine.memory.u64(addresses)) == (1, base + 0x2000)
    allocate(machine, 0x8000, COMMIT, READWRITE, base)
    machine.memory.announce_write(base + 0x3FFF, 2)
    machine.memory.w64(count, 8)
    machine.NtGetWriteWatch(SELF, 0, base, 0x8000, addresses, count, size)
    assert struct.unpack("<QQ", machine.memory.read(addresses, 16)) == (base + 0x3000, base + 0x4000)


def test_a_stack_grows_only_inside_one_private_region(machine: Machine) -> None:
    base, space = reserve(machine, 0x10000, RESERVE), machine.process.space
    allocate(machine, PAGE, COMMIT, READWRITE | GUARD, base + 0xF000)
    assert space.guard_hit(base + 0xF000)
    assert space.grow_stack(base + 0xF000, base, 0x2000) == (base + 0xF000, False)
    assert query(machine, base + 0xE000)[5] == READWRITE | GUARD
    with pytest.raises(NtError):
        space.grow_stack(base + 0xF000, base - 0x10000, 0x2000)
    assert space.grow_stack(base + 0xF000, base, 0xFFFF_F000) == (base + PAGE, True)
    assert query(machine, base + 0x10000)[4] == FREE


def test_reading_and_writing_another_process(machine: Machine) -> None:
    base, buffer = reserve(machine, 0x3000), reserve(machine, 0x3000)
    machine.memory.write(buffer, b"abc" * 0x1000)
    protect(machine, base + 0x2000, PAGE, READONLY)
    returned = machine.put(8)
    assert machine.NtWriteVirtualMemory(SELF, base, buffer, 0x3000, returned) == Status.PARTIAL_COPY
    assert machine.memory.u64(returned) == 0x2000
    assert machine.NtReadVirtualMemory(SELF, base, buffer, 0x2000, returned) == Status.SUCCESS
    assert machine.NtReadVirtualMemory(SELF, 0x3000_0000, buffer, 8, returned) == Status.PARTIAL_COPY
    assert machine.memory.u64(returned) == 0
    assert machine.NtReadVirtualMemory(SELF, base, base + 0x2000, 8, returned) == Status.ACCESS_VIOLATION


def test_queries_of_free_and_impossible_addresses(machine: Machine) -> None:
    base = reserve(machine, PAGE)
    assert query(machine, base + PAGE)[4:] == (FREE, NOACCESS, 0)
    buffer = machine.put(48)
    top = machine.process.space.top
    assert machine.NtQueryVirtualMemory(SELF, top, 0, buffer, 48, 0) == Status.INVALID_PARAMETER
    assert machine.NtQueryVirtualMemory(SELF, base, 0, buffer, 47, 0) == Status.INFO_LENGTH_MISMATCH
    assert (
        machine.NtQueryVirtualMemory(SELF, base, 0, 0xFFFF_8000_0000_0000, 48, 0) == Status.ACCESS_VIOLATION
    )
