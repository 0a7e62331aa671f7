"""What all open handles of one host file share, and what is kept beside it.

A `FileNode` is found by device and inode: it knows who shares what, the byte-range locks, whether the file is
to vanish, and how many sections map it (`images`, `views`, counted by the section code).
"""

from __future__ import annotations

import os
import stat

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE
from nexus.nt.io.file_lock import LockTable
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.io.file_disk import DiskFile

READING = access.FILE_READ_DATA | access.FILE_EXECUTE
WRITING = access.FILE_WRITE_DATA | access.FILE_APPEND_DATA

FILE_ATTRIBUTE_READONLY = 0x1
FILE_ATTRIBUTE_HIDDEN = 0x2
FILE_ATTRIBUTE_SYSTEM = 0x4
FILE_ATTRIBUTE_DIRECTORY = 0x10
FILE_ATTRIBUTE_ARCHIVE = 0x20
FILE_ATTRIBUTE_NORMAL = 0x80
STORED = FILE_ATTRIBUTE_HIDDEN | FILE_ATTRIBUTE_SYSTEM
XATTR = "user.DOSATTRIB"  # as Samba and Wine keep them: "0x%x"


class FileNode:
    """What all open handles of one host file have in common."""

    __slots__ = ("delete_pending", "images", "key", "locks", "opens", "views", "writers")

    def __init__(self, key: tuple[int, int]) -> None:
        self.key = key
        self.opens: list[DiskFile] = []
        self.locks = LockTable()
        self.delete_pending = False
        self.images = 0
        self.views = 0
        self.writers = 0  # of the views

    @property
    def used(self) -> bool:
        """Whether anything still holds the file: if not, its number may have gone to another one."""
        return bool(self.opens or self.images or self.views)

    def grow(self, size: int) -> None:
        """A section makes the file larger."""
        self.opens[0].set_size(size)

    def check_sharing(self, granted: int, share: int) -> None:
        """Raise STATUS_SHARING_VIOLATION if an open with these rights conflicts with one that exists."""
        reads, writes, deletes = granted & READING, granted & WRITING, granted & access.DELETE
        if (granted & access.FILE_WRITE_DATA and self.images) or (
            self.writers and not share & FILE_SHARE_WRITE
        ):
            raise NtError(Status.SHARING_VIOLATION)
        if not (reads or writes or deletes):
            return
        for other in self.opens:
            theirs = other.granted
            if not theirs & (READING | WRITING | access.DELETE):
                continue
            if (
                (reads and not other.share & FILE_SHARE_READ)
                or (writes and not other.share & FILE_SHARE_WRITE)
                or (deletes and not other.share & FILE_SHARE_DELETE)
                or (theirs & READING and not share & FILE_SHARE_READ)
                or (theirs & WRITING and not share & FILE_SHARE_WRITE)
                or (theirs & access.DELETE and not share & FILE_SHARE_DELETE)
            ):
                raise NtError(Status.SHARING_VIOLATION)


class Disk:
    """The limit on what guests may add to host disks; `used` counts growth, shrinking gives it back."""

    __slots__ = ("exceeded", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.exceeded = False

    def charge(self, growth: int) -> None:
        if growth > 0 and self.used + growth > self.limit:
            self.exceeded = True
            raise NtError(Status.DISK_FULL)
        self.used = max(0, self.used + growth)


def stored_attributes(file: int | str) -> int:
    """The hidden and system bits kept beside a host file, given by descriptor or path."""
    try:
        return int(os.getxattr(file, XATTR), 16) & STORED
    except (OSError, ValueError):
        return 0


def attributes_of(info: os.stat_result, stored: int = 0) -> int:
    """FILE_ATTRIBUTE_* bits of a host file."""
    if stat.S_ISDIR(info.st_mode):
        attributes = FILE_ATTRIBUTE_DIRECTORY
    else:
        attributes = FILE_ATTRIBUTE_ARCHIVE
        if not info.st_mode & 0o222:
            attributes |= FILE_ATTRIBUTE_READONLY
    return attributes | stored
