"""Opening and making files and folders: NtCreateFile on a volume."""

from __future__ import annotations

import os
import stat

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.file import (
    FILE_CREATE,
    FILE_CREATED,
    FILE_DELETE_ON_CLOSE,
    FILE_DIRECTORY_FILE,
    FILE_NON_DIRECTORY_FILE,
    FILE_OPEN,
    FILE_OPEN_BY_FILE_ID,
    FILE_OPEN_IF,
    FILE_OPENED,
    FILE_OVERWRITE,
    FILE_OVERWRITE_IF,
    FILE_OVERWRITTEN,
    FILE_SUPERSEDE,
    FILE_SUPERSEDED,
    FileObject,
    OpenRequest,
)
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.file_node import (
    FILE_ATTRIBUTE_HIDDEN,
    FILE_ATTRIBUTE_READONLY,
    FILE_ATTRIBUTE_SYSTEM,
    WRITING,
    FileNode,
)
from nexus.nt.io.path import BadName, guest_name, split_path
from nexus.nt.io.place import Place, host_failure
from nexus.nt.io.volume import Volume
from nexus.nt.namespace import Device
from nexus.nt.status import Status

CHANGING = (
    WRITING
    | access.FILE_WRITE_EA
    | access.FILE_WRITE_ATTRIBUTES
    | access.FILE_DELETE_CHILD
    | access.DELETE
    | access.WRITE_DAC
    | access.WRITE_OWNER
)
_OVERWRITING = (FILE_SUPERSEDE, FILE_OVERWRITE, FILE_OVERWRITE_IF)
_MUST_EXIST = (FILE_OPEN, FILE_OVERWRITE)


class VolumeDevice(Device):
    """The NT device of a volume: resolves the names below it."""

    __slots__ = ("number", "volume")

    def __init__(self, volume: Volume, number: int) -> None:
        super().__init__()
        self.volume = volume
        self.number = number  # of the disk it lies on

    def open(self, request: OpenRequest) -> tuple[FileObject, int]:
        if not request.rest:
            from nexus.nt.io.file_volume import VolumeFile  # few programs ever open one

            return VolumeFile(request, self.volume, self.number), FILE_OPENED
        return open_file(self.volume, request)


def find(volume: Volume, request: OpenRequest) -> Place:
    """The place that a name below the volume, or below an open folder of it, stands for."""
    root = request.root
    rest = request.rest
    try:
        parts = split_path(rest)
    except BadName:
        raise NtError(Status.OBJECT_NAME_INVALID) from None
    if root is not None:
        if not isinstance(root, DiskFile):
            raise NtError(Status.OBJECT_TYPE_MISMATCH)
        if not parts:
            return root.place.volume.refreshed(root.place)
        if not root.is_directory:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        parts = [*split_path(root.volume_path), *parts]
    changes = request.desired & CHANGING or request.disposition != FILE_OPEN
    place = volume.find(parts, "write" if changes else "read")
    if (
        rest.endswith("\\")
        and place.info is not None
        and not place.is_directory
        and not (request.options & FILE_DIRECTORY_FILE)
    ):
        raise NtError(Status.OBJECT_NAME_INVALID)
    return place


def _by_id(volume: Volume, request: OpenRequest, raw: bytes) -> Place:
    """A file by its id: one that is open, or lies in the folder that the request names (or is its parent).
    The rest of the volume is not searched; like Wine, that is said by STATUS_NOT_IMPLEMENTED.
    """
    wanted = int.from_bytes(raw[:8], "little")
    for node in request.io.nodes.values():
        if node.key[1] == wanted and node.opens:
            return node.opens[0].place
    root = request.root
    if isinstance(root, DiskFile) and root.is_directory:
        here = split_path(root.volume_path)
        for parts in [here[:-1], *([*here, guest_name(name)] for name in os.listdir(root.fd))]:
            place = volume.find(parts, wanted="")
            if place.info is not None and place.info.st_ino == wanted:
                return place
    raise NtError(Status.NOT_IMPLEMENTED)


def open_file(volume: Volume, request: OpenRequest) -> tuple[FileObject, int]:
    """The opened file and the FILE_OPENED ... value for the status block."""
    options, disposition = request.options, request.disposition
    if options & FILE_DIRECTORY_FILE and disposition in _OVERWRITING:
        raise NtError(Status.INVALID_PARAMETER)
    if options & FILE_DELETE_ON_CLOSE and not request.desired & access.DELETE and not request.maximum:
        raise NtError(Status.INVALID_PARAMETER)
    if options & FILE_OPEN_BY_FILE_ID:
        place = _by_id(volume, request, request.rest.lstrip("\\").encode("utf-16-le", "surrogatepass"))
    else:
        place = find(volume, request)
    if place.virtual is not None or place.info is not None:
        return _open_existing(place, request)
    if disposition in _MUST_EXIST:
        raise NtError(Status.OBJECT_NAME_NOT_FOUND)
    return _create(place, request)


def _granted(place: Place, request: OpenRequest) -> int:
    """The rights the handle gets; a change where only reading is granted is refused."""
    granted = request.desired
    if request.maximum:
        granted |= FileObject.type.all if place.writable else FileObject.type.all & ~CHANGING
    if granted & CHANGING and not place.writable:
        raise place.refuse("write")
    return granted


def _open_existing(place: Place, request: OpenRequest) -> tuple[FileObject, int]:
    io, options, disposition = request.io, request.options, request.disposition
    if disposition == FILE_CREATE:
        raise NtError(Status.OBJECT_NAME_COLLISION)
    if place.is_directory:
        if options & FILE_NON_DIRECTORY_FILE:
            raise NtError(Status.FILE_IS_A_DIRECTORY)
        if disposition in _OVERWRITING:
            raise NtError(Status.OBJECT_NAME_COLLISION)
    elif options & FILE_DIRECTORY_FILE:
        raise NtError(Status.NOT_A_DIRECTORY)
    granted = _granted(place, request)
    overwriting = disposition in _OVERWRITING
    if overwriting and not place.writable:
        raise place.refuse("write")
    if place.virtual is not None:
        node = FileNode((-1, hash(place.path)))
        return DiskFile(io, place, -1, node, granted, request.share, options), FILE_OPENED
    writes = bool(granted & WRITING) or overwriting
    info = place.info
    assert info is not None
    read_only = stat.S_ISREG(info.st_mode) and not info.st_mode & 0o222
    if read_only and disposition == FILE_SUPERSEDE and not granted & WRITING:
        _make_writable(place)  # superseding puts a new file in its place, whatever the old one was
    elif read_only and writes:
        if not request.maximum or overwriting:
            raise NtError(Status.ACCESS_DENIED)
        granted &= ~WRITING
        writes = False
    if read_only and options & FILE_DELETE_ON_CLOSE:
        raise NtError(Status.CANNOT_DELETE)
    node = io.node_of(info)
    _check_node(node, granted, request.share, overwriting)
    if place.is_directory:
        fd = place.open(os.O_RDONLY | os.O_DIRECTORY)
    else:
        fd = _open_host(place, writes, granted)
    try:
        now = os.fstat(fd)
        if (now.st_dev, now.st_ino) != node.key:  # replaced between looking and opening
            node = io.node_of(now)
            _check_node(node, granted, request.share, overwriting)
        file = DiskFile(io, place, fd, node, granted, request.share, options)
    except BaseException:
        os.close(fd)
        raise
    if options & FILE_DELETE_ON_CLOSE:
        try:
            file.check_deletable()
        except NtError as error:
            if error.status != Status.DIRECTORY_NOT_EMPTY:
                file.delete_on_close = False
                file.closed()
                raise
    io.nodes[node.key] = node
    io.touched_file(file, False)
    if not overwriting:
        return file, FILE_OPENED
    try:
        _check_hidden(file, request.attributes)
        file.set_size(0)
        file.set_attributes(request.attributes)
    except BaseException:
        file.delete_on_close = False
        file.closed()
        raise
    return file, FILE_SUPERSEDED if disposition == FILE_SUPERSEDE else FILE_OVERWRITTEN


def _make_writable(place: Place) -> None:
    fd = place.open(os.O_RDONLY)
    try:
        os.fchmod(fd, os.fstat(fd).st_mode & 0o7777 | 0o200)
    except OSError as error:
        raise host_failure(error) from error
    finally:
        os.close(fd)


def _check_hidden(file: DiskFile, attributes: int) -> None:
    """A hidden or system file may only be overwritten by someone who says that it is one."""
    kept = file.attributes & (FILE_ATTRIBUTE_HIDDEN | FILE_ATTRIBUTE_SYSTEM)
    if kept & ~attributes:
        raise NtError(Status.ACCESS_DENIED)


def _check_node(node: FileNode, granted: int, share: int, overwriting: bool) -> None:
    if node.delete_pending:
        raise NtError(Status.DELETE_PENDING)
    node.check_sharing(granted | (access.FILE_WRITE_DATA if overwriting else 0), share)
    if overwriting and (node.images or node.views):
        raise NtError(Status.USER_MAPPED_FILE)


def _open_host(place: Place, writes: bool, granted: int) -> int:
    return place.open(os.O_RDWR if writes else os.O_RDONLY)


def _create(place: Place, request: OpenRequest) -> tuple[FileObject, int]:
    io, options = request.io, request.options
    if not place.writable:
        raise place.refuse("write")
    if request.rest.endswith("\\") and not options & FILE_DIRECTORY_FILE:
        raise NtError(Status.OBJECT_NAME_INVALID)
    granted = request.desired | (FileObject.type.all if request.maximum else 0)
    if options & FILE_DIRECTORY_FILE:
        parent, name = place.open_parent()
        try:
            os.mkdir(name, 0o777, dir_fd=parent)
        except OSError as error:
            raise host_failure(error) from error
        finally:
            os.close(parent)
        fd = place.open(os.O_RDONLY | os.O_DIRECTORY)
    else:
        if options & FILE_DELETE_ON_CLOSE and request.attributes & FILE_ATTRIBUTE_READONLY:
            raise NtError(Status.CANNOT_DELETE)
        fd = place.open(os.O_RDWR | os.O_CREAT | os.O_EXCL)
    place.info = os.fstat(fd)
    node = io.node_of(place.info)
    io.nodes[node.key] = node
    file = DiskFile(io, place, fd, node, granted, request.share, options)
    if request.attributes & (FILE_ATTRIBUTE_READONLY | FILE_ATTRIBUTE_HIDDEN | FILE_ATTRIBUTE_SYSTEM):
        file.set_attributes(request.attributes)
    io.touched_file(file, True)
    io.names_changed()
    return file, FILE_CREATED


__all__ = ["FILE_OPEN_IF", "VolumeDevice", "find", "open_file"]
