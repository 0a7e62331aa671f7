"""NtQueryVolumeInformationFile: what kind of device a file lies on, and how much room there is."""

from __future__ import annotations

import os
import struct

from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_DEVICE_MAILSLOT, FileObject
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.path import wide
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.io.file_volume import VolumeFile

SECTOR, SECTORS_PER_CLUSTER = 512, 8
CLUSTER = SECTOR * SECTORS_PER_CLUSTER
MAX_COMPONENT = 255
# FILE_CASE_PRESERVED_NAMES | FILE_UNICODE_ON_DISK | FILE_PERSISTENT_ACLS | FILE_SUPPORTS_SPARSE_FILES |
# FILE_SUPPORTS_HARD_LINKS | FILE_SUPPORTS_OPEN_BY_FILE_ID
ATTRIBUTES = 0x2 | 0x4 | 0x8 | 0x40 | 0x0040_0000 | 0x0100_0000
LAST_CLASS = 15


def _clusters(file: DiskFile | VolumeFile) -> tuple[int, int, int]:
    """Total clusters, clusters the guest may still take, and free clusters of the host."""
    fd = file.fd if isinstance(file, DiskFile) else file.descriptor
    info = os.fstatvfs(fd) if fd >= 0 else os.statvfs("/")
    disk = file.io.disk
    total = info.f_blocks * info.f_frsize // CLUSTER
    free = info.f_bavail * info.f_frsize // CLUSTER
    return total, min(free, max(0, disk.limit - disk.used) // CLUSTER), free


def query(file: FileObject, kind: int, length: int) -> tuple[bytes, int] | None:
    """(bytes, status); None for a class nobody has written yet."""
    if kind == 4 and file.device_type != FILE_DEVICE_MAILSLOT:  # FileFsDeviceInformation
        return _fitted(struct.pack("<II", file.device_type, file.characteristics), length, 8)
    if not kind or kind >= LAST_CLASS:
        raise NtError(Status.INVALID_INFO_CLASS)
    if isinstance(file, DiskFile):
        volume = file.place.volume
    else:
        from nexus.nt.io.file_volume import VolumeFile

        if not isinstance(file, VolumeFile):
            raise NtError(Status.INVALID_DEVICE_REQUEST if kind in (1, 3, 5, 7) else Status.INVALID_PARAMETER)
        volume = file.volume
    if kind == 1:  # FileFsVolumeInformation
        label = wide(volume.label)
        return _fitted(struct.pack("<QIIBx", 0, volume.serial, len(label), 1) + label, length, 18)
    if kind == 3:  # FileFsSizeInformation
        total, mine, _ = _clusters(file)
        return _fitted(struct.pack("<QQII", total, mine, SECTORS_PER_CLUSTER, SECTOR), length, 24)
    if kind == 5:  # FileFsAttributeInformation
        name = wide("NTFS")
        return _fitted(struct.pack("<III", ATTRIBUTES, MAX_COMPONENT, len(name)) + name, length, 12)
    if kind == 7:  # FileFsFullSizeInformation
        total, mine, free = _clusters(file)
        return _fitted(struct.pack("<QQQII", total, mine, free, SECTORS_PER_CLUSTER, SECTOR), length, 32)
    if kind == 8:  # FileFsObjectIdInformation
        return _fitted(bytes.fromhex(volume.guid.replace("-", "")) + bytes(48), length, 64)
    if kind == 11:  # FileFsSectorSizeInformation
        sizes = struct.pack("<7I", SECTOR, CLUSTER, CLUSTER, SECTOR, 0x3, 0, 0)
        return _fitted(sizes, length, 28)
    return None


def _fitted(data: bytes, length: int, fixed: int) -> tuple[bytes, int]:
    if length < fixed:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    if length < len(data):
        return data[:length], Status.BUFFER_OVERFLOW
    return data, Status.SUCCESS
