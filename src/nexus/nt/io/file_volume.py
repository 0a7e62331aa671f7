"""Volumes and disks opened as devices (`\\\\.\\C:`, `\\\\.\\PhysicalDrive0`): they tell sizes and numbers.

Their raw contents do not exist: a volume shows folders of the host, so reading sectors is refused as any
unknown request is, and nobody may open one for writing. Every volume is the only partition of a disk of its
own, which begins with `PARTITION_OFFSET` bytes of partition table.
"""

from __future__ import annotations

import os
import struct

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.file import (
    FILE_DEVICE_DISK,
    FILE_DIRECTORY_FILE,
    FILE_OPEN,
    FILE_OPEN_IF,
    FileObject,
    OpenRequest,
    Operation,
)
from nexus.nt.io.file_node import WRITING
from nexus.nt.io.path import wide
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.nt.io.device_io import IoManager
    from nexus.nt.io.volume import Volume

SECTOR = 512
TRACKS, SECTORS = 255, 63  # the geometry that every disk claims since addresses became linear
PARTITION_OFFSET = 1 << 20
FIXED_MEDIA = 12
BUS_TYPE_VIRTUAL = 14
IOCTL_DISK_GET_DRIVE_GEOMETRY = 0x7_0000
IOCTL_DISK_GET_DRIVE_GEOMETRY_EX = 0x7_00A0
IOCTL_DISK_GET_LENGTH_INFO = 0x7_405C
IOCTL_STORAGE_CHECK_VERIFY = 0x2D_4800
IOCTL_STORAGE_CHECK_VERIFY2 = 0x2D_0800
IOCTL_STORAGE_GET_DEVICE_NUMBER = 0x2D_1080
IOCTL_STORAGE_QUERY_PROPERTY = 0x2D_1400
IOCTL_VOLUME_GET_VOLUME_DISK_EXTENTS = 0x56_0000
IOCTL_MOUNTDEV_QUERY_DEVICE_NAME = 0x4D_0008
FSCTL_IS_VOLUME_MOUNTED = 0x9_0028
FSCTL_GET_REPARSE_POINT = 0x9_00A8
FSCTL_QUERY_USN_JOURNAL = 0x9_00F4
_DEVICE_PROPERTY, _SEEK_PENALTY_PROPERTY = 0, 7
_STANDARD_QUERY = 0
_FILE = "src/nexus/nt/io/file_volume.py"


def check_access(code: int, granted: int) -> None:
    """A control code names in bits 14 and 15 whether the handle must be one for reading or writing."""
    if (code & 0x4000 and not granted & access.FILE_READ_DATA) or (
        code & 0x8000 and not granted & access.FILE_WRITE_DATA
    ):
        raise NtError(Status.ACCESS_DENIED)


class RawDisk(FileObject):
    """An open handle to a disk as a whole."""

    __slots__ = ("io", "number", "volume")

    device_type = FILE_DEVICE_DISK

    def __init__(self, request: OpenRequest, volume: Volume, number: int) -> None:
        if request.options & FILE_DIRECTORY_FILE:
            raise NtError(Status.NOT_A_DIRECTORY)
        if request.disposition not in (FILE_OPEN, FILE_OPEN_IF) or request.desired & WRITING:
            raise NtError(Status.ACCESS_DENIED)
        granted = request.desired | (FileObject.type.all & ~WRITING if request.maximum else 0)
        super().__init__(granted, request.share, request.options)
        self.io: IoManager = request.io
        self.volume = volume
        self.number = number

    @property
    def path(self) -> str:
        return f"\\Device\\Harddisk{self.number}\\DR{self.number}"

    @property
    def partition(self) -> int:
        return 0

    @property
    def descriptor(self) -> int:
        """The opened host folder at the top of the volume; -1 for one that only leads to granted folders."""
        root = self.volume.top.root
        return -1 if root is None else root.fd

    @property
    def volume_size(self) -> int:
        """Bytes of the host's file system, a whole number of sectors."""
        info = os.fstatvfs(self.descriptor) if self.descriptor >= 0 else os.statvfs("/")
        return info.f_blocks * info.f_frsize // SECTOR * SECTOR

    @property
    def size(self) -> int:
        return self.volume_size + PARTITION_OFFSET

    def control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        check_access(code, self.granted)
        if code == IOCTL_STORAGE_QUERY_PROPERTY:
            return self._property(op, data, buffer, length)
        if code in (IOCTL_STORAGE_CHECK_VERIFY, IOCTL_STORAGE_CHECK_VERIFY2):
            return Status.SUCCESS
        row = _CONTROLS.get(code)
        if row is None:
            raise op.thread.call.unsupported(f"disk control code {code:#x}", _FILE)
        function, least = row
        if length < least:
            raise NtError(Status.BUFFER_TOO_SMALL)
        return self.answer(op, function(self), buffer, length)

    def answer(self, op: Operation, data: bytes, buffer: int, length: int) -> int:
        """As much of `data` as the caller has room for."""
        op.write(buffer, data[:length])
        op.information = min(length, len(data))
        return Status.SUCCESS

    def geometry(self) -> bytes:
        """DISK_GEOMETRY."""
        cylinders = self.size // (TRACKS * SECTORS * SECTOR)
        return struct.pack("<QIIII", cylinders, FIXED_MEDIA, TRACKS, SECTORS, SECTOR)

    def geometry_ex(self) -> bytes:
        """DISK_GEOMETRY_EX without partition and detection data."""
        return self.geometry() + struct.pack("<QQ", self.size, 0)

    def length_info(self) -> bytes:
        return struct.pack("<Q", self.size)

    def device_number(self) -> bytes:
        """STORAGE_DEVICE_NUMBER."""
        return struct.pack("<III", FILE_DEVICE_DISK, self.number, self.partition)

    def _property(self, op: Operation, data: bytes, buffer: int, length: int) -> int:
        """STORAGE_PROPERTY_QUERY; a caller with room for the header alone learns the size that way."""
        if len(data) < 12 or length < 8:
            raise NtError(Status.INVALID_PARAMETER)
        wanted, kind = struct.unpack_from("<II", data)
        if kind != _STANDARD_QUERY:
            raise NtError(Status.NOT_SUPPORTED)
        if wanted == _DEVICE_PROPERTY:  # STORAGE_DEVICE_DESCRIPTOR
            found = struct.pack("<IIBBBB6IB3x", 40, 40, FILE_DEVICE_DISK, *bytes(7), BUS_TYPE_VIRTUAL, 0, 0)
        elif wanted == _SEEK_PENALTY_PROPERTY:  # DEVICE_SEEK_PENALTY_DESCRIPTOR
            found = struct.pack("<IIB3x", 12, 12, 0)
        else:
            raise NtError(Status.NOT_SUPPORTED)
        return self.answer(op, found, buffer, length if length >= len(found) else 8)

    def fs_control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        raise NtError(Status.INVALID_DEVICE_REQUEST)


class VolumeFile(RawDisk):
    """An open handle to a volume as a whole."""

    __slots__ = ()

    @property
    def path(self) -> str:
        return f"\\Device\\{self.volume.device}"

    @property
    def partition(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return self.volume_size

    def open_relative(self, request: OpenRequest) -> tuple[FileObject, int]:
        """A file of the volume, by its path or its id."""
        from nexus.nt.io.file_open import open_file

        request.root = None
        return open_file(self.volume, request)

    def control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        if code == IOCTL_VOLUME_GET_VOLUME_DISK_EXTENTS:  # VOLUME_DISK_EXTENTS
            if length < 32:
                raise NtError(Status.BUFFER_TOO_SMALL)
            found = struct.pack("<IxxxxIxxxxQQ", 1, self.number, PARTITION_OFFSET, self.size)
            return self.answer(op, found, buffer, length)
        if code == IOCTL_MOUNTDEV_QUERY_DEVICE_NAME:  # MOUNTDEV_NAME
            name = wide(self.path)
            found = struct.pack("<H", len(name)) + name
            if length < 4:
                raise NtError(Status.INVALID_PARAMETER)
            if length < len(found):
                op.write(buffer, found[:2])
                op.information = 4
                return Status.BUFFER_OVERFLOW
            return self.answer(op, found, buffer, length)
        return super().control(op, code, data, buffer, length)

    def fs_control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        if code == FSCTL_IS_VOLUME_MOUNTED:
            return Status.SUCCESS
        if code == FSCTL_QUERY_USN_JOURNAL:
            raise NtError(Status.JOURNAL_NOT_ACTIVE)
        if code == FSCTL_GET_REPARSE_POINT:
            raise NtError(Status.INVALID_PARAMETER)  # for files and folders only
        raise op.thread.call.unsupported(f"file system control code {code:#x} of a volume", _FILE)


_CONTROLS: dict[int, tuple[Callable[[RawDisk], bytes], int]] = {
    IOCTL_DISK_GET_DRIVE_GEOMETRY: (RawDisk.geometry, 24),
    IOCTL_DISK_GET_DRIVE_GEOMETRY_EX: (RawDisk.geometry_ex, 32),
    IOCTL_DISK_GET_LENGTH_INFO: (RawDisk.length_info, 8),
    IOCTL_STORAGE_GET_DEVICE_NUMBER: (RawDisk.device_number, 12),
}
