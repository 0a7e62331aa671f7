"""The file that the translations of one image are kept in.

    magic, checksum, size of the index; the index; the parts

The index says for each page where its records and its host code lie, and the checksum of each. The checksum
in front is that of the file's name, which says what the translations are for, and of the index. So a file
that was damaged, cut off, or put in the place of another one is noticed: what is wrong is as if it had never
been there.

Checksums find accidents. Who may write these files can make them run any code (docs/sandbox.md).
"""

from __future__ import annotations

import marshal
import os
import stat
import zlib

from nexus.backend import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.code import Parts

    # start, offset of its records, their size, pages, offsets and addresses of instructions,
    # (stub, pointer, target) per link
    Links = tuple[tuple[int, int, int], ...]
    Entry = tuple[int, int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...], Links]
    # bytes of the page and what is used of the next one; records; a letter for each 16 bytes of them, which
    # tells what to add there; blocks
    Records = tuple[bytes, bytes, bytes, tuple[Entry, ...]]
    # start and size of the records, where its host code begins and how large it is, the rest of `HostCode`
    KeptBlock = tuple[int, int, int, int, Parts]
    # checksum of the stencils, host code of the page, its blocks
    KeptCode = tuple[int, bytes, tuple[KeptBlock, ...]]
    # where a part lies and its checksum; size 0: there is none
    Place = tuple[int, int, int]
    # by page: how many blocks have records, how many host code, where these are
    Index = dict[int, tuple[int, int, Place, Place]]

_MAGIC = b"NXPAGES5"
_HEAD = len(_MAGIC) + 8


class PagePart:
    """A page as it is in a file: how many blocks have records and how many have host code, and both parts."""

    __slots__ = ("blocks", "host_code", "natives", "records")

    def __init__(self, blocks: int, records: bytes, natives: int = 0, host_code: bytes = b"") -> None:
        self.blocks = blocks
        self.records = records
        self.natives = natives
        self.host_code = host_code


class PageFile:
    """What a file holds, for those pages that it is asked for: the index is read at once, the rest when it is
    wanted, from the file that the name meant at first, whatever it means since. `damaged` is set when the
    file or a part is not what was written."""

    __slots__ = ("_fd", "_first", "_index", "damaged", "path")

    def __init__(self, path: str) -> None:
        """Empty if the file is not there, is not what was written, or could have been written by others."""
        self.path = path
        self.damaged = False
        self._index: Index = {}
        self._first = 0  # where the parts begin
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            self._fd = -1
            self.damaged = os.path.lexists(path)
        else:
            self._read_index()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read_index(self) -> None:
        info = os.fstat(self._fd)
        head = os.pread(self._fd, _HEAD, 0)
        size = int.from_bytes(head[-4:], "little")
        if stat.S_ISREG(info.st_mode) and cache.is_private(info) and len(head) == _HEAD:
            index = os.pread(self._fd, min(size, info.st_size), _HEAD)
            if head[:-4] == _MAGIC + _check(self.path, head[-4:] + index).to_bytes(4, "little"):
                self._index, self._first = marshal.loads(index), _HEAD + size
                return
        self.damaged = True

    def pages(self) -> list[int]:
        return list(self._index)

    def blocks(self) -> tuple[int, int]:
        """How many blocks have records, how many host code."""
        every = self._index.values()
        return sum(entry[0] for entry in every), sum(entry[1] for entry in every)

    def host_code_bytes(self) -> int:
        return sum(entry[3][1] for entry in self._index.values())

    def records(self, page: int) -> Records | None:
        entry = self._index.get(page)
        body = b"" if entry is None else self._body(entry[2])
        return marshal.loads(body) if body else None

    def has_host_code(self, page: int) -> bool:
        return page in self._index and self._index[page][1] > 0

    def host_code(self, page: int) -> KeptCode | None:
        entry = self._index.get(page)
        body = b"" if entry is None else self._body(entry[3])
        return marshal.loads(body) if body else None

    def part(self, page: int) -> PagePart | None:
        """A page as it is; None if it is not there or its records are damaged."""
        entry = self._index.get(page)
        if entry is None:
            return None
        blocks, natives, *places = entry
        records, host_code = (self._body(place) for place in places)
        return PagePart(blocks, records, natives if host_code else 0, host_code) if records else None

    def _body(self, place: Place) -> bytes:
        """Empty if it is damaged."""
        at, size, check = place
        if self._fd < 0:  # closed, because something else is there in the guest's memory
            return b""
        body = os.pread(self._fd, size, self._first + at)
        if len(body) == size and zlib.crc32(body) == check:
            return body
        self.damaged = True
        return b""


def write(path: str, parts: dict[int, PagePart]) -> None:
    """Put a file in place at once."""
    index, bodies, at = {}, [], 0
    for page, part in parts.items():
        places = []
        for body in (part.records, part.host_code):
            places.append((at, len(body), zlib.crc32(body)))
            bodies.append(body)
            at += len(body)
        index[page] = (part.blocks, part.natives, *places)
    head = marshal.dumps(index)
    size = len(head).to_bytes(4, "little")
    check = _check(path, size + head).to_bytes(4, "little")
    cache.write(path, b"".join([_MAGIC, check, size, head, *bodies]))


def pack(content: Records | KeptCode) -> bytes:
    """What a part consists of."""
    return marshal.dumps(content)


def _check(path: str, index: bytes) -> int:
    return zlib.crc32(index, zlib.crc32(os.path.basename(path).encode()))
