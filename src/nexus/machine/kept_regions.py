"""Compiled regions kept between runs, by the pages of guest code they were made from.

One file per page in which regions have their entries, named by the page's address and bytes and by everything
that makes compiled code what it is (`page_cache.version`). A region is used only if every page that it was
made from has the bytes that are kept beside it, no guest may write there, and the window is as large as the
one it was made for. The files lie among those of `page_cache.py` and follow their rules: written beside their
place and renamed, from what is there at that moment; checked as a whole, name included; not read if others
could have written them; removed when all together are too large.
"""

from __future__ import annotations

import marshal
import os
import stat
import zlib

from nexus.backend import cache
from nexus.base.errors import GuestFault
from nexus.machine import page_cache
from nexus.machine.host import PAGE
from nexus.machine.window import EXECUTE, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.engine import Interpreter
    from nexus.machine.window import Window

    # top and guard of the window, pages with their bytes, the packed unit
    Kept = tuple[tuple[int, int], tuple[tuple[int, bytes], ...], bytes]

_MAGIC = b"NXREGIO1"
_HEAD = len(_MAGIC) + 4
_MOST = 8  # regions of a page
_LARGEST = 64 << 20  # of a file


class KeptRegions:
    """Those of one window."""

    def __init__(self, window: Window, engine: Interpreter) -> None:
        self._window = window
        self._folder = page_cache.folder(os.path.dirname(engine.path))
        self._prefix = page_cache.version(engine.path, engine.check)
        self._new: dict[str, list[Kept]] = {}

    def find(self, page: int) -> list[tuple[tuple[int, ...], bytes]]:
        """The regions with an entry in a page that can be used now: their pages, and the packed unit."""
        code = self.code(page)
        if code is None:
            return []
        room = self._window.top, self._window.guard
        return [
            (tuple(at for at, _ in pages), unit)
            for made_for, pages, unit in _read(self._path(page, code))
            if made_for == room and all(self.code(at) == data for at, data in pages)
        ]

    def code(self, page: int) -> bytes | None:
        """The bytes of a page of code that no guest may write; None for any other."""
        if (self._window.access(page) or 0) & (EXECUTE | WRITE) != EXECUTE:
            return None
        try:
            return self._window.read(page, PAGE)
        except GuestFault:  # a page beyond the end of its file
            return None

    def add(self, page: int, pages: dict[int, bytes], unit: bytes) -> None:
        """Keep a region with its first entry in a page, in the file when `save` is called."""
        kept = (self._window.top, self._window.guard), tuple(pages.items()), unit
        self._new.setdefault(self._path(page, pages[page]), []).append(kept)

    def save(self) -> None:
        """Write the files with new regions. Where the disk is full or read-only nothing is kept."""
        try:
            if self._new:
                page_cache.make_room(self._folder)
            for path, new in self._new.items():
                old = [kept for kept in _read(path) if kept not in new]
                body = marshal.dumps([*new, *old][:_MOST])
                cache.write(path, _MAGIC + _check(path, body) + body)
        except OSError:
            return

    def _path(self, page: int, code: bytes) -> str:
        name = f"{self._prefix}-{page:x}-{zlib.crc32(code):08x}{page_cache.REGIONS}"
        return os.path.join(self._folder, name)


def _read(path: str) -> list[Kept]:
    """What a file holds; nothing if it is not there, not what was written, or could be somebody else's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return []
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or not cache.is_private(info) or info.st_size > _LARGEST:
            return []
        data = os.pread(fd, info.st_size, 0)
    finally:
        os.close(fd)
    head, body = data[:_HEAD], data[_HEAD:]
    if head != _MAGIC + _check(path, body):
        return []
    kept: list[Kept] = marshal.loads(body)
    return kept


def _check(path: str, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(os.path.basename(path).encode())).to_bytes(4, "little")
