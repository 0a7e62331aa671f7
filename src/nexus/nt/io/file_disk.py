"""Files and folders of volumes: reading, writing, controlling, deleting at the end. What handles to one file
share is in `file_node.py`.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.file import (
    FILE_DELETE_ON_CLOSE,
    FILE_DEVICE_DISK,
    FILE_NO_INTERMEDIATE_BUFFERING,
    FIRST_ERROR,
    FileObject,
    Operation,
)
from nexus.nt.io.file_lock import Lock
from nexus.nt.io.file_node import (
    FILE_ATTRIBUTE_DIRECTORY,
    FILE_ATTRIBUTE_READONLY,
    STORED,
    WRITING,
    XATTR,
    FileNode,
    attributes_of,
    stored_attributes,
)
from nexus.nt.io.place import Place, host_failure
from nexus.nt.mm.section import SectionSource
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.io.device_io import IoManager
    from nexus.nt.io.directory import Listing
    from nexus.nt.io.directory_watch import DirectoryWatch

WRITE_TO_END_OF_FILE = -1
USE_FILE_POINTER_POSITION = -2
MAX_TRANSFER = 0x4000_0000
_CHUNK = 0x10_0000

FSCTL_GET_COMPRESSION = 0x9003C
FSCTL_SET_COMPRESSION = 0x9C040
FSCTL_GET_OBJECT_ID = 0x9009C
FSCTL_CREATE_OR_GET_OBJECT_ID = 0x900C0
FSCTL_GET_REPARSE_POINT = 0x900A8
FSCTL_SET_REPARSE_POINT = 0x900A4
FSCTL_DELETE_REPARSE_POINT = 0x900AC
FSCTL_SET_SPARSE = 0x900C4
FSCTL_SET_ZERO_DATA = 0x980C8
FSCTL_QUERY_ALLOCATED_RANGES = 0x940CF
FSCTL_IS_VOLUME_MOUNTED = 0x90028
FSCTL_GET_RETRIEVAL_POINTERS = 0x90073
_FILE = "nexus/nt/io/file_disk.py"


class DiskFile(FileObject):
    """An open file or folder of a volume. `fd` is -1 for folders that only lead to grants."""

    __slots__ = ("change_watch", "delete_on_close", "fd", "io", "listing", "node", "place", "posix_delete")

    snapshot_descriptors = ("fd",)
    device_type = FILE_DEVICE_DISK
    characteristics = 0x20  # FILE_DEVICE_IS_MOUNTED

    def __init__(
        self, io: IoManager, place: Place, fd: int, node: FileNode, granted: int, share: int, options: int
    ) -> None:
        super().__init__(granted, share, options)
        self.io = io
        self.place = place
        self.fd = fd
        self.node = node
        self.listing: Listing | None = None
        self.change_watch: DirectoryWatch | None = None
        self.delete_on_close = bool(options & FILE_DELETE_ON_CLOSE)
        self.posix_delete = False
        node.opens.append(self)

    # names -------------------------------------------------------------------------------------------

    @property
    def is_directory(self) -> bool:
        return self.place.is_directory

    @property
    def volume_path(self) -> str:
        """The name below the volume: `\\\\dir\\\\file`."""
        return self.place.guest_path

    @property
    def dos_path(self) -> str:
        """`C:\\\\dir\\\\file`."""
        return f"{self.place.volume.letter}:{self.place.guest_path}"

    @property
    def path(self) -> str:
        """The NT name as Wine's DLLs expect it, with the drive letter (kernelbase takes it apart)."""
        return f"\\??\\{self.dos_path}"

    def section_source(self) -> SectionSource:
        """What a section over this file is made of."""
        if self.is_directory:
            raise NtError(Status.INVALID_FILE_FOR_SECTION)
        return SectionSource(
            self.fd, self.size, self.path, bool(self.granted & access.FILE_WRITE_DATA), self.node
        )

    def __repr__(self) -> str:
        return f"File({self.dos_path!r})"

    # facts -------------------------------------------------------------------------------------------

    def stat(self) -> os.stat_result:
        if self.fd < 0:
            return os.stat("/")
        return os.fstat(self.fd)

    @property
    def size(self) -> int:
        return 0 if self.is_directory else os.fstat(self.fd).st_size

    @property
    def attributes(self) -> int:
        if self.fd < 0:
            return FILE_ATTRIBUTE_DIRECTORY
        return attributes_of(os.fstat(self.fd), stored_attributes(self.fd))

    def set_attributes(self, attributes: int) -> None:
        """Store FILE_ATTRIBUTE_* bits: read-only as host permissions, hidden and system beside the file."""
        try:
            if not self.is_directory:
                mode = os.fstat(self.fd).st_mode & 0o7777
                new = mode & ~0o222 if attributes & FILE_ATTRIBUTE_READONLY else mode | 0o200
                if new != mode:
                    os.fchmod(self.fd, new)
            wanted = attributes & STORED
            if wanted != stored_attributes(self.fd):
                if wanted:
                    os.setxattr(self.fd, XATTR, b"0x%x" % wanted)
                else:
                    os.removexattr(self.fd, XATTR)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise host_failure(error) from error

    # data --------------------------------------------------------------------------------------------

    def _offset(self, offset: int | None) -> int:
        if offset is None or offset == USE_FILE_POINTER_POSITION:
            if not self.synchronous:
                raise NtError(Status.INVALID_PARAMETER)
            return self.position
        if offset < 0:
            raise NtError(Status.INVALID_PARAMETER)
        return offset

    def _check_alignment(self, offset: int, length: int) -> None:
        if self.options & FILE_NO_INTERMEDIATE_BUFFERING and (offset | length) & 0x1FF:
            raise NtError(Status.INVALID_PARAMETER)

    def read(self, op: Operation, buffer: int, length: int, offset: int | None) -> int:
        if self.is_directory:
            raise NtError(Status.INVALID_DEVICE_REQUEST)
        start = self._offset(offset)
        self._check_alignment(start, length)
        self.node.locks.check(self, op.process, start, length, False)
        done = 0
        length = min(length, MAX_TRANSFER)
        try:
            while done < length:
                data = os.pread(self.fd, min(length - done, _CHUNK), start + done)
                if not data:
                    break
                op.write(buffer + done, data)
                done += len(data)
        except OverflowError:
            return self._end(op, Status.END_OF_FILE, 0)
        except OSError as error:
            if start + done > 0x7FFF_FFFF_FFFF_F000:
                return self._end(op, Status.END_OF_FILE, 0)
            raise host_failure(error) from error
        if not done and length:
            return self._end(op, Status.END_OF_FILE, 0)
        if self.synchronous:
            self.position = start + done
        return self._end(op, Status.SUCCESS, done)

    def _end(self, op: Operation, status: int, information: int) -> int:
        """How a transfer ends: asynchronous handles see it pending first, as on Windows since Vista."""
        op.information = information
        if not self.synchronous:
            op.immediate = False
            op.complete(status, information)
        elif status >= FIRST_ERROR:
            raise NtError(status)
        return status

    def write(self, op: Operation, data: bytes, offset: int | None) -> int:
        if self.is_directory:
            raise NtError(Status.INVALID_DEVICE_REQUEST)
        size = os.fstat(self.fd).st_size
        appending = not self.granted & access.FILE_WRITE_DATA
        start = size if appending or offset == WRITE_TO_END_OF_FILE else self._offset(offset)
        self._check_alignment(start, len(data))
        self.node.locks.check(self, op.process, start, len(data), True)
        end = start + len(data)
        if end > size and data:
            self.io.disk.charge(end - size)
        done = 0
        try:
            view = memoryview(data)
            while done < len(data):
                done += os.pwrite(self.fd, view[done:], start + done)
        except OverflowError:
            raise NtError(Status.INVALID_PARAMETER) from None
        except OSError as error:
            if not done:
                raise host_failure(error) from error
        if self.synchronous:
            self.position = start + done
        self.io.touched_file(self, True)
        return self._end(op, Status.SUCCESS, done)

    def set_size(self, size: int) -> None:
        """Cut or extend the file (with zeros)."""
        old = os.fstat(self.fd).st_size
        if size < old and (self.node.images or self.node.views):
            raise NtError(Status.USER_MAPPED_FILE)
        self.io.disk.charge(size - old)
        try:
            os.ftruncate(self.fd, size)
        except OverflowError:
            raise NtError(Status.INVALID_PARAMETER) from None
        except OSError as error:
            raise host_failure(error) from error
        self.io.touched_file(self, True)

    def flush(self, op: Operation) -> int:
        # What the guest wrote is in the host's cache already; a crash of the guest loses nothing.
        if not self.granted & WRITING and not self.is_directory:
            raise NtError(Status.ACCESS_DENIED)
        return Status.SUCCESS

    def lock(self, op: Operation, offset: int, length: int, exclusive: bool, wait: bool) -> int:
        """NtLockFile."""
        if self.is_directory:
            raise NtError(Status.INVALID_DEVICE_REQUEST)
        lock = Lock(self, op.process, offset, length, exclusive)
        if self.node.locks.take(lock):
            return Status.SUCCESS
        if not wait:
            raise NtError(Status.LOCK_NOT_GRANTED)
        self.node.locks.waiting.append((op, lock))
        return op.pend(lock)

    def cancel(self, op: Operation) -> None:
        if self.change_watch is not None:
            self.change_watch.forget(op)
        self.node.locks.waiting = [(o, lock) for o, lock in self.node.locks.waiting if o is not op]

    # controls ----------------------------------------------------------------------------------------

    def control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        if code >> 16 == 0x4D:  # IOCTL_MOUNTDEV_*
            raise NtError(Status.INVALID_DEVICE_REQUEST)
        if code >> 16 in (0x7, 0x2D):  # disk and storage ioctls need a volume handle
            raise NtError(Status.INVALID_PARAMETER)
        raise NtError(Status.INVALID_DEVICE_REQUEST)

    def fs_control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        if code in (FSCTL_GET_OBJECT_ID, FSCTL_CREATE_OR_GET_OBJECT_ID):
            if length < 64:
                raise NtError(Status.BUFFER_TOO_SMALL)
            info = self.stat()
            identity = struct.pack("<QQ", info.st_dev, info.st_ino)
            op.write(buffer, (identity + bytes(16) + identity).ljust(64, b"\0"))
            op.information = 64
            return Status.SUCCESS
        if code == FSCTL_GET_REPARSE_POINT and (not buffer or not length):
            raise NtError(Status.INVALID_USER_BUFFER)
        if code in (FSCTL_GET_REPARSE_POINT, FSCTL_DELETE_REPARSE_POINT):
            raise NtError(Status.NOT_A_REPARSE_POINT)  # host links are followed before a file is opened
        if code == FSCTL_SET_REPARSE_POINT:
            raise NtError(Status.PRIVILEGE_NOT_HELD)  # SeCreateSymbolicLinkPrivilege is not given
        if code == FSCTL_GET_COMPRESSION:
            if length < 2:
                raise NtError(Status.INVALID_PARAMETER)
            op.write(buffer, b"\0\0")
            op.information = 2
            return Status.SUCCESS
        if code == FSCTL_SET_SPARSE:
            return Status.SUCCESS  # host files are sparse by themselves
        if code == FSCTL_SET_ZERO_DATA:
            return self._zero(op, data)
        if code == FSCTL_QUERY_ALLOCATED_RANGES:
            return self._ranges(op, data, buffer, length)
        if code == FSCTL_IS_VOLUME_MOUNTED:
            return Status.SUCCESS
        if code in (FSCTL_SET_COMPRESSION, FSCTL_GET_RETRIEVAL_POINTERS):
            raise NtError(Status.INVALID_DEVICE_REQUEST)
        if code >> 16 != _FILE_SYSTEM or code in _UNKNOWN_TO_THIS_FILE_SYSTEM:
            raise NtError(Status.INVALID_DEVICE_REQUEST)
        raise op.thread.call.unsupported(f"file system control code {code:#x}", _FILE)

    def _zero(self, op: Operation, data: bytes) -> int:
        if len(data) < 16:
            raise NtError(Status.INVALID_PARAMETER)
        if not self.granted & access.FILE_WRITE_DATA:
            raise NtError(Status.ACCESS_DENIED)
        start, end = struct.unpack("<qq", data[:16])
        if not 0 <= start <= end:
            raise NtError(Status.INVALID_PARAMETER)
        end = min(end, self.size)
        try:
            for at in range(start, end, _CHUNK):
                os.pwrite(self.fd, bytes(min(_CHUNK, end - at)), at)
        except OSError as error:
            raise host_failure(error) from error
        return Status.SUCCESS

    def _ranges(self, op: Operation, data: bytes, buffer: int, length: int) -> int:
        if len(data) < 16:
            raise NtError(Status.INVALID_PARAMETER)
        start, size = struct.unpack("<qq", data[:16])
        end = min(start + size, self.size)
        if start < 0 or size < 0:
            raise NtError(Status.INVALID_PARAMETER)
        if start >= end:
            op.information = 0
            return Status.SUCCESS
        if length < 16:
            raise NtError(Status.BUFFER_TOO_SMALL)
        op.write(buffer, struct.pack("<QQ", start, end - start))
        op.information = 16
        return Status.SUCCESS

    # end ---------------------------------------------------------------------------------------------

    def check_deletable(self) -> None:
        """Raise what setting the delete disposition must answer when the file cannot go."""
        if not self.place.writable:
            raise self.place.refuse("write")
        if self.node.images:
            raise NtError(Status.CANNOT_DELETE)
        if self.is_directory:
            if not self.place.names or self.place.volume.holds_mount(self.place):
                raise NtError(Status.CANNOT_DELETE)
            if os.listdir(self.fd):
                raise NtError(Status.DIRECTORY_NOT_EMPTY)
        elif self.attributes & FILE_ATTRIBUTE_READONLY:
            raise NtError(Status.CANNOT_DELETE)

    def unlink(self) -> None:
        """Remove the name, if it still names this file."""
        info = os.fstat(self.fd)
        parent, name = self.place.open_parent()
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (there.st_dev, there.st_ino) != (info.st_dev, info.st_ino):
                return
            if stat.S_ISDIR(info.st_mode):
                os.rmdir(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)
                if info.st_nlink == 1:
                    self.io.disk.charge(-info.st_size)
        except FileNotFoundError:
            return
        except OSError as error:
            raise host_failure(error) from error
        finally:
            os.close(parent)
        self.io.names_changed()

    def closed(self) -> None:
        node = self.node
        if self.change_watch is not None:
            self.io.watches.remove(self.change_watch)
            self.change_watch.close()
        node.locks.release_file(self)
        node.opens.remove(self)
        if self.delete_on_close:
            node.delete_pending = True
        try:
            if node.delete_pending and (not node.opens or self.posix_delete) and self.place.writable:
                self.unlink()
        except NtError as error:
            if error.status not in _LOST_RACES:
                raise
        finally:
            if not node.used:
                self.io.nodes.pop(node.key, None)
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1


# Why a file that was to vanish may stay: its folder was filled, moved or protected meanwhile.
_LOST_RACES = (
    Status.DIRECTORY_NOT_EMPTY,
    Status.OBJECT_NAME_NOT_FOUND,
    Status.OBJECT_PATH_NOT_FOUND,
    Status.ACCESS_DENIED,
)
_FILE_SYSTEM = 9  # FILE_DEVICE_FILE_SYSTEM: the device type of the codes that could be meant for us
_UNKNOWN_TO_THIS_FILE_SYSTEM = (
    0x90018,  # FSCTL_LOCK_VOLUME
    0x9001C,  # FSCTL_UNLOCK_VOLUME
    0x90020,  # FSCTL_DISMOUNT_VOLUME
    0x900EB,  # FSCTL_READ_FILE_USN_DATA
    0x900F4,  # FSCTL_QUERY_USN_JOURNAL
    0x98344,  # FSCTL_DUPLICATE_EXTENTS_TO_FILE
    0x90064,  # FSCTL_GET_NTFS_VOLUME_DATA
    0x903BC,  # FSCTL_QUERY_FILE_REGIONS... of ReFS
    0x9C280,  # FSCTL_SET_INTEGRITY_INFORMATION
    0x9027C,  # FSCTL_GET_INTEGRITY_INFORMATION
    0x9030C,  # FSCTL_SET_EXTERNAL_BACKING
    0x90310,  # FSCTL_GET_EXTERNAL_BACKING
    0x90240,  # FSCTL_REQUEST_OPLOCK
)
