"""The memory of a window twice more: in a second window, and as plain bytes to go back to.

For running a stretch of code on two engines from the same memory. Everything is compared by content, so it
does not matter who wrote. Pages that the guest may not write are compared only when their mapping has
changed; `check` compares all.
"""

from __future__ import annotations

import ctypes

from nexus.base.errors import GuestFault
from nexus.machine import host
from nexus.machine.host import PAGE
from nexus.machine.window import WRITE, Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 16 * PAGE
_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t)


class Copies:
    """`window` is the one that counts, `other` is made like it, `saved` is how both were."""

    def __init__(self, window: Window, other: Window) -> None:
        if other.top != window.top:
            raise host.HostMemoryError("the host has no room for a second window as large")
        self.window = window
        self.other = other
        self._saved = host.reserve(window.top)
        self._size = window.top
        self._mine = host.allocate(CHUNK)
        self._theirs = host.allocate(CHUNK)
        self._changed: list[tuple[int, int]] = []
        window.on_change.append(self._note)

    def close(self) -> None:
        self.window.on_change.remove(self._note)
        host.release(self._saved, self._size)
        host.release(self._mine, CHUNK)
        host.release(self._theirs, CHUNK)

    def _note(self, start: int, end: int) -> None:
        """A range is about to be mapped differently."""
        self._changed.append((start, end))

    def prepare(self) -> None:
        """Make both copies like the window."""
        stale, self._changed = self._changed, []
        for begin, stop, access in list(self.window.runs(0, self._size)):
            fresh = self._map(begin, stop, access)
            if access and (access & WRITE or fresh):
                self._update(begin, stop)
        for start, end in stale:
            last = min(-(-end // PAGE) * PAGE, self._size)
            for begin, stop, access in list(self.window.runs(start & -PAGE, last)):
                if access and not access & WRITE:
                    self._update(begin, stop)
        self._changed.clear()

    def check(self) -> None:
        """Make both copies like the window, pages that cannot be written included."""
        for begin, stop in self._runs(True):
            self._update(begin, stop)

    def restore(self) -> None:
        """Make both windows as they were when they were last made alike."""
        for begin, stop in self._runs(False):
            for at, size in self._chunks(begin, stop):
                for window in (self.window, self.other):
                    if self._read(window, at, size, self._mine) and _memcmp(
                        self._mine, self._saved + at, size
                    ):
                        self._put(window, at, size, self._mine, self._saved + at)

    def differences(self) -> list[tuple[int, int]]:
        """(start, end) of the bytes that the two windows have differently, joined where they touch."""
        found: list[tuple[int, int]] = []
        for begin, stop in self._runs(False):
            for at, size in self._chunks(begin, stop):
                if not self._read(self.window, at, size, self._mine):
                    continue
                if self._read(self.other, at, size, self._theirs) and not _memcmp(
                    self._mine, self._theirs, size
                ):
                    continue
                mine, theirs = (ctypes.string_at(place, size) for place in (self._mine, self._theirs))
                for offset in range(size):
                    if mine[offset] != theirs[offset]:
                        if found and found[-1][1] == at + offset:
                            found[-1] = found[-1][0], at + offset + 1
                        else:
                            found.append((at + offset, at + offset + 1))
        return found

    # parts -----------------------------------------------------------------------------------------

    def _runs(self, everything: bool) -> Iterator[tuple[int, int]]:
        """The accessible stretches of the window; those that can be written, or all."""
        for begin, stop, access in list(self.window.runs(0, self._size)):
            if access and (everything or access & WRITE):
                yield begin, stop

    def _map(self, start: int, end: int, access: int | None) -> bool:
        """Give a stretch of the other window the same access; whether it had another one."""
        fresh = False
        for begin, stop, old in list(self.other.runs(start, end)):
            if old == access:
                continue
            fresh = True
            if access is None:
                self.other.unmap(begin, stop - begin)
            elif old is None:
                self.other.map(begin, stop - begin, access)
                host.protect(self._saved + begin, stop - begin, host.PROT_READ | host.PROT_WRITE)
            else:
                self.other.protect(begin, stop - begin, access)
        return fresh

    def _chunks(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        for at in range(start, end, CHUNK):
            yield at, min(CHUNK, end - at)

    def _read(self, window: Window, at: int, size: int, to: int) -> bool:
        """Copy out of a window; False where it cannot be read (a page beyond the end of its file)."""
        return not window.copy(to, window.host + at, size)

    def _update(self, start: int, end: int) -> None:
        """Make both copies of a stretch like the window."""
        for at, size in self._chunks(start, end):
            if not self._read(self.window, at, size, self._mine):
                continue
            if _memcmp(self._mine, self._saved + at, size):
                ctypes.memmove(self._saved + at, self._mine, size)
            if not self._read(self.other, at, size, self._theirs) or _memcmp(self._mine, self._theirs, size):
                self._put(self.other, at, size, self._theirs, self._mine)

    def _put(self, window: Window, at: int, size: int, old: int, new: int) -> None:
        """Write the pages that differ; the window sees when they have code."""
        for page in range(0, size, PAGE):
            if _memcmp(old + page, new + page, PAGE):
                try:
                    window.write_forced(at + page, ctypes.string_at(new + page, PAGE))
                except GuestFault:  # a page beyond the end of its file
                    continue
