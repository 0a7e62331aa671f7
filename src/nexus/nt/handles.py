"""The handle table of a process."""

from __future__ import annotations

from nexus.nt.errors import NtError
from nexus.nt.objects import KernelObject
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    from nexus.nt.ps.process import Process

    K = TypeVar("K", bound=KernelObject)

OBJ_INHERIT = 0x2
OBJ_PERMANENT = 0x10
OBJ_CASE_INSENSITIVE = 0x40
OBJ_OPENIF = 0x80
OBJ_OPENLINK = 0x100

INHERIT = 1  # HANDLE_FLAG_INHERIT
PROTECT = 2  # HANDLE_FLAG_PROTECT_FROM_CLOSE


def release_unused(target: KernelObject) -> None:
    """Let an object go if no handle leads to it; a permanent one keeps its name and all."""
    if target.handle_count or (target.permanent and target.directory is not None):
        return
    if target.directory is not None:
        target.directory.remove(target)
    target.last_handle_closed()


class Entry:
    """What one handle stands for: the object, the granted rights and the HANDLE_FLAG_* bits."""

    __slots__ = ("access", "flags", "object")

    def __init__(self, target: KernelObject, access: int, flags: int) -> None:
        self.object = target
        self.access = access
        self.flags = flags


class HandleTable:
    """Handles are multiples of four; the two low bits are ignored, as on Windows."""

    __slots__ = ("_entries", "_free", "_next", "limit", "process")

    def __init__(self, process: Process, limit: int = 1 << 20) -> None:
        self.process = process
        self.limit = limit
        self._entries: dict[int, Entry] = {}
        self._free: list[int] = []
        self._next = 4

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterator[tuple[int, Entry]]:
        return iter(sorted(self._entries.items()))

    def add(self, target: KernelObject, access: int, attributes: int = 0, flags: int = 0) -> int:
        """A new handle. `access` is already mapped (no generic bits); `attributes` are OBJ_* bits."""
        if len(self._entries) >= self.limit:
            raise NtError(Status.INSUFFICIENT_RESOURCES)
        if self._free:
            handle = self._free.pop()
        else:
            handle, self._next = self._next, self._next + 4
        if attributes & OBJ_INHERIT:
            flags |= INHERIT
        self._entries[handle] = Entry(target, access, flags)
        target.handle_count += 1
        return handle

    def holds(self, handle: int) -> bool:
        return handle & ~3 in self._entries

    def place(self, handle: int, entry: Entry, flags: int | None = None) -> None:
        """An inherited handle keeps its number in the child."""
        self._entries[handle] = Entry(entry.object, entry.access, entry.flags if flags is None else flags)
        entry.object.handle_count += 1
        while self._next <= handle:
            if self._next not in self._entries:
                self._free.insert(0, self._next)
            self._next += 4

    def entry(self, handle: int) -> Entry:
        """The entry of a real handle; raises STATUS_INVALID_HANDLE."""
        entry = self._entries.get(handle & ~3)
        if entry is None or handle == 0:
            raise NtError(Status.INVALID_HANDLE)
        return entry

    def pseudo(self, handle: int) -> KernelObject | None:
        """The object of a pseudo handle (current process, current thread, its tokens)."""
        number = handle - (1 << 64) if handle >> 63 else handle - (1 << 32) if handle >> 31 == 1 else 0
        if number == -1:
            return self.process
        if number == -2:
            return self.process.kernel.current_thread
        if number in (-4, -5, -6):
            return self.process.kernel.current_token(number)
        return None

    def resolve(self, handle: int, kind: type[K], access: int) -> K:
        """The object, checked: its class must be `kind` and the handle must hold all rights in `access`."""
        entry = self._entries.get(handle & ~3) if handle else None
        if entry is None:
            target = self.pseudo(handle)
            if target is None:
                raise NtError(Status.INVALID_HANDLE)
            if not isinstance(target, kind):
                raise NtError(Status.OBJECT_TYPE_MISMATCH)
            return target
        target = entry.object
        if not isinstance(target, kind):
            raise NtError(Status.OBJECT_TYPE_MISMATCH)
        if access & ~entry.access:
            raise NtError(Status.ACCESS_DENIED)
        return target

    def access_of(self, handle: int) -> int:
        """The rights a handle holds (all for pseudo handles)."""
        entry = self._entries.get(handle & ~3) if handle else None
        if entry is not None:
            return entry.access
        target = self.pseudo(handle)
        if target is None:
            raise NtError(Status.INVALID_HANDLE)
        return target.type.all

    def numbering(self) -> tuple[tuple[int, ...], int]:
        """The numbers that are free, in the order in which they come last, and the first that never was."""
        return tuple(self._free), self._next

    def set_numbering(self, free: tuple[int, ...], following: int) -> None:
        """What `numbering` gave, for a table with the same handles."""
        self._free, self._next = list(free), following

    def close(self, handle: int) -> None:
        """Close one handle; raises STATUS_INVALID_HANDLE or STATUS_HANDLE_NOT_CLOSABLE."""
        entry = self.entry(handle)
        if entry.flags & PROTECT:
            raise NtError(Status.HANDLE_NOT_CLOSABLE)
        self._drop(handle & ~3, entry)

    def close_all(self) -> None:
        for handle, entry in list(self._entries.items()):
            self._drop(handle, entry)

    def _drop(self, handle: int, entry: Entry) -> None:
        del self._entries[handle]
        self._free.append(handle)
        target = entry.object
        target.handle_count -= 1
        target.handle_closed(self.process)
        release_unused(target)

    def inherit_from(self, parent: HandleTable, only: set[int] | None = None) -> None:
        """Copy the inheritable handles of the parent (all, or those listed), under the same numbers."""
        for handle, entry in parent.items():
            if entry.flags & INHERIT and (only is None or handle in only):
                self.place(handle, entry)
