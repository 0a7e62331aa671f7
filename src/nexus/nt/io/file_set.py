"""NtSetInformationFile: changing a file's times, size, position, name, fate and completion port."""

from __future__ import annotations

import os
import struct

from nexus.nt import access
from nexus.nt.clock import EPOCH_1970
from nexus.nt.errors import NtError
from nexus.nt.io.completion import IoCompletion
from nexus.nt.io.file import FILE_SKIP_SET_EVENT_ON_HANDLE, SYNCHRONOUS, FileObject
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.file_rename import dispose, link, rename
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_UNCHANGED = (0, -1, -2)  # 0 keeps a time, -1 and -2 switch its automatic updating
_SETTABLE_MODE = 0x36


def _basic(call: Call, file: DiskFile, data: bytes) -> None:
    created, accessed, written, _changed, attributes = struct.unpack_from("<4qI", data)
    if any(time < -2 for time in (created, accessed, written)):
        raise NtError(Status.INVALID_PARAMETER)
    if attributes & 0x10 and not file.is_directory:
        raise NtError(Status.INVALID_PARAMETER)
    if not file.place.writable:
        raise file.place.refuse("write")
    info = file.stat()
    if accessed not in _UNCHANGED or written not in _UNCHANGED:
        times = [
            old if new in _UNCHANGED else max(0, new - EPOCH_1970) * 100
            for new, old in ((accessed, info.st_atime_ns), (written, info.st_mtime_ns))
        ]
        try:
            os.utime(file.fd, ns=(times[0], times[1]))
        except (OSError, OverflowError) as error:
            raise NtError(Status.INVALID_PARAMETER) from error
    if attributes:
        file.set_attributes(attributes)


def _position(call: Call, file: DiskFile, data: bytes) -> None:
    (position,) = struct.unpack_from("<q", data)
    if position < 0:
        raise NtError(Status.INVALID_PARAMETER)
    file.position = position


def _allocation(call: Call, file: DiskFile, data: bytes) -> None:
    (size,) = struct.unpack_from("<q", data)
    if size < 0:
        raise NtError(Status.INVALID_PARAMETER)
    if size < file.size:
        file.set_size(size)


def _end_of_file(call: Call, file: DiskFile, data: bytes) -> None:
    (size,) = struct.unpack_from("<q", data)
    if size < 0:
        raise NtError(Status.INVALID_PARAMETER)
    if file.is_directory:
        raise NtError(Status.INVALID_PARAMETER)
    file.set_size(size)


def _valid_data_length(call: Call, file: DiskFile, data: bytes) -> None:
    (size,) = struct.unpack_from("<q", data)
    if not 0 < size <= file.size:
        raise NtError(Status.INVALID_PARAMETER)
    raise NtError(Status.PRIVILEGE_NOT_HELD)  # SeManageVolumePrivilege


def _rename(call: Call, file: DiskFile, data: bytes) -> None:
    rename(call, file, data, data[0] & 1)


def _rename_ex(call: Call, file: DiskFile, data: bytes) -> None:
    rename(call, file, data, struct.unpack_from("<I", data)[0])


def _link(call: Call, file: DiskFile, data: bytes) -> None:
    link(call, file, data, data[0] & 1)


def _link_ex(call: Call, file: DiskFile, data: bytes) -> None:
    link(call, file, data, struct.unpack_from("<I", data)[0])


def _disposition(call: Call, file: DiskFile, data: bytes) -> None:
    dispose(file, 1 if data[0] else 0)


def _disposition_ex(call: Call, file: DiskFile, data: bytes) -> None:
    dispose(file, struct.unpack_from("<I", data)[0])


def _case_sensitive(call: Call, file: DiskFile, data: bytes) -> None:
    raise NtError(Status.NOT_SUPPORTED)


# class -> (function, length that must be there, right the handle must hold)
_DISK = {
    4: (_basic, 40, 0),  # Wine's SetFileAttributes opens with SYNCHRONIZE alone
    10: (_rename, 20, access.DELETE),
    11: (_link, 20, 0),
    13: (_disposition, 1, access.DELETE),
    14: (_position, 8, 0),
    19: (_allocation, 8, access.FILE_WRITE_DATA),
    20: (_end_of_file, 8, access.FILE_WRITE_DATA),
    39: (_valid_data_length, 8, access.FILE_WRITE_DATA),
    64: (_disposition_ex, 4, access.DELETE),
    65: (_rename_ex, 20, access.DELETE),
    71: (_case_sensitive, 4, access.FILE_WRITE_ATTRIBUTES),
    72: (_link_ex, 20, 0),
}
_ONLY_FOR_QUERY = (
    *range(1, 10),
    *(12, 17, 18, 21, 22, 24, 26, 28, 33, 34, 35, 37, 38, 46, 48, 50, 51, 54, 55, 58, 59, 60, 62, 63, 68, 70),
)
_LAST_CLASS = 84


def set_information(call: Call, file: FileObject, kind: int, data: bytes, granted: int) -> bool:
    """Do it; False for a class nobody has written yet."""
    if kind == 30:
        _set_completion(call, file, data)
    elif kind == 61:
        file.port = None
        _set_completion(call, file, data)
    elif kind == 41:
        _need(data, 4)
        if file.synchronous:
            raise NtError(Status.INVALID_PARAMETER)
        file.completion_flags |= struct.unpack_from("<I", data)[0] & 0x7
        if file.completion_flags & FILE_SKIP_SET_EVENT_ON_HANDLE:
            file.signaled = False
    elif kind == 16:
        _set_mode(file, data)
    elif kind == 43:
        _need(data, 4)
        if struct.unpack_from("<I", data)[0] > 2:
            raise NtError(Status.INVALID_PARAMETER)
    elif file.set_information(call, kind, data):
        return True
    elif isinstance(file, DiskFile) and kind in _DISK:
        function, length, right = _DISK[kind]
        _need(data, length)
        if right & ~granted:
            raise NtError(Status.ACCESS_DENIED)
        function(call, file, data)
    elif kind in _DISK or kind == 23:
        raise NtError(Status.INVALID_PARAMETER)
    elif kind in _ONLY_FOR_QUERY or not kind or kind >= _LAST_CLASS:
        raise NtError(Status.INVALID_INFO_CLASS)
    else:
        return False
    return True


def _need(data: bytes, length: int) -> None:
    if len(data) < length:
        raise NtError(Status.INFO_LENGTH_MISMATCH)


def _set_mode(file: FileObject, data: bytes) -> None:
    _need(data, 4)
    (mode,) = struct.unpack_from("<I", data)
    if (
        mode & ~_SETTABLE_MODE
        or bool(mode & SYNCHRONOUS) != file.synchronous
        or mode & SYNCHRONOUS == SYNCHRONOUS
    ):
        raise NtError(Status.INVALID_PARAMETER)
    file.mode = mode


def _set_completion(call: Call, file: FileObject, data: bytes) -> None:
    _need(data, 16)
    handle, key = struct.unpack_from("<QQ", data)
    if not handle:
        return
    if file.port is not None or file.synchronous:
        raise NtError(Status.INVALID_PARAMETER)
    file.port = call.process.handles.resolve(handle, IoCompletion, access.IO_COMPLETION_MODIFY_STATE)
    file.completion_key = key
    if not file.completion_flags & FILE_SKIP_SET_EVENT_ON_HANDLE:
        file.signaled = True
