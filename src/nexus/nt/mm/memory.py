"""The virtual memory of one process: which pages are reserved, committed and protected, by NT's rules.

`AddressSpace` owns the regions and the state of every page; `machine.window.Window` makes it real. Addresses
and sizes come from the guest and are checked here; what fails raises `NtError` with the status Windows gives.
"""

from __future__ import annotations

from nexus.base.intervals import IntervalMap
from nexus.nt.errors import NtError
from nexus.nt.mm.vad import (
    GRANULARITY,
    LOWEST,
    MEM_COALESCE_PLACEHOLDERS,
    MEM_COMMIT,
    MEM_DECOMMIT,
    MEM_PRESERVE_PLACEHOLDER,
    MEM_PRIVATE,
    MEM_RELEASE,
    MEM_REPLACE_PLACEHOLDER,
    MEM_RESERVE,
    MEM_RESERVE_PLACEHOLDER,
    MEM_RESET,
    MEM_TOP_DOWN,
    MEM_WRITE_WATCH,
    PAGE,
    PAGE_EXECUTE_READWRITE,
    PAGE_EXECUTE_WRITECOPY,
    PAGE_GUARD,
    PAGE_NOACCESS,
    PAGE_NOCACHE,
    PAGE_READWRITE,
    PAGE_WRITECOPY,
    Region,
    Regions,
    is_valid_protection,
    page_access,
    round_up,
)
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.machine.window import Window

_WRITE_COPY = (PAGE_WRITECOPY, PAGE_EXECUTE_WRITECOPY)


class Limits:
    """Where an allocation may lie: MEM_ADDRESS_REQUIREMENTS, or zero bits. Zero means no limit."""

    __slots__ = ("alignment", "high", "low")

    def __init__(self, low: int = 0, high: int = 0, alignment: int = 0) -> None:
        self.low = low
        self.high = high  # the last usable address
        self.alignment = alignment


ANYWHERE = Limits()


def zero_bits_limit(zero_bits: int, wrong: int) -> Limits:
    """What ZeroBits says about the highest address: a count of leading zero bits below 2^32, or a mask."""
    if not zero_bits:
        return ANYWHERE
    if zero_bits < 32:
        if zero_bits > 21:
            raise NtError(wrong)
        return Limits(high=(1 << (32 - zero_bits)) - 1)
    if 32 < zero_bits < GRANULARITY - 1:
        raise NtError(wrong)
    return Limits(high=(1 << zero_bits.bit_length()) - 1)


class Commitment:
    """How many bytes all processes of a machine may commit together."""

    __slots__ = ("exceeded", "limit", "peak", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.peak = 0
        self.exceeded = False

    def charge(self, size: int) -> None:
        if self.used + size > self.limit:
            self.exceeded = True
            raise NtError(Status.COMMITMENT_LIMIT)
        self.used += size
        self.peak = max(self.peak, self.used)

    def has_room(self, size: int) -> bool:
        return self.used + size <= self.limit

    def refund(self, size: int) -> None:
        self.used -= size


class AddressSpace:
    """The regions and pages of one process."""

    __slots__ = ("commitment", "pages", "regions", "window")

    def __init__(self, window: Window, commitment: Commitment) -> None:
        self.window = window
        self.commitment = commitment
        self.regions = Regions()
        self.pages: IntervalMap[int] = IntervalMap(0)  # protection of a committed page, 0 for all others

    @property
    def top(self) -> int:
        """The first address above what user code can have."""
        return self.window.top - GRANULARITY

    # finding ---------------------------------------------------------------------------------------

    def page_run(self, region: Region, address: int) -> tuple[int, int]:
        """(end, protection) of the stretch of equal pages from `address` on, inside its region."""
        _, end, protect = self.pages.run(address, region.end)
        return min(end, region.end), protect

    def is_committed(self, base: int, size: int) -> bool:
        return all(protect for _, _, protect in self.pages.runs(base, base + size))

    def _place(self, size: int, limits: Limits, top_down: bool) -> int:
        """A free place for a new region."""
        low = max(limits.low, LOWEST)
        high = min(limits.high + 1, self.top) if limits.high else self.top
        if size > high - low:
            raise NtError(Status.NO_MEMORY)
        base = self.regions.find_free(size, low, high, limits.alignment or GRANULARITY, top_down)
        if base is None:
            raise NtError(Status.NO_MEMORY)
        return base

    def new_region(self, base: int, size: int, kind: int, flags: int, protect: int, limits: Limits) -> Region:
        """Reserve address space: at `base`, anywhere (base 0), or in place of a placeholder that fits
        exactly.
        """
        if flags & MEM_REPLACE_PLACEHOLDER:
            return self._take_placeholder(base, size, kind, protect)
        if base:
            if base + size > self.top:
                raise NtError(Status.INVALID_PARAMETER)
            if not self.regions.is_free(base, size):
                raise NtError(Status.CONFLICTING_ADDRESSES)
        else:
            if limits.high and limits.low >= limits.high:
                raise NtError(Status.INVALID_PARAMETER)
            base = self._place(size, limits, bool(flags & MEM_TOP_DOWN))
        region = Region(base, size, protect, kind)
        self.regions.add(region)
        return region

    def _take_placeholder(self, base: int, size: int, kind: int, protect: int) -> Region:
        region = self.regions.at(base)
        if region is None:
            raise NtError(Status.INVALID_PARAMETER)
        if region.base != base or region.size != size:
            raise NtError(Status.CONFLICTING_ADDRESSES)
        if not region.free_placeholder:
            raise NtError(Status.INVALID_PARAMETER)
        region.free_placeholder = False
        region.kind = kind
        region.protect = protect
        return region

    # NtAllocateVirtualMemory -----------------------------------------------------------------------

    def allocate(
        self, address: int, size: int, flags: int, protect: int, limits: Limits = ANYWHERE
    ) -> tuple[int, int]:
        """Reserve, commit or reset; returns (base, size) as the guest gets them back."""
        if size > self.top:
            raise NtError(Status.NO_MEMORY)
        base = 0
        if address:
            whole_units = flags & MEM_RESERVE and not flags & MEM_REPLACE_PLACEHOLDER
            base = address & -(GRANULARITY if whole_units else PAGE)
            size = round_up(address + size, PAGE) - base
            if base < LOWEST or base + size > self.top:
                raise NtError(Status.INVALID_PARAMETER)
        else:
            size = round_up(size, PAGE)
        if not flags & (MEM_COMMIT | MEM_RESERVE | MEM_RESET):
            raise NtError(Status.INVALID_PARAMETER)
        if flags & MEM_REPLACE_PLACEHOLDER and not flags & MEM_RESERVE:
            raise NtError(Status.INVALID_PARAMETER)
        if flags & MEM_RESERVE_PLACEHOLDER and protect != PAGE_NOACCESS:
            raise NtError(Status.INVALID_PARAMETER)
        if flags & MEM_RESERVE or not base:
            return self._reserve(base, size, flags, protect, limits)
        region = self.regions.holding(base, size)
        if region is None:
            raise NtError(Status.NOT_MAPPED_VIEW if flags & MEM_RESET else Status.CONFLICTING_ADDRESSES)
        if not flags & MEM_RESET:
            self._commit_more(region, base, size, protect)
        return base, size

    def _reserve(self, base: int, size: int, flags: int, protect: int, limits: Limits) -> tuple[int, int]:
        if not is_valid_protection(protect) or protect & 0xFF in _WRITE_COPY:
            raise NtError(Status.INVALID_PAGE_PROTECTION)
        if flags & MEM_COMMIT:
            self.commitment.charge(size)
        try:
            region = self.new_region(base, size, MEM_PRIVATE, flags, protect, limits)
        except NtError:
            if flags & MEM_COMMIT:
                self.commitment.refund(size)
            raise
        if flags & MEM_RESERVE_PLACEHOLDER:
            region.placeholder = region.free_placeholder = True
        if flags & MEM_WRITE_WATCH:
            region.write_watch = True
        if flags & MEM_COMMIT:
            self.commit_pages(region, region.base, size, protect)
        return region.base, size

    def _commit_more(self, region: Region, base: int, size: int, protect: int) -> None:
        if region.free_placeholder:
            raise NtError(Status.CONFLICTING_ADDRESSES)
        if region.kind != MEM_PRIVATE:
            if region.backing is None or not region.backing.commit(self, region, base, size, protect):
                raise NtError(Status.ALREADY_COMMITTED)
            return
        self._check_protection(region, protect)
        fresh = sum(end - start for start, end, old in self.pages.runs(base, base + size) if not old)
        if region.charged:
            self.commitment.charge(fresh)
        self.commit_pages(region, base, size, protect)

    def commit_pages(self, region: Region, base: int, size: int, protect: int) -> None:
        """Commit what is not committed yet (zero pages) and give all of it one protection."""
        access = page_access(protect)
        protect = cached_like(region, protect)
        for start, end, old in list(self.pages.runs(base, base + size)):
            if not old:
                self.window.map(start, end - start, access)
                if region.write_watch:
                    self.window.watch(start, end - start)
            else:
                self.window.protect(start, end - start, access)
        self.pages.set(base, base + size, protect)

    # NtFreeVirtualMemory ---------------------------------------------------------------------------

    def free(self, address: int, size: int, how: int) -> tuple[int, int]:
        """Decommit or release; returns (base, size) as the guest gets them back."""
        base = address & -PAGE
        if size:
            size = round_up(address + size, PAGE) - base
        if not base:
            raise NtError(Status.INVALID_PARAMETER)
        region = self.regions.at(base)
        if region is None:
            raise NtError(Status.MEMORY_NOT_ALLOCATED)
        if region.kind != MEM_PRIVATE:
            raise NtError(Status.INVALID_PARAMETER)
        if not size and base != region.base:
            raise NtError(Status.FREE_VM_NOT_AT_BASE)
        if base + size > region.end and not how & MEM_COALESCE_PLACEHOLDERS:
            raise NtError(Status.UNABLE_TO_FREE_VM)
        if how == MEM_DECOMMIT:
            self._decommit(region, base, size or region.size)
        elif how == MEM_RELEASE:
            size = size or region.size
            self.release(self.regions.cut(region, base, size))
        elif how == MEM_RELEASE | MEM_PRESERVE_PLACEHOLDER:
            self._back_to_placeholder(region, base, size)
        elif how == MEM_RELEASE | MEM_COALESCE_PLACEHOLDERS:
            self._coalesce(region, base, size)
        else:
            raise NtError(
                Status.INVALID_PARAMETER_4 if how == MEM_COALESCE_PLACEHOLDERS else Status.INVALID_PARAMETER
            )
        return base, size

    def _decommit(self, region: Region, base: int, size: int) -> None:
        if region.write_watch:
            region.written_before |= set(self.window.written(base, size, False))
        for start, end, protect in list(self.pages.runs(base, base + size)):
            if protect:
                self.window.unmap(start, end - start)
                if region.kind == MEM_PRIVATE and region.charged:
                    self.commitment.refund(end - start)
        self.pages.set(base, base + size, 0)

    def written(self, region: Region, base: int, size: int) -> list[int]:
        """The pages of a write watch that were written since the last reset, ascending."""
        gone = {page for page in region.written_before if base <= page < base + size}
        return sorted(gone.union(self.window.written(base, size, False)))

    def forget_written(self, region: Region, base: int, size: int) -> None:
        """Begin a write watch anew."""
        region.written_before = {page for page in region.written_before if not base <= page < base + size}
        self.window.written(base, size, True)

    def release(self, region: Region) -> None:
        """Give a whole region back, whatever its kind."""
        self._decommit(region, region.base, region.size)
        self.regions.remove(region)
        if region.backing is not None:
            region.backing.unmapped(self, region)

    def detach(self) -> None:
        """The window is closed: let go of what the regions showed."""
        for region in self.regions:
            if region.backing is not None:
                region.backing.unmapped(self, region)
        self.regions = Regions()

    def release_all(self) -> None:
        """The process is gone."""
        for region in list(self.regions):
            self.release(region)

    def _back_to_placeholder(self, region: Region, base: int, size: int) -> None:
        if not size:
            raise NtError(Status.INVALID_PARAMETER_3)
        if not region.placeholder or (region.free_placeholder and size == region.size):
            raise NtError(Status.CONFLICTING_ADDRESSES)
        self.make_placeholder(self.regions.cut(region, base, size))

    def make_placeholder(self, region: Region) -> None:
        """Empty a region and keep its address space as a free placeholder."""
        self._decommit(region, region.base, region.size)
        if region.backing is not None:
            region.backing.unmapped(self, region)
        region.kind = MEM_PRIVATE
        region.protect = PAGE_NOACCESS
        region.backing = None
        region.write_watch = False
        region.placeholder = region.free_placeholder = True
        region.name = ""

    def _coalesce(self, region: Region, base: int, size: int) -> None:
        if not size:
            raise NtError(Status.INVALID_PARAMETER_3)
        if region.base != base or not region.free_placeholder:
            raise NtError(Status.CONFLICTING_ADDRESSES)
        following = []
        end = region.end
        while end < base + size:
            other = self.regions.at(end)
            if other is None or not other.free_placeholder:
                break
            following.append(other)
            end = other.end
        if not following or end != base + size:
            raise NtError(Status.CONFLICTING_ADDRESSES)
        for other in following:
            self.regions.remove(other)
        region.size = size

    # NtProtectVirtualMemory ------------------------------------------------------------------------

    def protect(self, address: int, size: int, protect: int) -> tuple[int, int, int]:
        """Change the protection of committed pages; returns (base, size, the first page's old protection)."""
        base = address & -PAGE
        size = round_up(address + size, PAGE) - base
        region = self.regions.holding(base, size)
        if region is None:
            raise NtError(Status.INVALID_PARAMETER)
        if not size or not self.is_committed(base, size):
            raise NtError(Status.NOT_COMMITTED)
        if not is_valid_protection(protect):
            raise NtError(Status.INVALID_PAGE_PROTECTION)
        old = self.pages[base]
        protect = cached_like(region, protect)
        if region.backing is not None:
            protect = region.backing.checked_protection(region, protect)
            region.backing.before_protect(self, region, base, size, protect)
        self._check_protection(region, protect)
        self.window.protect(base, size, page_access(protect))
        self.pages.set(base, base + size, protect)
        return base, size, old

    def _check_protection(self, region: Region, protect: int) -> None:
        if not is_valid_protection(protect):
            raise NtError(Status.INVALID_PAGE_PROTECTION)
        if region.kind == MEM_PRIVATE and protect & 0xFF in _WRITE_COPY:
            raise NtError(Status.INVALID_PAGE_PROTECTION)

    # views -----------------------------------------------------------------------------------------

    def unmap(self, address: int, *, keep_placeholder: bool = False) -> None:
        """NtUnmapViewOfSection: `address` may lie anywhere in the view."""
        region = self.regions.at(address)
        if region is None or region.kind == MEM_PRIVATE:
            raise NtError(Status.NOT_MAPPED_VIEW)
        if not keep_placeholder:
            self.release(region)
            return
        if not region.placeholder:
            raise NtError(Status.CONFLICTING_ADDRESSES)
        self.make_placeholder(region)

    # guard pages and stacks ------------------------------------------------------------------------

    def guard_hit(self, address: int) -> bool:
        """If `address` lies on a guard page, make it an ordinary one; True means it was one."""
        page = address & -PAGE
        protect = self.pages[page]
        if not protect & PAGE_GUARD:
            return False
        self._reprotect(page, PAGE, protect & ~PAGE_GUARD)
        return True

    def grow_stack(self, page: int, lowest: int, guaranteed: int) -> tuple[int, bool]:
        """The guard page of a stack was hit (and is an ordinary page now): move the guard down.

        `lowest` is the stack's allocation base. Returns the new StackLimit and whether the stack is used up.
        Raises NtError for a `lowest` that is not in one private region with the page.
        """
        region = self.regions.at(page)
        if region is None or region.kind != MEM_PRIVATE or lowest < region.base:
            raise NtError(Status.GUARD_PAGE_VIOLATION)
        if page >= lowest + PAGE + guaranteed:
            self._commit_more(region, page - PAGE, PAGE, PAGE_READWRITE | PAGE_GUARD)
            return page, False
        first = (lowest & -PAGE) + PAGE
        if first > page:
            return page, True
        self._commit_more(region, first, min(guaranteed, region.end - first), PAGE_READWRITE)
        return first, True

    def _reprotect(self, base: int, size: int, protect: int) -> None:
        self.window.protect(base, size, page_access(protect))
        self.pages.set(base, base + size, protect)

    # what the kernel itself needs ------------------------------------------------------------------

    def allocate_for_kernel(
        self, size: int, protect: int = PAGE_READWRITE, *, name: str, at: int = 0, limits: Limits = ANYWHERE,
        top_down: bool = False,
    ) -> Region:  # fmt: skip
        """A committed region for what the kernel puts into a process (TEB, parameters, ...), not charged."""
        flags = MEM_TOP_DOWN if top_down else 0
        region = self.new_region(at, round_up(size, PAGE), MEM_PRIVATE, flags, protect, limits)
        region.charged = False
        region.name = name
        self.commit_pages(region, region.base, region.size, protect)
        return region


def cached_like(region: Region, protect: int) -> int:
    """Whether pages are cached is decided when their region is reserved."""
    return protect & ~PAGE_NOCACHE | region.protect & PAGE_NOCACHE


def as_image_protection(protect: int) -> int:
    """Image pages that are asked to be writable become copy-on-write."""
    copied = {PAGE_READWRITE: PAGE_WRITECOPY, PAGE_EXECUTE_READWRITE: PAGE_EXECUTE_WRITECOPY}
    return copied.get(protect & 0xFF, protect & 0xFF) | protect & ~0xFF
