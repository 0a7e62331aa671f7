"""Code in memory that is mapped more than once: a write through any mapping must be seen by all.

Programs that keep "writable" and "executable" apart map the same pages twice, and write through one view what
they execute through the other. So when code is translated from a shared page, the pages of all other views of
it are locked as well (`Window.lock` with ALIAS). Files are known by device and inode.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.machine.window import Window


class SharedFile:
    """The views of one file in all windows, and which of its pages code was translated from."""

    __slots__ = ("code", "fd", "views")

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)  # open as long as there are views
        self.views: list[View] = []
        self.code: dict[int, set[tuple[Window, int]]] = {}  # offset of a page -> where it was translated

    def pages(self, offset: int) -> list[tuple[Window, int]]:
        """Where a page of the file is mapped."""
        return [
            (view.window, view.start + offset - view.offset)
            for view in self.views
            if view.offset <= offset < view.offset + view.end - view.start
        ]

    def written(self, offset: int) -> None:
        """A page is about to be written through one of its views."""
        for window, page in self.code.pop(offset, ()):
            window.forget_code(page)


class View:
    """A stretch of guest addresses that shows a file from `offset` on."""

    __slots__ = ("end", "file", "offset", "start", "window")

    def __init__(self, window: Window, start: int, end: int, file: SharedFile, offset: int) -> None:
        self.window = window
        self.start = start
        self.end = end
        self.file = file
        self.offset = offset


_files: dict[tuple[int, int], SharedFile] = {}


def add(window: Window, start: int, size: int, fd: int, offset: int) -> View:
    """A new view. Its pages that are code in another view have to be locked: `locked_pages`."""
    info = os.fstat(fd)
    key = info.st_dev, info.st_ino
    file = _files.get(key)
    if file is None:
        file = _files[key] = SharedFile(fd)
    view = View(window, start, start + size, file, offset)
    file.views.append(view)
    return view


def locked_pages(view: View) -> list[int]:
    """The pages of a view that code was translated from in any view."""
    first, last = view.offset, view.offset + view.end - view.start
    return [view.start + offset - first for offset in view.file.code if first <= offset < last]


def cut(view: View, start: int, end: int) -> list[View]:
    """Take a stretch out of a view; what is left of it."""
    file = view.file
    file.views.remove(view)
    left = []
    for begin, stop in ((view.start, min(view.end, start)), (max(view.start, end), view.end)):
        if begin < stop:
            left.append(View(view.window, begin, stop, file, view.offset + begin - view.start))
    file.views += left
    if not file.views:
        for key in [key for key, other in _files.items() if other is file]:
            del _files[key]
        os.close(file.fd)
    return left


def find(fd: int) -> SharedFile | None:
    """The file behind a descriptor, if any window shows it."""
    info = os.fstat(fd)
    return _files.get((info.st_dev, info.st_ino))


def offset_of(views: list[View], page: int) -> tuple[SharedFile, int] | None:
    """The file and offset that a page of these views shows."""
    for view in views:
        if view.start <= page < view.end:
            return view.file, view.offset + page - view.start
    return None
