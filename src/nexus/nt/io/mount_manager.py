"""The mount point manager: which drive letters and volume names lead to which device (mountmgr.h).

Every volume has two names, `\\DosDevices\\C:` and `\\??\\Volume{...}`. They are those of the machine: making
and removing mount points is refused.
"""

from __future__ import annotations

import struct

from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_DEVICE_NETWORK, FileObject, OpenRequest, Operation
from nexus.nt.io.file_volume import check_access
from nexus.nt.io.path import text_of, upcase, wide
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.io.device_io import IoManager
    from nexus.nt.io.volume import Volume

IOCTL_MOUNTMGR_CREATE_POINT = 0x6D_C000
IOCTL_MOUNTMGR_DELETE_POINTS = 0x6D_C004
IOCTL_MOUNTMGR_QUERY_POINTS = 0x6D_0008
IOCTL_MOUNTMGR_DELETE_POINTS_DBONLY = 0x6D_C00C
IOCTL_MOUNTMGR_QUERY_DOS_VOLUME_PATH = 0x6D_0030
IOCTL_MOUNTMGR_QUERY_DOS_VOLUME_PATHS = 0x6D_0034
_CHANGES = (
    IOCTL_MOUNTMGR_CREATE_POINT,
    IOCTL_MOUNTMGR_DELETE_POINTS,
    IOCTL_MOUNTMGR_DELETE_POINTS_DBONLY,
)
# Wine's own
IOCTL_MOUNTMGR_QUERY_UNIX_DRIVE = 0x6D_4084
_NOT_HERE = (
    *(0x6D_C088, 0x6D_408C),  # links between shell folders and the host's
    *(0x6D_40C0, 0x6D_80C4, 0x6D_80C8, 0x6D_40CC),  # a key chain: the registry keeps credentials instead
)
DRIVE_FIXED = 3
_HEAD = 8  # MOUNTMGR_MOUNT_POINTS before its array
_POINT = struct.Struct("<IHxxIHxxIHxx")  # symbolic link, unique id, device: offset and length each
_UNIX_DRIVE = struct.Struct("<IIIIQHHHH")
_FILE = "src/nexus/nt/io/mount_manager.py"


class MountPoint:
    """One name of a device."""

    __slots__ = ("device", "identity", "link")

    def __init__(self, link: str, device: str, identity: bytes) -> None:
        self.link = link
        self.device = device
        self.identity = identity


class MountManagerFile(FileObject):
    """An open handle to the mount point manager."""

    __slots__ = ("io",)

    device_type = FILE_DEVICE_NETWORK

    def __init__(self, io: IoManager, request: OpenRequest) -> None:
        granted = request.desired | (FileObject.type.all if request.maximum else 0)
        super().__init__(granted, request.share, request.options)
        self.io = io

    @property
    def path(self) -> str:
        return "\\Device\\MountPointManager"

    def control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        check_access(code, self.granted)
        if code == IOCTL_MOUNTMGR_QUERY_POINTS:
            return self._query_points(op, data, buffer, length)
        if code in (IOCTL_MOUNTMGR_QUERY_DOS_VOLUME_PATH, IOCTL_MOUNTMGR_QUERY_DOS_VOLUME_PATHS):
            return self._volume_paths(op, data, buffer, length)
        if code == IOCTL_MOUNTMGR_QUERY_UNIX_DRIVE:
            return self._drive(op, data, buffer, length)
        if code in _CHANGES:
            raise NtError(Status.ACCESS_DENIED)
        if code in _NOT_HERE:
            raise NtError(Status.NOT_SUPPORTED)
        raise op.thread.call.unsupported(f"mount manager control code {code:#x}", _FILE)

    def _points(self) -> list[MountPoint]:
        points = []
        for letter, volume in self.io.volumes.items():
            identity = b"DMIO:ID:" + bytes.fromhex(volume.guid.replace("-", ""))
            for link in (f"\\DosDevices\\{letter}:", f"\\??\\Volume{{{volume.guid}}}"):
                points.append(MountPoint(link, f"\\Device\\{volume.device}", identity))
        return points

    def _query_points(self, op: Operation, data: bytes, buffer: int, length: int) -> int:
        """MOUNTMGR_MOUNT_POINT names what to look for; the answer is MOUNTMGR_MOUNT_POINTS.

        A short buffer gets the size and the number of points.
        """
        if len(data) < _POINT.size or length < _HEAD + _POINT.size:
            raise NtError(Status.INVALID_PARAMETER)
        fields = _POINT.unpack_from(data)
        link, identity, device = (_piece(data, fields[i], fields[i + 1]) for i in (0, 2, 4))
        found = [
            point
            for point in self._points()
            if (link is None or upcase(text_of(link)) == upcase(point.link))
            and (identity is None or identity == point.identity)
            and (device is None or upcase(text_of(device)) == upcase(point.device))
        ]
        heads, tail = b"", b""
        start = _HEAD + len(found) * _POINT.size
        for point in found:
            row: list[int] = []
            for piece in (wide(point.link), point.identity, wide(point.device)):
                row += start + len(tail), len(piece)
                tail += piece
            heads += _POINT.pack(*row)
        size = start + len(tail)
        answer = struct.pack("<II", size, len(found)) + heads + tail
        if size > length:
            op.write(buffer, answer[:_HEAD])
            op.information = _HEAD
            return Status.BUFFER_OVERFLOW
        op.write(buffer, answer)
        op.information = size
        return Status.SUCCESS

    def _volume_paths(self, op: Operation, data: bytes, buffer: int, length: int) -> int:
        """MOUNTMGR_TARGET_NAME to MOUNTMGR_VOLUME_PATHS: the drive letters of a device or volume name."""
        if len(data) < 4 or length < 4:
            raise NtError(Status.INVALID_PARAMETER)
        name = _piece(data, 2, int.from_bytes(data[:2], "little"))
        wanted = upcase(text_of(name or b""))
        for letter, volume in self.io.volumes.items():
            device = f"\\Device\\{volume.device}"
            if wanted in map(upcase, (device, f"\\??\\Volume{{{volume.guid}}}", f"\\DosDevices\\{letter}:")):
                paths = wide(f"{letter}:\0\0")
                answer = struct.pack("<I", len(paths)) + paths
                if length < len(answer):
                    op.write(buffer, answer[:4])
                    op.information = 4
                    return Status.BUFFER_OVERFLOW
                op.write(buffer, answer)
                op.information = len(answer)
                return Status.SUCCESS
        raise NtError(Status.OBJECT_NAME_NOT_FOUND)

    def _drive(self, op: Operation, data: bytes, buffer: int, length: int) -> int:
        """Wine's mountmgr_unix_drive: what kind of drive a letter is. Host paths are not told."""
        if len(data) < _UNIX_DRIVE.size or length < _UNIX_DRIVE.size:
            raise NtError(Status.INVALID_PARAMETER)
        letter = chr(_UNIX_DRIVE.unpack_from(data)[5])
        volume: Volume | None = self.io.volumes.get(upcase(letter))
        if volume is None:
            raise NtError(Status.NO_SUCH_DEVICE)
        size = _UNIX_DRIVE.size
        op.write(buffer, _UNIX_DRIVE.pack(size, DRIVE_FIXED, 0, volume.serial, 0, ord(letter), 0, 0, 0))
        op.information = size
        return Status.SUCCESS


def _piece(data: bytes, offset: int, length: int) -> bytes | None:
    """Part of a request; None for offset 0, which means "any"."""
    if offset + length > len(data):
        raise NtError(Status.INVALID_PARAMETER)
    return data[offset : offset + length] if offset else None
