"""NtQueryInformationFile: what a file tells about itself, class by class.

Each class is a function `(file, access) -> bytes`; a class that ends in a name also says how long its fixed
part is, so that a short buffer gets what fits and STATUS_BUFFER_OVERFLOW.
"""

from __future__ import annotations

import os
import struct

from nexus.nt.errors import NtError
from nexus.nt.io.directory import allocation, times_of
from nexus.nt.io.file import FileObject
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.path import short_name, split_path, wide
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Query = Callable[[DiskFile, int], bytes]

FILE_BASIC, FILE_STANDARD, FILE_NAME, FILE_POSITION = 4, 5, 9, 14
FILE_COMPLETION, FILE_IO_COMPLETION_NOTIFICATION = 30, 41


def basic(info: os.stat_result, attributes: int) -> bytes:
    """FILE_BASIC_INFORMATION."""
    return struct.pack("<4QI4x", *times_of(info), attributes)


def network_open(info: os.stat_result, attributes: int) -> bytes:
    """FILE_NETWORK_OPEN_INFORMATION."""
    size = 0 if attributes & 0x10 else info.st_size
    return struct.pack("<4QQQI4x", *times_of(info), allocation(info), size, attributes)


def _basic(file: DiskFile, granted: int) -> bytes:
    return basic(file.stat(), file.attributes)


def _standard(file: DiskFile, granted: int) -> bytes:
    info = file.stat()
    gone = file.node.delete_pending or file.delete_on_close
    size = 0 if file.is_directory else info.st_size
    links = max(0, (1 if file.is_directory else info.st_nlink) - gone)
    return struct.pack("<QQIBBxx", allocation(info), size, links, gone, file.is_directory)


def _internal(file: DiskFile, granted: int) -> bytes:
    return struct.pack("<Q", file.stat().st_ino)


def _ea(file: DiskFile, granted: int) -> bytes:
    return bytes(4)


def _access(file: DiskFile, granted: int) -> bytes:
    return struct.pack("<I", granted)


def _name(file: DiskFile, granted: int) -> bytes:
    name = wide(file.volume_path)
    return struct.pack("<I", len(name)) + name


def _position(file: DiskFile, granted: int) -> bytes:
    return struct.pack("<q", file.position)


def _mode(file: DiskFile, granted: int) -> bytes:
    return struct.pack("<I", file.mode)


def _alignment(file: DiskFile, granted: int) -> bytes:
    return struct.pack("<I", 0)


def _all(file: DiskFile, granted: int) -> bytes:
    parts = (_basic, _standard, _internal, _ea, _access, _position, _mode, _alignment, _name)
    return b"".join(part(file, granted) for part in parts)


def _end_of_file(file: DiskFile, granted: int) -> bytes:
    return struct.pack(
        "<Q", file.size
    )  # NT only sets this class; Wine's loader asks for it when it reads manifests


def _alternate_name(file: DiskFile, granted: int) -> bytes:
    parts = split_path(file.volume_path)
    name = wide(short_name(parts[-1]) or parts[-1] if parts else "\\")
    return struct.pack("<I", len(name)) + name


def _stream(file: DiskFile, granted: int) -> bytes:
    if file.is_directory:
        return b""
    name = wide("::$DATA")
    info = file.stat()
    return struct.pack("<IIQQ", 0, len(name), info.st_size, allocation(info)) + name


def _compression(file: DiskFile, granted: int) -> bytes:
    return struct.pack("<QHBBB3x", file.size, 0, 0, 0, 0)


def _network_open(file: DiskFile, granted: int) -> bytes:
    return network_open(file.stat(), file.attributes)


def _attribute_tag(file: DiskFile, granted: int) -> bytes:
    return struct.pack("<II", file.attributes, 0)


def _priority(file: DiskFile, granted: int) -> bytes:
    return struct.pack("<I", 2)  # IoPriorityNormal


def _hard_links(file: DiskFile, granted: int) -> bytes:
    """The names this kernel knows: the one the file was opened by."""
    parts = split_path(file.volume_path)
    name = wide(parts[-1] if parts else "")
    parent = file.place.volume.find(parts[:-1], wanted="").info
    number = parent.st_ino if parent is not None else 0
    entry = struct.pack("<IIQI", 0, 0, number, len(name) // 2) + name
    return struct.pack("<II", 8 + len(entry), 1) + entry


def _is_remote(file: DiskFile, granted: int) -> bytes:
    return b"\0"


def _standard_link(file: DiskFile, granted: int) -> bytes:
    links = file.stat().st_nlink
    return struct.pack("<IIBBxx", links, links, file.node.delete_pending, file.is_directory)


def _volume_name(file: DiskFile, granted: int) -> bytes:
    name = wide("\\Device\\" + file.place.volume.device)
    return struct.pack("<I", len(name)) + name


def _id(file: DiskFile, granted: int) -> bytes:
    info = file.stat()
    return struct.pack("<QQQ", file.place.volume.serial, info.st_ino, 0)


def _stat(file: DiskFile, granted: int) -> bytes:
    info = file.stat()
    size = 0 if file.is_directory else info.st_size
    effective = FileObject.type.all if file.place.writable else FileObject.type.all & 0x1200A9
    head = struct.pack("<Q4QQQ", info.st_ino, *times_of(info), allocation(info), size)
    return head + struct.pack("<IIII", file.attributes, 0, info.st_nlink, effective)


def _case_sensitive(file: DiskFile, granted: int) -> bytes:
    if not file.is_directory:
        raise NtError(Status.INVALID_PARAMETER)
    return bytes(4)


# class -> (function, size of the part that must fit)
_DISK: dict[int, tuple[Query, int]] = {
    4: (_basic, 40),
    5: (_standard, 24),
    6: (_internal, 8),
    7: (_ea, 4),
    9: (_name, 8),
    18: (_all, 104),
    20: (_end_of_file, 8),
    21: (_alternate_name, 8),
    22: (_stream, 0),
    28: (_compression, 16),
    34: (_network_open, 56),
    35: (_attribute_tag, 8),
    43: (_priority, 4),
    46: (_hard_links, 32),
    48: (_name, 8),
    51: (_is_remote, 1),
    54: (_standard_link, 12),
    58: (_volume_name, 8),
    59: (_id, 24),
    68: (_stat, 72),
    71: (_case_sensitive, 4),
}
_NOT_FOR_QUERY = (
    1,
    2,
    3,
    10,
    11,
    12,
    13,
    19,
    27,
    30,
    31,
    36,
    37,
    38,
    39,
    40,
    42,
    50,
    56,
    57,
    60,
    61,
    63,
    64,
    65,
    66,
    72,
)
_OF_PIPES = (23, 24, 25, 26)
_ENDS_IN_NAME = (9, 22, 48)
LAST_CLASS = 84


def exists(kind: int) -> bool:
    """Whether there is an information class of that number."""
    return 0 < kind < LAST_CLASS


def query(file: FileObject, kind: int, length: int, granted: int) -> tuple[bytes, int] | None:
    """(the bytes to hand out, STATUS_SUCCESS or STATUS_BUFFER_OVERFLOW); None for a class nobody has
    written yet.
    """
    if kind in _NOT_FOR_QUERY:
        raise NtError(Status.INVALID_INFO_CLASS)
    special = file.query(kind, length, granted)
    if special is not None:
        if length < len(special) and kind not in _ENDS_IN_NAME:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        return _fitted(special, length)
    if not isinstance(file, DiskFile):
        if kind in _DISK and length < _DISK[kind][1]:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        if kind in _DISK or kind in _OF_PIPES:
            raise NtError(Status.INVALID_PARAMETER)
        return None
    row = _DISK.get(kind)
    if row is None:
        if kind in _OF_PIPES:
            raise NtError(Status.INVALID_PARAMETER)
        return None
    function, fixed = row
    if length < fixed:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    return _fitted(function(file, granted), length)


def _fitted(data: bytes, length: int) -> tuple[bytes, int]:
    if len(data) > length:
        return data[:length], Status.BUFFER_OVERFLOW
    return data, Status.SUCCESS
