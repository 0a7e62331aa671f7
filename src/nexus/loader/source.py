"""The bytes of an open file, read as they are asked for.

A guest can change or truncate a file while it is being read, so files are never mapped into our own memory;
what is gone reads as nothing, and the PE reader refuses it like any other short file.
"""

from __future__ import annotations

import os

_HEAD = 0x1000


class FileBytes:
    """Slices of a file by `pread`; the first page, where headers live, is kept."""

    __slots__ = ("_head", "_size", "fd")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self._size = size
        self._head = os.pread(fd, min(size, _HEAD), 0)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, step = part.indices(self._size)
        if stop <= len(self._head):
            return self._head[part]
        if step != 1:
            raise ValueError("files are read in ascending order")
        return os.pread(self.fd, max(0, stop - start), start)
