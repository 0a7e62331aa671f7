"""Regions of a guest address space (virtual address descriptors) and the vocabulary of NT memory.

A region is one allocation: reserved with one call, released as a whole or in parts. `Regions` keeps them
sorted and finds free space; what each page of a region is (committed, with which protection) is kept by
`memory.py`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from nexus.nt.mm.memory import AddressSpace

    class Backing(Protocol):
        """What a region that is not private shows: a section (`nexus.nt.mm.section.Section`)."""

        def file_name(self) -> str | None: ...
        def same_file(self, other: Backing) -> bool: ...
        def commit(self, space: AddressSpace, region: Region, base: int, size: int, protect: int) -> bool: ...
        def checked_protection(self, region: Region, protect: int) -> int: ...
        def before_protect(
            self, space: AddressSpace, region: Region, base: int, size: int, protect: int
        ) -> None: ...
        def unmapped(self, space: AddressSpace, region: Region) -> None: ...


PAGE = 0x1000
GRANULARITY = 0x10000
LOWEST = 0x10000
"""The first 64 KB are never given away, so that null pointers fault."""

MEM_COMMIT, MEM_RESERVE, MEM_REPLACE_PLACEHOLDER = 0x1000, 0x2000, 0x4000
MEM_RESERVE_PLACEHOLDER, MEM_RESET, MEM_TOP_DOWN, MEM_WRITE_WATCH = 0x40000, 0x80000, 0x100000, 0x200000
MEM_COALESCE_PLACEHOLDERS, MEM_PRESERVE_PLACEHOLDER, MEM_DECOMMIT, MEM_RELEASE = 1, 2, 0x4000, 0x8000
MEM_FREE, MEM_PRIVATE, MEM_MAPPED, MEM_IMAGE = 0x10000, 0x20000, 0x40000, 0x1000000

PAGE_NOACCESS, PAGE_READONLY, PAGE_READWRITE, PAGE_WRITECOPY = 0x01, 0x02, 0x04, 0x08
PAGE_EXECUTE, PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE, PAGE_EXECUTE_WRITECOPY = 0x10, 0x20, 0x40, 0x80
PAGE_GUARD, PAGE_NOCACHE, PAGE_WRITECOMBINE = 0x100, 0x200, 0x400

READ, WRITE, EXECUTE = 1, 2, 4
_ACCESS = {
    PAGE_NOACCESS: 0,
    PAGE_READONLY: READ,
    PAGE_READWRITE: READ | WRITE,
    PAGE_WRITECOPY: READ | WRITE,
    PAGE_EXECUTE: READ | EXECUTE,  # x86 pages cannot be executable and not readable
    PAGE_EXECUTE_READ: READ | EXECUTE,
    PAGE_EXECUTE_READWRITE: READ | WRITE | EXECUTE,
    PAGE_EXECUTE_WRITECOPY: READ | WRITE | EXECUTE,
}


def is_valid_protection(protect: int) -> bool:
    return protect & 0xFF in _ACCESS


def page_access(protect: int) -> int:
    """The accesses (READ | WRITE | EXECUTE) that a protection allows; a guard page allows none."""
    return 0 if protect & PAGE_GUARD else _ACCESS[protect & 0xFF]


def round_up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


class Region:
    """One allocation of address space."""

    __slots__ = (
        "backing",
        "base",
        "charged",
        "free_placeholder",
        "kind",
        "name",
        "offset",
        "placeholder",
        "protect",
        "size",
        "write_watch",
        "written_before",
    )

    def __init__(self, base: int, size: int, protect: int, kind: int = MEM_PRIVATE) -> None:
        self.base = base
        self.size = size
        self.protect = protect
        self.kind = kind
        self.placeholder = False  # reserved as, or in place of, a placeholder
        self.free_placeholder = False  # a placeholder nothing has replaced yet
        self.write_watch = False
        self.written_before: set[int] = set()  # of a write watch: pages decommitted after they were written
        self.charged = True  # committed pages count against the commit limit
        self.name = ""  # for people: "stack", "teb", ...
        self.backing: Backing | None = None
        self.offset = 0

    @property
    def end(self) -> int:
        return self.base + self.size

    def part(self, base: int, size: int) -> Region:
        """A region with the same properties for a part of this one."""
        other = Region(base, size, self.protect, self.kind)
        other.placeholder = self.placeholder
        other.free_placeholder = self.free_placeholder
        other.write_watch = self.write_watch
        other.written_before = {page for page in self.written_before if base <= page < base + size}
        other.charged = self.charged
        other.name = self.name
        other.backing = self.backing
        other.offset = self.offset + base - self.base
        return other

    def __repr__(self) -> str:
        return f"<Region {self.base:#x}-{self.end:#x} {self.name}>"


class Regions:
    """The regions of one address space, which never overlap, sorted by address."""

    __slots__ = ("_bases", "_regions")

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._regions: list[Region] = []

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def at(self, address: int) -> Region | None:
        """The region that holds an address."""
        index = bisect_right(self._bases, address) - 1
        if index < 0 or address >= self._regions[index].end:
            return None
        return self._regions[index]

    def holding(self, address: int, size: int) -> Region | None:
        """The region that holds the whole range."""
        region = self.at(address)
        return region if region is not None and address + size <= region.end else None

    def next_after(self, address: int) -> Region | None:
        """The first region that begins above an address."""
        index = bisect_right(self._bases, address)
        return self._regions[index] if index < len(self._regions) else None

    def is_free(self, base: int, size: int) -> bool:
        index = bisect_left(self._bases, base + size)
        return index == 0 or self._regions[index - 1].end <= base

    def add(self, region: Region) -> None:
        index = bisect_left(self._bases, region.base)
        self._bases.insert(index, region.base)
        self._regions.insert(index, region)

    def remove(self, region: Region) -> None:
        index = bisect_left(self._bases, region.base)
        del self._bases[index]
        del self._regions[index]

    def cut(self, region: Region, base: int, size: int) -> Region:
        """Split a region so that [base, base + size) is a region of its own, and return that one."""
        end = base + size
        if base == region.base and end == region.end:
            return region
        self.remove(region)
        middle = region.part(base, size)
        if region.base < base:
            self.add(region.part(region.base, base - region.base))
        self.add(middle)
        if end < region.end:
            self.add(region.part(end, region.end - end))
        return middle

    def find_free(self, size: int, low: int, high: int, alignment: int, top_down: bool = False) -> int | None:
        """The lowest (or highest) aligned address in [low, high) with `size` free bytes behind it."""
        if top_down:
            return self._find_from_top(size, low, high, alignment)
        base = round_up(low, alignment)
        for index in range(max(0, bisect_right(self._bases, base) - 1), len(self._regions)):
            region = self._regions[index]
            if region.end <= base:
                continue
            if base + size <= region.base:
                break
            base = round_up(region.end, alignment)
        return base if base + size <= high else None

    def _find_from_top(self, size: int, low: int, high: int, alignment: int) -> int | None:
        base = (high - size) // alignment * alignment
        for index in range(bisect_left(self._bases, high) - 1, -1, -1):
            region = self._regions[index]
            if region.base >= base + size:
                continue
            if region.end <= base:
                break
            base = (region.base - size) // alignment * alignment
        return base if base >= low else None
