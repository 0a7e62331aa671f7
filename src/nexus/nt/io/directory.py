"""Enumerating a folder: NtQueryDirectoryFile's entries, matching and order."""

from __future__ import annotations

import os
import stat
import struct

from nexus.nt.clock import EPOCH_1970
from nexus.nt.errors import NtError
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.file_node import attributes_of, stored_attributes
from nexus.nt.io.path import guest_name, host_name, matches, short_name, split_path, text_of, upcase, wide
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = struct.Struct("<II4QqQII")  # next, index, four times, size, allocation, attributes, name length
CLUSTER = 4096


def file_time(ns: int) -> int:
    """Host nanoseconds since 1970 as an NT time."""
    return max(0, ns // 100 + EPOCH_1970)


def allocation(info: os.stat_result) -> int:
    """The size on disk, as NTFS would round it."""
    return 0 if stat.S_ISDIR(info.st_mode) else (info.st_size + CLUSTER - 1) & -CLUSTER


def times_of(info: os.stat_result) -> tuple[int, int, int, int]:
    """CreationTime, LastAccessTime, LastWriteTime, ChangeTime. The host keeps no birth time: the oldest
    one is it.
    """
    written, changed = file_time(info.st_mtime_ns), file_time(info.st_ctime_ns)
    return min(written, changed), file_time(info.st_atime_ns), written, changed


def _head(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
    return _HEAD.pack(0, 0, *times_of(info), size, allocation(info), attributes, len(name))


def _directory(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    return _head(info, attributes, name)


def _full(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    return _head(info, attributes, name) + bytes(4)


def _short(name: bytes) -> bytes:
    """ShortNameLength and ShortName: 26 bytes."""
    short = wide(short_name(text_of(name)))
    return struct.pack("<Bx24s", len(short), short)


def _both(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    return _head(info, attributes, name) + bytes(4) + _short(name)


def _id_both(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    return _head(info, attributes, name) + bytes(4) + _short(name) + bytes(2) + struct.pack("<Q", info.st_ino)


def _id_full(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    return _head(info, attributes, name) + bytes(8) + struct.pack("<Q", info.st_ino)


def _id_extended(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    return _head(info, attributes, name) + bytes(8) + struct.pack("<QQ", info.st_ino, 0)


def _id_extended_both(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    return _id_extended(info, attributes, name) + _short(name)


def _names(info: os.stat_result, attributes: int, name: bytes) -> bytes:
    return struct.pack("<III", 0, 0, len(name))


_LAYOUTS: dict[int, tuple[Callable[[os.stat_result, int, bytes], bytes], int]] = {
    1: (_directory, 72),
    2: (_full, 72),
    3: (_both, 96),
    12: (_names, 16),
    37: (_id_both, 112),
    38: (_id_full, 88),
    60: (_id_extended, 96),
    63: (_id_extended_both, 120),
}
# Enumerations of object ids, quotas and reparse points: not of folders, and refused once the length is right.
_OTHERS = {29: 72, 32: 56, 33: 16}


class Listing:
    """A snapshot of the names of a folder that match a search expression, and how far it was read."""

    __slots__ = ("first", "folder", "mask", "names", "next")

    def __init__(self, folder: DiskFile, mask: str) -> None:
        self.folder = folder
        self.mask = upcase(mask) or "*"
        self.names: list[str] = []
        self.next = 0
        self.first = True
        self.restart()

    def restart(self) -> None:
        names = _names_of(self.folder)
        if self.mask != "*":
            names = [name for name in names if matches(self.mask, name) or self._short_matches(name)]
        names.sort(key=lambda name: upcase(name).encode("utf-16-be", "surrogatepass"))
        if len(self.folder.place.path):
            names[:0] = [name for name in (".", "..") if matches(self.mask, name)]
        self.names = names
        self.next = 0

    def _short_matches(self, name: str) -> bool:
        short = short_name(name)
        return bool(short) and matches(self.mask, short)


def _names_of(folder: DiskFile) -> list[str]:
    place = folder.place
    if place.virtual is not None:
        return list(place.virtual)
    names = {guest_name(name) for name in os.listdir(folder.fd)}
    names.update(guest_name(name) for name in place.volume.leads_on(place))
    folded = {upcase(name) for name in names}
    names.update(name for name in place.volume.overlaid_names(place) if upcase(name) not in folded)
    return list(names)


def _info(folder: DiskFile, name: str) -> os.stat_result | None:
    """The facts of an entry; None for what a guest cannot see (special files, links that lead out)."""
    place = folder.place
    if name == ".":
        return folder.stat()
    if name == "..":
        parts = split_path(folder.volume_path)[:-1]
        return _resolved(folder, parts) or folder.stat()
    if place.virtual is None:
        try:
            info = os.stat(host_name(name), dir_fd=folder.fd, follow_symlinks=False)
        except OSError:
            info = None
        if info is not None and (stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)):
            return info
    return _resolved(folder, [*split_path(folder.volume_path), name])


def _attributes(folder: DiskFile, name: str, info: os.stat_result) -> int:
    if folder.fd < 0 or name in (".", ".."):
        return attributes_of(info)
    return attributes_of(info, stored_attributes(f"/proc/self/fd/{folder.fd}/{host_name(name)}"))


def _resolved(folder: DiskFile, parts: list[str]) -> os.stat_result | None:
    try:
        found = folder.place.volume.find(parts, wanted="")
    except NtError:
        return None
    return os.stat("/") if found.virtual is not None else found.info


def query(
    folder: DiskFile, kind: int, length: int, single: bool, mask: str | None, restart: bool
) -> tuple[bytes, int]:
    """The next entries that fit into `length` bytes, and STATUS_SUCCESS or STATUS_BUFFER_OVERFLOW."""
    layout = _LAYOUTS.get(kind)
    if layout is None:
        if length < _OTHERS.get(kind, 0):
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        raise NtError(Status.INVALID_INFO_CLASS)
    make, fixed = layout
    if length < fixed:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    listing = folder.listing
    if listing is None:
        listing = folder.listing = Listing(folder, mask or "*")
    elif restart:
        if mask:
            listing.mask = upcase(mask)
        listing.restart()
    out = bytearray()
    previous = -1
    while listing.next < len(listing.names):
        name = listing.names[listing.next]
        info = _info(folder, name)
        if info is None:
            listing.next += 1
            continue
        text = wide(name)
        entry = make(info, _attributes(folder, name, info), text) + text
        start = -(-len(out) // 8) * 8
        if start + len(entry) > length:
            if previous >= 0:
                break
            listing.next += 1
            listing.first = False
            return entry[:length], Status.BUFFER_OVERFLOW
        if previous >= 0:
            struct.pack_into("<I", out, previous, start - previous)
        out += bytes(start - len(out)) + entry
        previous = start
        listing.next += 1
        if single:
            break
    if previous < 0:
        first, listing.first = listing.first, False
        raise NtError(Status.NO_SUCH_FILE if first else Status.NO_MORE_FILES)
    listing.first = False
    return bytes(out), Status.SUCCESS
