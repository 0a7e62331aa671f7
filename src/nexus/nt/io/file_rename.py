"""Renaming, linking and disposing of files: the set classes that change names."""

from __future__ import annotations

import os
import stat
import struct
from contextlib import contextmanager

from nexus.nt.errors import NtError
from nexus.nt.io.file import FileObject
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.file_node import FILE_ATTRIBUTE_READONLY
from nexus.nt.io.path import BadName, host_name, split_path, text_of
from nexus.nt.io.place import Place, host_failure
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus.nt.call import Call

REPLACE_IF_EXISTS = 0x1
POSIX_SEMANTICS = 0x2
IGNORE_READONLY_ATTRIBUTE = 0x40

DISPOSITION_DELETE = 0x1
DISPOSITION_POSIX_SEMANTICS = 0x2
DISPOSITION_ON_CLOSE = 0x8
DISPOSITION_IGNORE_READONLY_ATTRIBUTE = 0x10


def _parts(path: str) -> list[str]:
    try:
        return split_path(path)
    except BadName:
        raise NtError(Status.OBJECT_NAME_INVALID) from None


def _target(call: Call, file: DiskFile, data: bytes) -> Place:
    """The place a FILE_RENAME_INFORMATION or FILE_LINK_INFORMATION names."""
    if len(data) < 20:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    root_handle, length = struct.unpack_from("<QI", data, 8)
    if length & 1 or 20 + length > len(data) or not length:
        raise NtError(Status.INVALID_PARAMETER)
    name = text_of(data[20 : 20 + length])
    volume = file.place.volume
    if root_handle:
        if name.startswith("\\"):
            raise NtError(Status.INVALID_PARAMETER)
        root = call.process.handles.resolve(root_handle, FileObject, 0)
        if not isinstance(root, DiskFile):
            raise NtError(Status.OBJECT_TYPE_MISMATCH)
        if root.place.volume is not volume:
            raise NtError(Status.NOT_SAME_DEVICE)
        parts = split_path(root.volume_path) + _parts(name)
    elif name.startswith("\\"):
        found = call.kernel.namespace.parse(name)
        target_volume = getattr(found.object, "volume", None)
        if target_volume is None:
            raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
        if target_volume is not volume:
            raise NtError(Status.NOT_SAME_DEVICE)
        parts = _parts(found.rest)
    else:
        if "\\" in name:
            raise NtError(Status.OBJECT_NAME_INVALID)
        parts = [*split_path(file.volume_path)[:-1], name]
    place = volume.find(parts, "write")
    if not place.writable:
        raise place.refuse("write")
    return place


def _wanted_name(data: bytes) -> str:
    """The last component of the new name, in the caller's spelling."""
    length = struct.unpack_from("<I", data, 16)[0]
    return _parts(text_of(data[20 : 20 + length]))[-1]


def _clear(call: Call, file: DiskFile, target: Place, flags: int) -> None:
    """Check that an existing target may be replaced."""
    info = target.info
    if info is None:
        return
    if (info.st_dev, info.st_ino) == file.node.key:
        return
    if not flags & REPLACE_IF_EXISTS:
        raise NtError(Status.OBJECT_NAME_COLLISION)
    if stat.S_ISDIR(info.st_mode) and not flags & POSIX_SEMANTICS:
        raise NtError(Status.ACCESS_DENIED)
    if not info.st_mode & 0o222 and not flags & IGNORE_READONLY_ATTRIBUTE:
        raise NtError(Status.ACCESS_DENIED)
    node = call.kernel.io.nodes.get((info.st_dev, info.st_ino))
    if node is not None and node.opens and not flags & POSIX_SEMANTICS:
        raise NtError(Status.ACCESS_DENIED)
    if node is not None and node.images:
        raise NtError(Status.ACCESS_DENIED)


@contextmanager
def _parents(source: Place, target: Place) -> Iterator[tuple[int, str, int, str]]:
    """Descriptor of the folder and name in it of two places; a host failure inside becomes its status."""
    old, old_name = source.open_parent()
    try:
        new, new_name = target.open_parent()
        try:
            yield old, old_name, new, new_name
        except OSError as error:
            raise host_failure(error) from error
        finally:
            os.close(new)
    finally:
        os.close(old)


def rename(call: Call, file: DiskFile, data: bytes, flags: int) -> None:
    """FileRenameInformation(Ex)."""
    source = file.place
    if not source.writable:
        raise source.refuse("write")
    if not source.names or source.volume.holds_mount(source):
        raise NtError(Status.ACCESS_DENIED)
    target = _target(call, file, data)
    _clear(call, file, target, flags)
    if target.volume.holds_mount(target):
        raise NtError(Status.ACCESS_DENIED)
    if file.is_directory and _open_below(call, source):
        raise NtError(Status.ACCESS_DENIED)
    replaced, target = target, _respelled(target, data)
    if target.path == source.path:
        return
    with _parents(source, target) as (old, old_name, new, new_name):
        if replaced.info is not None and file.is_directory and not stat.S_ISDIR(replaced.info.st_mode):
            os.unlink(replaced.names[-1], dir_fd=new)  # the host lets no folder take a file's place
        elif replaced.info is not None and replaced.names != target.names:  # another spelling is replaced
            os.rename(old_name, replaced.names[-1], src_dir_fd=old, dst_dir_fd=new)
            old, old_name = new, replaced.names[-1]
        os.rename(old_name, new_name, src_dir_fd=old, dst_dir_fd=new)
    target.info = os.fstat(file.fd)
    for other in file.node.opens:
        other.place = target
    io = call.kernel.io
    io.names_changed()
    io.touched_file(file, True)


def _respelled(target: Place, data: bytes) -> Place:
    """The target under the name the caller wrote: renaming may change nothing but case."""
    try:
        name = host_name(_wanted_name(data))
    except BadName:
        raise NtError(Status.OBJECT_NAME_INVALID) from None
    if target.names and target.names[-1] != name:
        return Place(
            target.volume, target.root, (*target.names[:-1], name), (*target.path[:-1], name), target.info
        )
    return target


def _open_below(call: Call, folder: Place) -> bool:
    depth = len(folder.path)
    return any(
        other.place.volume is folder.volume
        and len(other.place.path) > depth
        and other.place.path[:depth] == folder.path
        for node in call.kernel.io.nodes.values()
        for other in node.opens
    )


def link(call: Call, file: DiskFile, data: bytes, flags: int) -> None:
    """FileLinkInformation(Ex): one more name for the file."""
    source = file.place
    if file.is_directory:
        raise NtError(Status.FILE_IS_A_DIRECTORY)
    if not source.writable:
        raise source.refuse("write")  # a second name elsewhere could be written through
    target = _target(call, file, data)
    if target.info is not None and not flags & REPLACE_IF_EXISTS:
        raise NtError(Status.OBJECT_NAME_COLLISION)
    _clear(call, file, target, flags)
    with _parents(source, target) as (old, old_name, new, new_name):
        if target.info is not None:
            if (target.info.st_dev, target.info.st_ino) == file.node.key:
                return
            os.unlink(new_name, dir_fd=new)
        os.link(old_name, new_name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    call.kernel.io.names_changed()


def dispose(file: DiskFile, flags: int) -> None:
    """FileDispositionInformation(Ex)."""
    if flags & DISPOSITION_ON_CLOSE:
        file.delete_on_close = bool(flags & DISPOSITION_DELETE)
        return
    if not flags & DISPOSITION_DELETE:
        file.node.delete_pending = False
        file.posix_delete = False
        return
    if file.node.views:
        raise NtError(Status.CANNOT_DELETE)
    if flags & DISPOSITION_IGNORE_READONLY_ATTRIBUTE and file.attributes & FILE_ATTRIBUTE_READONLY:
        if not file.place.writable:
            raise file.place.refuse("write")
    else:
        file.check_deletable()
    file.node.delete_pending = True
    file.posix_delete = bool(flags & DISPOSITION_POSIX_SEMANTICS)
