"""Translations kept between runs, by the page of guest code they were made from.

One file per image that a guest has mapped, named by its address, its headers and everything that makes
translations what they are (`page_file.py`). In it, per page, the page's own bytes, to compare with, and its
blocks: records with addresses relative to the interpreter and to the place where they lie, so that a page is
moved into the arena by one addition of big numbers. Branches from one block of a page to another are already
joined. Host code of the page's blocks is beside them, taken over when one of them runs often (`tiers.py`).

Only pages that the guest may not write are kept. A block that is one instruction across two pages belongs to
the first. The folder lies in the one of `backend/cache.py`; a file that cannot be read as it was written, or
that others could have written, is built again.
"""

from __future__ import annotations

import ctypes
import os
import sys
import zlib
from time import time

from nexus.backend import cache
from nexus.backend.interp.layout import COUNT
from nexus.base.errors import GuestFault
from nexus.base.intervals import IntervalMap
from nexus.machine import page_file
from nexus.machine.host import PAGE
from nexus.machine.page_file import PageFile, PagePart
from nexus.machine.window import EXECUTE, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.backend.interp.engine import Interpreter
    from nexus.machine.page_file import KeptCode, Records
    from nexus.machine.translation import Translation
    from nexus.machine.window import Window

REGIONS = ".regions"  # the files of `kept_regions.py`
FIRST_COUNT = 1000  # how often a kept block runs before its engine is told (`tiers.py`)
_GRANULE = 0x10000
_LONGEST = 15  # bytes of an instruction
_LARGEST_IMAGE = 1 << 30
_FOLDER_LIMIT = 1 << 30
_PATIENCE = 3600  # seconds after which nobody is writing a file any more
_WORD = 8
_CHUNK = 16  # a record's first half: handler and fields; its second half: two words
_NOTHING, _HANDLER, _FIRST, _SECOND, _BOTH = b"ABCDE"  # words of a chunk: to add to
_NO_WORD, _FIRST_WORD, _SECOND_WORD = bytes(16), b"\1" + bytes(15), bytes(8) + b"\1" + bytes(7)
_BOTH_WORDS = b"\1" + bytes(7) + b"\1" + bytes(7)


class Image:
    """The saved pages of one mapped image, and what is new since: how many blocks have new records and new
    host code, and the pages they are in."""

    __slots__ = ("file", "new", "new_host_code", "pages")

    def __init__(self, path: str) -> None:
        self.file = PageFile(path)
        self.new = 0
        self.new_host_code = 0
        self.pages: set[int] = set()

    @property
    def stale(self) -> bool:
        """Is there a reason to write the file again: new blocks, much new host code, or damage?

        A single new block had the whole translator imported, which costs more than writing a file; only a
        large one waits until it is worth it.
        """
        known, with_host_code = self.file.blocks()
        worth_it = bool(self.new) if known < _LARGE else _many(self.new, known)
        return self.file.damaged or worth_it or _many(self.new_host_code, with_host_code)


_LARGE = 20_000  # blocks


def _many(new: int, known: int) -> bool:
    return new > 8 and new * 50 > known


class Saved:
    """A page that was saved, with the bytes it has now. `file` may have host code for its blocks."""

    __slots__ = ("blocks", "data", "file", "letters")

    def __init__(self, file: PageFile, records: Records) -> None:
        self.file = file
        _, self.data, self.letters, self.blocks = records


class PageCache:
    """What is kept for the images of one window."""

    def __init__(self, window: Window, engine: Interpreter) -> None:
        self._window = window
        self._folder = folder(os.path.dirname(engine.path))
        self._base = engine.base
        self._enter = engine.symbols["enter"]
        self._record_sizes = engine.record_sizes
        self._images: dict[int, Image] = {}
        self._homes: IntervalMap[int] = IntervalMap(-1)  # image base, 0 for none, -1 not looked at yet
        self._prefix = version(engine.path, engine.check)
        window.on_change.append(self._forget)

    def close(self) -> None:
        self._window.on_change.remove(self._forget)
        for image in self._images.values():
            image.file.close()

    def _forget(self, start: int, end: int) -> None:
        """An image is looked for again where the mapping changes."""
        if end - start >= _GRANULE:
            self._homes.set(start & -_GRANULE, end, -1)

    # loading ---------------------------------------------------------------------------------------

    def find(self, page: int) -> Saved | None:
        """What was saved for a page of executable code, if its bytes are the same."""
        image = self._image(page)
        if image is None:
            return None
        records = image.file.records(page)
        if records is None:
            return None
        code = records[0]
        if len(code) > PAGE and not (self._window.access(page + PAGE) or 0) & EXECUTE:
            return None
        try:
            same = code == self._window.read(page, len(code))
        except GuestFault:  # a page beyond the end of its file
            return None
        return Saved(image.file, records) if same else None

    def place(self, saved: Saved, at: int) -> bytes:
        """The records of a page for host address `at`."""
        data, letters = saved.data, saved.letters
        number = int.from_bytes(data, "little") + self._base * _handlers(letters) + at * _places(letters)
        return number.to_bytes(len(data), "little")

    def _image(self, page: int) -> Image | None:
        access = self._window.access(page) or 0
        if not access & EXECUTE or access & WRITE:
            return None
        home = self._homes[page]
        if home < 0:
            home = self._find_home(page)
        return self._images.get(home)

    def _find_home(self, page: int) -> int:
        """The base of the image a page belongs to: the nearest PE header below that says it is as large."""
        window = self._window
        base = page & -_GRANULE
        while base and page - base < _LARGEST_IMAGE and window.access(base) is not None:
            size = self._image_size(base)
            if base + size > page:
                name = f"{self._prefix}-{base:x}-{zlib.crc32(window.read(base, PAGE)):08x}.pages"
                path = os.path.join(self._folder, name)
                known = self._images.get(base)
                if known is None or known.file.path != path:
                    if known is not None:
                        known.file.close()
                    self._images[base] = Image(path)
                self._homes.set(base, base + size, base)
                return base
            base -= _GRANULE
        self._homes.set(page & -_GRANULE, (page & -_GRANULE) + _GRANULE, 0)
        return 0

    def _image_size(self, base: int) -> int:
        """SizeOfImage of the PE image at a guest address, 0 if there is none."""
        window = self._window
        try:
            if window.u16(base) != 0x5A4D:
                return 0
            header = base + min(window.u32(base + 0x3C), PAGE - 0x100)
            if window.u32(header) != 0x4550:
                return 0
            return min(window.u32(header + 0x50), _LARGEST_IMAGE)
        except GuestFault:
            return 0

    # saving ----------------------------------------------------------------------------------------

    def note(self, block: Translation) -> None:
        """A block is new."""
        image = self._image(block.pages[0])
        if image is not None:
            image.new += 1
            image.pages.add(block.pages[0])

    def note_host_code(self, block: Translation) -> None:
        """A block has new host code."""
        image = self._image(block.pages[0])
        if image is not None:
            image.new_host_code += 1
            image.pages.add(block.pages[0])

    def save(
        self,
        pages: dict[int, list[Translation]],
        host_code: Callable[[int, list[Translation]], KeptCode | None],
    ) -> None:
        """Write the files of images with new blocks. `pages` are all blocks that are good now, `host_code`
        gives the new host code of a page, None if there is nothing new.

        Where the disk is full or read-only nothing is kept, and the next run translates again.
        """
        stale = [image for image in self._images.values() if image.stale]
        try:
            if stale:
                make_room(self._folder)
            for image in stale:
                parts = _parts(image.file.path)
                for page in image.pages:
                    if page in pages:
                        self._renew(parts, page, pages[page], host_code(page, pages[page]))
                page_file.write(image.file.path, parts)
        except OSError:
            return

    def _renew(
        self, parts: dict[int, PagePart], page: int, blocks: list[Translation], kept: KeptCode | None
    ) -> None:
        """Put what there is of a page now in the place of what was saved. Host code that this run did not
        ask for stays."""
        records = self._pack(page, blocks)
        if records is None:
            return
        new, old = PagePart(len(records[3]), page_file.pack(records)), parts.get(page)
        if kept is not None:
            new.natives, new.host_code = len(kept[2]), page_file.pack(kept)
        elif old is not None:
            new.natives, new.host_code = old.natives, old.host_code
        parts[page] = new

    def _pack(self, page: int, blocks: list[Translation]) -> Records | None:
        """The blocks that begin in this page, with addresses made relative.

        Branches to a block across two pages are not joined: it can be dropped while this page's blocks stay.
        """
        kept = {block.start: block for block in blocks if block.pages[0] == page}
        offsets, joined, size, code_size = {}, {}, 0, PAGE
        for block in kept.values():
            offsets[block.start] = size
            if len(block.pages) == 1:
                joined[block.start] = size
            else:
                code_size = PAGE + _LONGEST
            size += block.size
        data = bytearray()
        for block in kept.values():
            data += ctypes.string_at(block.record, block.size)
        words = memoryview(data).cast("Q")
        letters = bytearray([_NOTHING]) * (size // _CHUNK)
        entries = []
        for block in kept.values():
            begin = offsets[block.start]
            first = begin // _WORD  # it may lead to host code now
            words[first], words[first + 1] = self._enter, len(block.addresses) << 32
            words[first + COUNT // _WORD] = FIRST_COUNT
            for stub, pointer, target in block.links:
                aim = joined.get(target, begin + stub)
                for at, value in ((begin + pointer, aim), (begin + stub + 3 * _WORD, begin + pointer)):
                    words[at // _WORD] = value
                    chunk, letter = at // _CHUNK, _SECOND if at % _CHUNK else _FIRST
                    letters[chunk] = letter if letters[chunk] == _NOTHING else _BOTH
            at = begin
            while at < begin + block.size:
                handler = words[at // _WORD]
                words[at // _WORD] = handler - self._base
                letters[at // _CHUNK] = _HANDLER
                at += self._record_sizes[handler]
            if at != begin + block.size:
                raise AssertionError(f"the records of {block.start:#x} do not end where they should")
            instructions = tuple(block.offsets), tuple(block.addresses)
            entries.append((block.start, begin, block.size, block.pages, *instructions, block.links))
        if not entries:
            return None
        return self._window.read(page, code_size), bytes(data), bytes(letters), tuple(entries)


def _parts(path: str) -> dict[int, PagePart]:
    """What is kept now, perhaps by a process that ended while this one ran."""
    file = PageFile(path)
    try:
        found = ((page, file.part(page)) for page in file.pages())
        return {page: part for page, part in found if part is not None}
    finally:
        file.close()


def _handlers(letters: bytes) -> int:
    """A number with a 1 in every word that a handler's address goes to."""
    only = letters.translate(_ONLY_HANDLERS)
    return int.from_bytes(only.replace(b"A", _NO_WORD).replace(b"B", _FIRST_WORD), "little")


def _places(letters: bytes) -> int:
    """A number with a 1 in every word that points into the arena."""
    words = letters.translate(_ONLY_PLACES).replace(b"A", _NO_WORD).replace(b"C", _FIRST_WORD)
    return int.from_bytes(words.replace(b"D", _SECOND_WORD).replace(b"E", _BOTH_WORDS), "little")


_ONLY_HANDLERS = bytes.maketrans(b"CDE", b"AAA")
_ONLY_PLACES = bytes.maketrans(b"B", b"A")


_versions: dict[str, str] = {}


def version(engine: str, check: int) -> str:
    """Names everything that decides what a translation is: the engine, the sources above it, this Python."""
    if engine in _versions:
        return _versions[engine]
    root = os.path.dirname(os.path.dirname(__file__))
    lines = [engine, f"{check:08x}", sys.implementation.cache_tag or ""]
    for name in ("base", "ir", "isa/x86", "backend", "machine"):
        for folder, _, files in sorted(os.walk(os.path.join(root, name))):
            for file in sorted(files):
                if file.endswith(".py"):
                    info = os.stat(os.path.join(folder, file))
                    lines.append(f"{file} {info.st_size} {info.st_mtime_ns}")
    text = "\n".join(lines).encode()
    _versions[engine] = f"{zlib.crc32(text):08x}{zlib.adler32(text):08x}"
    return _versions[engine]


def folder(code: str) -> str:
    """Where the pages are, made before the second wall; nothing is kept where that is not possible."""
    path = os.path.join(code, cache.PAGES)
    try:
        return cache.private(path)
    except OSError:
        return path


def make_room(folder: str) -> None:
    """Remove what writers that died left, and, when all together are too large, the files that were not
    written for longest."""
    with os.scandir(folder) as listing:
        found = sorted((entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in listing)
    total = sum(size for _, size, _ in found)
    for written, size, path in found:
        left_over = not path.endswith((".pages", REGIONS))
        if written < time() - _PATIENCE if left_over else total > _FOLDER_LIMIT:
            os.unlink(path)
            total -= size
