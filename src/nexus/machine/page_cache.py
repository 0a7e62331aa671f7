"""Translations kept between runs, by the page of guest code they were made from.

One file per image that a guest has mapped, named by its address, its headers and everything that makes
translations what they are. In it, per page, the page's own bytes, to compare with, and its blocks: records
with addresses relative to the interpreter and to the place where they lie, so that a page is moved into the
arena by one addition of big numbers. Branches from one block of a page to another are already joined.

Only pages that the guest may not write are kept. A block that is one instruction across two pages belongs to
the first. The folder lies in the one of `backend/cache.py`; a file that cannot be read as it was written, or
that others could have written, is built again.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import stat
import sys
import zlib

from nexus.backend import cache
from nexus.base.errors import GuestFault
from nexus.base.intervals import IntervalMap
from nexus.machine.host import PAGE
from nexus.machine.window import EXECUTE, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus.backend.interp.engine import Interpreter
    from nexus.machine.translation import Translation
    from nexus.machine.window import Window

    # start, offset of its records, their size, pages, offsets and addresses of instructions,
    # (stub, pointer, target) per link
    Links = tuple[tuple[int, int, int], ...]
    Entry = tuple[int, int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...], Links]
    # bytes of the page and what is used of the next one; records; a letter for each 16 bytes of them, which
    # tells what to add there; blocks
    Saved = tuple[bytes, bytes, bytes, tuple[Entry, ...]]

_MAGIC = b"NXPAGES4"
_GRANULE = 0x10000
_LONGEST = 15  # bytes of an instruction
_LARGEST_IMAGE = 1 << 30
_FOLDER_LIMIT = 1 << 30
_WORD = 8
_CHUNK = 16  # a record's first half: handler and fields; its second half: two words
_NOTHING, _HANDLER, _FIRST, _SECOND, _BOTH = b"ABCDE"  # words of a chunk: to add to
_NO_WORD, _FIRST_WORD, _SECOND_WORD = bytes(16), b"\1" + bytes(15), bytes(8) + b"\1" + bytes(7)
_BOTH_WORDS = b"\1" + bytes(7) + b"\1" + bytes(7)


class Image:
    """The saved pages of one mapped image, and how many blocks are new since."""

    __slots__ = ("new", "pages", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.new = 0
        self.pages: dict[int, Saved] = _read(path)

    @property
    def stale(self) -> bool:
        """Are there so many new blocks that the file should be written again?"""
        return self.new > 8 and self.new * 50 > sum(len(saved[-1]) for saved in self.pages.values())


class PageCache:
    """What is kept for the images of one window."""

    def __init__(self, window: Window, engine: Interpreter) -> None:
        self._window = window
        self._folder = _folder(os.path.dirname(engine.path))
        self._base = engine.base
        self._record_sizes = engine.record_sizes
        self._images: dict[int, Image] = {}
        self._homes: IntervalMap[int] = IntervalMap(-1)  # image base, 0 for none, -1 not looked at yet
        self._prefix = _version(engine.path)
        window.on_change.append(self._forget)

    def close(self) -> None:
        self._window.on_change.remove(self._forget)

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
        saved = image.pages.get(page)
        if saved is None:
            return None
        code = saved[0]
        if len(code) > PAGE and not (self._window.access(page + PAGE) or 0) & EXECUTE:
            return None
        try:
            return saved if code == self._window.read(page, len(code)) else None
        except GuestFault:  # a page beyond the end of its file
            return None

    def place(self, saved: Saved, at: int) -> bytes:
        """The records of a page for host address `at`."""
        _, data, letters, _ = saved
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
                if base not in self._images or self._images[base].path != path:
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
        image = self._image(block.start & -PAGE)
        if image is not None:
            image.new += 1

    def save(self, pages: dict[int, list[Translation]]) -> None:
        """Write the files of images with new blocks. `pages` are all blocks that are good now.

        Where the disk is full or read-only nothing is kept, and the next run translates again.
        """
        stale = {image for image in self._images.values() if image.stale}
        if not stale:
            return
        for page, blocks in pages.items():
            image = self._image(page)
            if image in stale:
                saved = self._pack(page, blocks)
                if saved is not None:
                    image.pages[page] = saved
        try:
            _make_room(self._folder)
            for image in stale:
                body = marshal.dumps(image.pages)
                check = zlib.crc32(body).to_bytes(4, "little")
                cache.write(image.path, _MAGIC + check + body)
        except OSError:
            return

    def _pack(self, page: int, blocks: list[Translation]) -> Saved | None:
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


def _version(engine: str) -> str:
    """Names everything that decides what a translation is: the engine, the sources above it, this Python."""
    if engine in _versions:
        return _versions[engine]
    root = os.path.dirname(os.path.dirname(__file__))
    lines = [engine, sys.implementation.cache_tag or ""]
    for name in ("base", "ir", "isa/x86", "backend/interp", "machine"):
        for folder, _, files in sorted(os.walk(os.path.join(root, name))):
            for file in sorted(files):
                if file.endswith(".py"):
                    info = os.stat(os.path.join(folder, file))
                    lines.append(f"{file} {info.st_size} {info.st_mtime_ns}")
    text = "\n".join(lines).encode()
    _versions[engine] = f"{zlib.crc32(text):08x}{zlib.adler32(text):08x}"
    return _versions[engine]


def _folder(code: str) -> str:
    """Where the pages are, made before the second wall; nothing is kept where that is not possible."""
    path = os.path.join(code, cache.PAGES)
    try:
        return cache.private(path)
    except OSError:
        return path


def _read(path: str) -> dict[int, Saved]:
    """The pages in a file; none if it is not there or damaged."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return {}
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or not cache.is_private(info):
            return {}
        content = file.read()
    head = len(_MAGIC) + 4
    check = zlib.crc32(content[head:]).to_bytes(4, "little")
    if content[:head] != _MAGIC + check:
        return {}
    pages: dict[int, Saved] = marshal.loads(memoryview(content)[head:])
    return pages


def _make_room(folder: str) -> None:
    """Remove the page files that were not written for longest when all together are too large."""
    with os.scandir(folder) as listing:
        found: Iterable[os.DirEntry[str]] = [entry for entry in listing if entry.name.endswith(".pages")]
        known = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in found)
    total = sum(size for _, size, _ in known)
    for _, size, path in known:
        if total <= _FOLDER_LIMIT:
            break
        os.unlink(path)
        total -= size
