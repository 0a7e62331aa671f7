"""The memory of one guest process: a reserved stretch of host address space.

Guest address a lies at host address `host + a`, for 0 <= a < `top`; below 0 and above `top` are guards the
host never maps, so an engine that clamps addresses to `top`, or adds 32 bits to one that is not above it,
cannot leave the window. Three layers per page:

- what the guest may do (`access`): the guest kernel's decision, kept as runs;
- locks: pages the guest may write but whose first write we must see, because translated code was made from
  them (`CODE`) or from another view of the same memory (`ALIAS`), or a write watch is on (`WATCH`);
- what the host's MMU allows: derived from the two, changed only where it differs.

Addresses and sizes of mappings are whole pages inside the window; the guest kernel has checked them, so
anything else is our bug and a ValueError. The guest's own pointers go through `read` and `write`, which
raise GuestFault. `read_forced` and `write_forced` ignore the guest's protection, not what is mapped.
"""

from __future__ import annotations

import ctypes

from nexus.base.errors import GuestFault
from nexus.base.intervals import IntervalMap
from nexus.machine import host
from nexus.machine import shared as sharing
from nexus.machine.host import PAGE, PROT_READ, PROT_WRITE, HostMemoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexus.machine.saved_memory import SavedMemory
    from nexus.machine.shared import View

READ, WRITE, EXECUTE = 1, 2, 4
CODE, WATCH, ALIAS = 1, 2, 4

GUARDS = (40 << 30, 4 << 30)  # on both sides; the second where the host has less address space
"""What engines add to an address that they have looked at is less. Eight times 32 bits fit the first
(`backend/jit/bounds.py`)."""
_SCRATCH = 64 * 1024
_MAPPINGS_LIMIT = 48_000  # of the 65,530 a host process may have; Python and the libraries need some


class Window:
    """One guest address space. Only threads that hold the machine's lock may call it."""

    _mappings = 0  # host mappings of all windows

    __slots__ = (
        "_access",
        "_host_access",
        "_locks",
        "_scratch",
        "_scratch_at",
        "_scratch_view",
        "_words",
        "copy",
        "guard",
        "host",
        "on_change",
        "on_code_write",
        "saved",
        "top",
        "views",
        "written_pages",
    )

    def __init__(self, size: int = 1 << 40) -> None:
        """Reserve `size` bytes, or half as often as it takes where the host has less address space."""
        least, (self.guard, smaller) = 1 << 32, GUARDS
        while True:
            try:
                self.host = host.reserve(size + 2 * self.guard) + self.guard
                break
            except HostMemoryError:
                if size <= least and self.guard == smaller:
                    raise
                if size <= 4 * self.guard:
                    self.guard = smaller
                size = max(size >> 1, least)
        self.top = size
        self._access: IntervalMap[int | None] = IntervalMap(None)
        self._host_access: IntervalMap[int] = IntervalMap(0)
        self._locks: dict[int, int] = {}
        self.written_pages: set[int] = set()  # of those a write watch is on
        self.views: list[View] = []
        Window._mappings += 1
        self._scratch = (ctypes.c_char * _SCRATCH)()
        self._scratch_view = memoryview(self._scratch).cast("B")
        self._scratch_at = ctypes.addressof(self._scratch)
        self._words = tuple(kind.from_buffer(self._scratch) for kind in _WORDS)
        self.copy: Callable[[int, int, int], int] = host.copy  # (to, from, size): bytes not copied
        self.on_code_write: Callable[[int], None] | None = None  # (page): translations from it are stale
        self.on_change: list[Callable[[int, int], None]] = []  # (start, end): about to be mapped differently
        self.saved: SavedMemory | None = None  # whose pages lie under these ones (`saved_memory.py`)

    def close(self) -> None:
        """Give everything back; from then on every access of the kernel is a GuestFault."""
        if self.top:
            host.release(self.host - self.guard, self.top + 2 * self.guard)
            Window._mappings -= len(self._host_access)
            self._drop_views(0, self.top)
            self.top = 0

    # mapping ---------------------------------------------------------------------------------------

    def map(self, address: int, size: int, access: int) -> None:
        """Fresh zero pages, in place of whatever was there."""
        self._clear(address, size)
        self._set(address, size, access)

    def map_file(self, address: int, size: int, access: int, fd: int, offset: int, shared: bool) -> None:
        """A file's pages, the same ones for every mapper or copied when written. Pages past its end fault."""
        self._clear(address, size)
        usable = PROT_READ | PROT_WRITE if access & WRITE else PROT_READ if access else 0
        view = sharing.add(self, address, size, fd, offset) if shared else None
        try:
            host.map_file(self.host + address, size, usable, fd, offset, shared)
        except HostMemoryError:
            if view is not None:
                sharing.cut(view, view.start, view.end)
            raise
        self._note(address, address + size, usable)
        if view is not None:
            self.views.append(view)
            for page in sharing.locked_pages(view):
                self._locks[page] = self._locks.get(page, 0) | ALIAS
        self._set(address, size, access)

    def unmap(self, address: int, size: int) -> None:
        """Nothing is mapped there any more; the contents are gone."""
        self._clear(address, size)

    def protect(self, address: int, size: int, access: int) -> None:
        """Change what the guest may do with mapped pages."""
        self._check_range(address, size)
        for start, _, old in self._access.runs(address, address + size):
            if old is None:
                raise ValueError(f"protecting {start:#x}, which is not mapped")
        self._changed(address, address + size)
        self._set(address, size, access)

    def access(self, address: int) -> int | None:
        """What the guest may do with a page (0 = nothing), None if nothing is mapped there."""
        return self._access[address] if 0 <= address < self.top else None

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, int | None]]:
        """(start, end, access) of the stretches of equal access in a range."""
        return self._access.runs(start, end)

    def host_access(self, address: int) -> tuple[int, int, int]:
        """(start, end, PROT bits) of the stretch around an address that the host treats alike."""
        return self._host_access.run(address, self.top)

    def host_runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(start, end, PROT bits) of the stretches that the host treats alike."""
        return self._host_access.runs(start, end)

    def _check_range(self, address: int, size: int) -> None:
        if address % PAGE or size % PAGE or size <= 0 or address < 0 or address + size > self.top:
            raise ValueError(f"no whole pages inside the window: {address:#x} + {size:#x}")

    def _changed(self, start: int, end: int) -> None:
        for listener in self.on_change:
            listener(start, end)

    def _clear(self, address: int, size: int) -> None:
        self._check_range(address, size)
        end = address + size
        if all(access is None for _, _, access in self._access.runs(address, end)):
            return
        self._note_remapped(address, end)
        self._changed(address, end)
        host.forget(self.host + address, size)
        self._drop_views(address, end)
        self._note(address, end, 0)
        self._access.set(address, end, None)
        for page in self._locked_pages(address, end):
            del self._locks[page]
        self.written_pages = {page for page in self.written_pages if not address <= page < end}

    def _note_remapped(self, start: int, end: int) -> None:
        if self.saved is not None:
            self.saved.remapped.set(start, end, True)

    def _drop_views(self, start: int, end: int) -> None:
        for view in [view for view in self.views if view.start < end and start < view.end]:
            self.views.remove(view)
            self.views += sharing.cut(view, start, end)

    def _set(self, address: int, size: int, access: int) -> None:
        if access & WRITE:
            access |= READ
        end = address + size
        self._note_remapped(address, end)
        self._check_mappings(2 + 2 * len(self._locked_pages(address, end)))
        before = list(self._access.runs(address, end))
        self._access.set(address, end, access)
        try:
            self._apply(address, end)
        except HostMemoryError:
            for start, stop, old in before:
                self._access.set(start, stop, old)
            self._apply(address, end)
            raise

    # host protection -------------------------------------------------------------------------------

    def _locked_pages(self, start: int, end: int) -> list[int]:
        """The locked pages of a range, ascending."""
        locks = self._locks
        if (end - start) // PAGE <= len(locks):
            return [page for page in range(start, end, PAGE) if page in locks]
        return sorted(page for page in locks if start <= page < end)

    def _apply(self, start: int, end: int) -> None:
        """Make the host's protection follow access and locks."""
        end = (end + PAGE - 1) & -PAGE
        for begin, stop, access in self._access.runs(start, end):
            if not access:
                self._apply_run(begin, stop, 0)
            elif not access & WRITE:
                self._apply_run(begin, stop, PROT_READ)
            else:
                for page in self._locked_pages(begin, stop) if self._locks else ():
                    if begin < page:
                        self._apply_run(begin, page, PROT_READ | PROT_WRITE)
                    self._apply_run(page, page + PAGE, PROT_READ)
                    begin = page + PAGE
                if begin < stop:
                    self._apply_run(begin, stop, PROT_READ | PROT_WRITE)

    def _apply_run(self, start: int, end: int, wanted: int) -> None:
        for begin, stop, current in self._host_access.runs(start, end):
            if current != wanted:
                host.protect(self.host + begin, stop - begin, wanted)
                self._note(begin, stop, wanted)

    def _note(self, start: int, end: int, allowed: int) -> None:
        before = len(self._host_access)
        self._host_access.set(start, end, allowed)
        Window._mappings += len(self._host_access) - before

    def _check_mappings(self, more: int) -> None:
        if Window._mappings + more > _MAPPINGS_LIMIT:
            raise HostMemoryError(f"guest pages are in {Window._mappings} pieces: too many for the host")

    def lock(self, page: int, reason: int) -> None:
        """See the next write to a page: by `on_code_write` (CODE), in `written` (WATCH)."""
        self._check_mappings(2)
        self._locks[page] = self._locks.get(page, 0) | reason
        if self._host_access[page] & PROT_WRITE:
            self._apply(page, page + PAGE)
        if reason == CODE:
            if self.saved is not None:
                self.saved.translated.append(page)
            if self.views:
                self._lock_aliases(page)

    def _lock_aliases(self, page: int) -> None:
        """Code is translated from a page that may be mapped elsewhere too."""
        found = sharing.offset_of(self.views, page)
        if found is not None:
            file, offset = found
            file.code.setdefault(offset, set()).add((self, page))
            for window, other in file.pages(offset):
                if (window, other) != (self, page):
                    window._changed(other, other + PAGE)
                    window.lock(other, ALIAS)

    def forget_code(self, page: int) -> None:
        """The page's memory is written through another view: its translations are stale."""
        reasons = self._locks.get(page, 0)
        if reasons & CODE:
            self.unlock(page, CODE)
            if self.on_code_write is not None:
                self.on_code_write(page)

    def unlock(self, page: int, reason: int) -> None:
        """Stop looking; the next write is not seen."""
        left = self._locks.get(page, 0) & ~reason
        if left:
            self._locks[page] = left
        elif self._locks.pop(page, 0):
            self._apply(page, page + PAGE)

    def admit(self, address: int, write: bool) -> bool:
        """After a host fault: True if the guest may do this and the access can be repeated now."""
        access = self.access(address)
        if not access or (write and not access & WRITE):
            return False
        page = address & -PAGE
        before = self._host_access[page]
        if write:
            self._release_locks(page)
            if Window._mappings + 2 > _MAPPINGS_LIMIT:
                self._give_up_watching()
        self._apply(page, page + PAGE)
        return self._host_access[page] != before

    def _release_locks(self, page: int) -> None:
        """A write to the page is about to happen."""
        reasons = self._locks.pop(page, 0)
        if reasons & CODE and self.on_code_write is not None:
            self.on_code_write(page)
        if reasons & (CODE | ALIAS) and self.views:
            found = sharing.offset_of(self.views, page)
            if found is not None:
                found[0].written(found[1])
        if reasons & WATCH:
            self.written_pages.add(page)
        if reasons:
            self._changed(page, page + PAGE)

    # write watch -----------------------------------------------------------------------------------

    def watch(self, address: int, size: int) -> None:
        """Begin to record which of these pages are written."""
        self._check_range(address, size)
        self._changed(address, address + size)
        for page in range(address, address + size, PAGE):
            if page not in self.written_pages:
                self._locks[page] = self._locks.get(page, 0) | WATCH
        self._apply(address, address + size)

    def written(self, address: int, size: int, reset: bool) -> list[int]:
        """The watched pages written since `watch` or the last reset, ascending."""
        self._check_range(address, size)
        pages = sorted(page for page in self.written_pages if address <= page < address + size)
        if reset:
            for page in pages:
                self.written_pages.discard(page)
                self._changed(page, page + PAGE)
                self.lock(page, WATCH)
        return pages

    def announce_write(self, address: int, size: int) -> None:
        """Count pages as written that a device is about to write; those the guest may not write stay out."""
        for page in self._locked_pages(address & -PAGE, (address + size + PAGE - 1) & -PAGE):
            if self._locks.get(page, 0) & WATCH:
                self.admit(page, True)

    def _give_up_watching(self) -> None:
        """Report every watched page as written, which a watcher must be able to stand; saves mappings."""
        for page in [page for page, reasons in self._locks.items() if reasons & WATCH]:
            self.written_pages.add(page)
            self.unlock(page, WATCH)

    # guarded access --------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes:
        """The guest's bytes; GuestFault with the first address it may not read."""
        if size > _SCRATCH:
            return self._read_long(address, size)
        if not 0 <= address <= self.top - size:
            self._fault(address, size, False)
        while self.copy(self._scratch_at, self.host + address, size):
            self._retry(address, size, False)
        return bytes(self._scratch_view[:size])

    def _read_long(self, address: int, size: int) -> bytes:
        parts = []
        for offset in range(0, size, _SCRATCH):
            parts.append(self.read(address + offset, min(_SCRATCH, size - offset)))
        return b"".join(parts)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write as the guest would; on GuestFault some bytes before the fault may have been written."""
        size = len(data)
        if not 0 <= address <= self.top - size:
            self._fault(address, size, True)
        for offset in range(0, size, _SCRATCH):
            part = bytes(data[offset : offset + _SCRATCH])
            ctypes.memmove(self._scratch_at, part, len(part))
            self._write_scratch(address + offset, len(part))

    def _write_scratch(self, address: int, size: int) -> None:
        while self.copy(self.host + address, self._scratch_at, size):
            self._retry(address, size, True)

    def _fault(self, address: int, size: int, write: bool) -> None:
        """Raise for an access leaving the window, at its first inaccessible byte; not for an empty one."""
        if not size:
            return
        if 0 <= address < self.top:
            first = self._first_refused(address, self.top, write)
            raise GuestFault(self.top if first is None else first, write)
        raise GuestFault(address & (1 << 64) - 1, write)

    def _first_refused(self, address: int, end: int, write: bool) -> int | None:
        for start, _, access in self._access.runs(address, end):
            if not access or (write and not access & WRITE):
                return start
        return None

    def _retry(self, address: int, size: int, write: bool) -> None:
        """A guarded copy failed: admit what the guest may do, else raise."""
        refused = self._first_refused(address, address + size, write)
        if refused is not None:
            raise GuestFault(refused, write)
        admitted = False
        for page in range(address & -PAGE, address + size, PAGE):
            admitted |= self.admit(page, write)
        if not admitted:  # a page past the end of its file
            raise GuestFault(address, write)

    # the kernel's own access -----------------------------------------------------------------------

    def read_forced(self, address: int, size: int) -> bytes:
        """Bytes of mapped pages, whatever the guest may do with them."""
        end = address + size
        parts = []
        opened = self._open(address, end, PROT_READ)
        try:
            for at in range(address, end, _SCRATCH):
                part = min(_SCRATCH, end - at)
                if self.copy(self._scratch_at, self.host + at, part):
                    raise GuestFault(at, False)
                parts.append(bytes(self._scratch_view[:part]))
        finally:
            if opened:
                self._apply(address & -PAGE, end)
        return b"".join(parts)

    def write_forced(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write into mapped pages, whatever the guest may do with them; translated code notices."""
        end = address + len(data)
        opened = self._open(address, end, PROT_READ | PROT_WRITE)
        try:
            for offset in range(0, len(data), _SCRATCH):
                part = bytes(data[offset : offset + _SCRATCH])
                ctypes.memmove(self._scratch_at, part, len(part))
                if self.copy(self.host + address + offset, self._scratch_at, len(part)):
                    raise GuestFault(address + offset, True)
        finally:
            if opened:
                self._apply(address & -PAGE, end)

    def _open(self, address: int, end: int, wanted: int) -> bool:
        """Let the host access mapped pages; True if it has to be put right with `_apply` afterwards."""
        write = bool(wanted & PROT_WRITE)
        if address == end:
            return False
        if not 0 <= address < end <= self.top:
            self._fault(address, end - address, write)
        start, end = address & -PAGE, (end + PAGE - 1) & -PAGE
        for begin, _, access in self._access.runs(start, end):
            if access is None:
                raise GuestFault(max(begin, address), write)
        if write and self._locks:
            for page in self._locked_pages(start, end):
                self._release_locks(page)
        if all(current & wanted == wanted for _, _, current in self._host_access.runs(start, end)):
            return False
        self._apply_run(start, end, wanted)
        return True

    # words -----------------------------------------------------------------------------------------

    def u8(self, address: int) -> int:
        return self._load(address, 0, 1)

    def u16(self, address: int) -> int:
        return self._load(address, 1, 2)

    def u32(self, address: int) -> int:
        return self._load(address, 2, 4)

    def u64(self, address: int) -> int:
        return self._load(address, 3, 8)

    def w8(self, address: int, value: int) -> None:
        self._store(address, value, 0, 1)

    def w16(self, address: int, value: int) -> None:
        self._store(address, value, 1, 2)

    def w32(self, address: int, value: int) -> None:
        self._store(address, value, 2, 4)

    def w64(self, address: int, value: int) -> None:
        self._store(address, value, 3, 8)

    def _load(self, address: int, kind: int, size: int) -> int:
        if not 0 <= address <= self.top - size:
            self._fault(address, size, False)
        while self.copy(self._scratch_at, self.host + address, size):
            self._retry(address, size, False)
        value: int = self._words[kind].value
        return value

    def _store(self, address: int, value: int, kind: int, size: int) -> None:
        if not 0 <= address <= self.top - size:
            self._fault(address, size, True)
        self._words[kind].value = value
        self._write_scratch(address, size)


_WORDS = (ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64)
