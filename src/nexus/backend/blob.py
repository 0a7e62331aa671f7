"""Compiled code on disk: a flat position-independent image with an index, mapped as it is.

The file holds a header, the symbol names with their offsets, and from a page boundary on the image
(`link.py`). A file that is truncated or damaged is refused, and built again by whoever asked.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import zlib

from nexus.base.errors import NexusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.link import Image

PAGE = 4096
_MAGIC = b"NXBLOB03"
_HEADER = (
    "<8sIIIII"  # magic, image offset, image size, writable part, index size, crc of name, index and image
)


class DamagedBlob(NexusError):
    """The file is not what was written."""


def pack(name: str, image: Image, notes: dict[str, int] | None = None) -> bytes:
    """The contents of the file called `name` for an image. `notes` gives symbols a number below 256 that the
    reader wants to know."""
    count, notes = len(image.symbols), notes or {}
    index = struct.pack(f"<I{count}I", count, *image.symbols.values())
    index += bytes(notes.get(name, 0) for name in image.symbols) + "\n".join(image.symbols).encode()
    start = struct.calcsize(_HEADER) + len(index)
    start += -start % PAGE
    check = zlib.crc32(image.code, zlib.crc32(index, zlib.crc32(name.encode())))
    header = struct.pack(_HEADER, _MAGIC, start, len(image.code), image.data, len(index), check)
    return (header + index).ljust(start, b"\0") + image.code


class Blob:
    """A mapped blob: `symbols` are host addresses, `notes` the numbers packed with them, good as long as
    the object lives. `check` is the checksum of it all, its name included: another file cannot take its
    place."""

    __slots__ = ("_map", "address", "check", "notes", "size", "symbols")

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.pread(fd, struct.calcsize(_HEADER), 0)
            if len(head) != struct.calcsize(_HEADER):
                raise DamagedBlob(f"{path} is truncated")
            magic, start, size, data, index_size, check = struct.unpack(_HEADER, head)
            length = os.fstat(fd).st_size
            if (
                magic != _MAGIC
                or start % PAGE
                or start + size != length
                or len(head) + index_size > start
                or data > size
            ):
                raise DamagedBlob(f"{path} is not a code blob of this version")
            index = os.pread(fd, index_size, len(head))
            self._map = mmap.mmap(
                fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC, offset=start
            )
        finally:
            os.close(fd)
        name = os.path.basename(path).encode()
        if zlib.crc32(self._map, zlib.crc32(index, zlib.crc32(name))) != check:
            raise DamagedBlob(f"{path} is damaged")
        self.check: int = check
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.size = size
        _protect(self.address, data, mmap.PROT_READ | mmap.PROT_EXEC)
        _protect(self.address + data, size - data, mmap.PROT_READ | mmap.PROT_WRITE)
        (count,) = struct.unpack_from("<I", index)
        offsets = struct.unpack_from(f"<{count}I", index, 4)
        names = index[4 + 5 * count :].decode().split("\n")
        notes = index[4 + 4 * count : 4 + 5 * count]
        self.symbols = {name: self.address + offset for name, offset in zip(names, offsets, strict=True)}
        self.notes = {
            self.address + offset: note for offset, note in zip(offsets, notes, strict=True) if note
        }


def _protect(address: int, size: int, access: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if size and libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), access):
        error = ctypes.get_errno()
        raise OSError(error, f"mprotect: {os.strerror(error)}")
