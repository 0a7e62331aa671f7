"""Memory as it was at one moment, to go back to many times.

The contents of all private pages are copied into a file in memory, at the offsets of their addresses, and
the file is mapped copy-on-write in their place. What is written from then on goes into copies of the host's;
going back drops those, and the next access finds the file again. The host tells which pages they are
(PAGEMAP_SCAN, Linux 6.7), else all are dropped. Ranges that were mapped or protected differently meanwhile
are mapped anew.

Pages that several windows show (`shared.py`) are not copied when written; `SavedFile` compares what is in
them. Translations stay where the code is what it was.
"""

from __future__ import annotations

import ctypes
import errno
import os

from nexus.base.intervals import IntervalMap
from nexus.machine import host, shared
from nexus.machine.host import PAGE, PROT_NONE, PROT_READ
from nexus.machine.window import WATCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus.machine.window import Window

_PIECE = 64 << 10
_NOTHING = bytes(_PIECE)


class SavedMemory:
    """One window's memory. The window notes in `remapped` and `translated` what happens from now on."""

    __slots__ = (
        "_beyond",
        "_fd",
        "_pages",
        "_runs",
        "_views",
        "_window",
        "_written",
        "remapped",
        "translated",
    )

    def __init__(self, window: Window) -> None:
        self._window = window
        self.remapped: IntervalMap[bool] = IntervalMap(False)  # since it was like this
        self.translated: list[int] = []  # pages that code has been made from since
        self._runs = [run for run in window.runs(0, window.top) if run[2] is not None]
        self._written = set(window.written_pages)
        self._beyond: set[int] = set()  # pages past the end of their file
        self._views: list[tuple[int, int, int, int]] = []  # start, end, descriptor, offset
        self._fd = host.create_shared("saved memory", window.top)
        self._pages = host.PrivatePages(window.host, window.top)
        try:
            for view in window.views:
                self._views.append((view.start, view.end, os.dup(view.file.fd), view.offset))
            for start, end, _ in self._private(0, window.top):
                self._save(start, end)
            for start, end, _ in self._private(0, window.top):
                self._put_under(start, end)
        except BaseException:
            self.close()
            raise
        window.saved = self

    def close(self) -> None:
        """Give the descriptors back; the window keeps its memory."""
        if self._window.saved is self:
            self._window.saved = None
        self._pages.close()
        for _, _, fd, _ in self._views:
            os.close(fd)
        self._views = []
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _private(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """The stretches of a range that belong to this window alone, with their access."""
        found = []
        for begin, stop, access in self._runs:
            begin, stop = max(begin, start), min(stop, end)
            for first, last, _, _ in sorted(self._views):
                if first < stop and begin < last:
                    if begin < first:
                        found.append((begin, first, access or 0))
                    begin = max(begin, last)
            if begin < stop:
                found.append((begin, stop, access or 0))
        return found

    # saving ----------------------------------------------------------------------------------------

    def _save(self, start: int, end: int) -> None:
        """Copy pages into the file; those that are all zero stay holes of it."""
        window = self._window
        for begin, stop, allowed in window.host_runs(start, end):
            if allowed == PROT_NONE:
                host.protect(window.host + begin, stop - begin, PROT_READ)
            try:
                for at in range(begin, stop, _PIECE):
                    self._save_piece(at, min(_PIECE, stop - at))
            finally:
                if allowed == PROT_NONE:
                    host.protect(window.host + begin, stop - begin, PROT_NONE)

    def _save_piece(self, address: int, size: int) -> None:
        data = self._now(address, size)
        if data is not None:
            if data != _NOTHING[:size]:
                os.pwrite(self._fd, data, address)
        elif size > PAGE:
            for page in range(address, address + size, PAGE):
                self._save_piece(page, PAGE)
        else:
            self._beyond.add(address)

    def _now(self, address: int, size: int) -> bytes | None:
        """What is there at the moment; None if it cannot be read."""
        buffer = ctypes.create_string_buffer(size)
        window = self._window
        return None if window.copy(ctypes.addressof(buffer), window.host + address, size) else buffer.raw

    def _put_under(self, start: int, end: int) -> None:
        """Map the file where its contents come from."""
        window = self._window
        for begin, stop, allowed in window.host_runs(start, end):
            at = begin
            for page in [*sorted(page for page in self._beyond if begin <= page < stop), stop]:
                if at < page:
                    host.map_file(window.host + at, page - at, allowed, self._fd, at, False)
                at = page + PAGE

    # going back ------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Make memory, protection and write watches what they were. No vCPU may be running."""
        window = self._window
        if window.saved is not self:
            window.saved = self
            self.remapped.set(0, window.top, True)
        self._forget_code()
        if len(self.remapped) > 1 or self.remapped[0]:
            self._map_again()
        ranges = self._pages.ranges()
        if ranges is None:
            host.drop_private(window.host, window.top)
        else:
            for start, end in ranges:
                host.drop_private(start, end - start)
        if window.written_pages != self._written:
            self._watch_again()

    def _forget_code(self) -> None:
        """Drop the translations of pages whose bytes were others when they were made."""
        pages, self.translated = set(self.translated), []
        for page in pages:
            if not self.remapped[page] and self._now(page, PAGE) != os.pread(self._fd, PAGE, page):
                self._window.forget_code(page)

    def _map_again(self) -> None:
        window, remapped = self._window, self.remapped
        changed = [(start, end) for start, end, value in remapped.runs(0, window.top) if value]
        for start, end in changed:
            for begin, stop, access in list(window.runs(start, end)):
                if access is not None:
                    window.unmap(begin, stop - begin)
            for begin, stop, access in self._private(start, end):
                window.map_file(begin, stop - begin, access, self._fd, begin, False)
            for first, last, fd, offset in self._views:
                begin, stop = max(start, first), min(end, last)
                if begin < stop:
                    self._map_view(begin, stop, fd, offset + begin - first)
        for page in self._beyond:
            if remapped[page]:
                access = window.access(page) or 0
                window.map_file(page, PAGE, access, self._fd, window.top + page, False)
        self.remapped = IntervalMap(False)

    def _map_view(self, start: int, end: int, fd: int, offset: int) -> None:
        for begin, stop, access in self._runs:
            begin, stop = max(begin, start), min(stop, end)
            if begin < stop:
                self._window.map_file(begin, stop - begin, access or 0, fd, offset + begin - start, True)

    def _watch_again(self) -> None:
        window = self._window
        for page in window.written_pages - self._written:
            window.written_pages.discard(page)
            window.lock(page, WATCH)
        for page in self._written - window.written_pages:
            window.written_pages.add(page)
            window.unlock(page, WATCH)


class SavedFile:
    """The contents of a file in memory that windows share, given by a descriptor."""

    __slots__ = ("_pages",)

    def __init__(self, fd: int) -> None:
        self._pages = {at: data for at, data in _pages(fd) if data != _NOTHING[:PAGE]}

    def restore(self, fd: int) -> None:
        """Write what has changed."""
        pages = self._pages
        for at, data in _pages(fd):
            if data != pages.get(at, _NOTHING[:PAGE]):
                file = shared.find(fd)
                if file is not None:
                    file.written(at)
                os.pwrite(fd, pages.get(at, _NOTHING[:PAGE]), at)


def _pages(fd: int) -> Iterator[tuple[int, bytes]]:
    """(offset, contents) of the pages of a file in memory that anybody has touched."""
    at = 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(fd, at, os.SEEK_HOLE)
        while at < end:
            data = os.pread(fd, min(_PIECE, end - at), at)
            for page in range(0, len(data), PAGE):
                yield at + page, data[page : page + PAGE]
            at += len(data)
