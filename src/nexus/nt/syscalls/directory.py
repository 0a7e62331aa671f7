"""Folder syscalls: enumerate and watch."""

from __future__ import annotations

from nexus.abi.types import boolean, u32, uptr
from nexus.nt import access, directory
from nexus.nt.attributes import read_unicode_string
from nexus.nt.directory_watch import DirectoryWatch
from nexus.nt.errors import NtError
from nexus.nt.file import FileObject, Operation, run
from nexus.nt.file_disk import DiskFile
from nexus.nt.status import Status
from nexus.nt.sync import Event
from nexus.nt.syscall import Handle, syscall
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_RESTART, _SINGLE = 1, 2  # SL_* flags of NtQueryDirectoryFileEx
_FILTERS = 0xFFF


def _enumerate(
    call: Call,
    file: FileObject,
    event: Event | None,
    apc: int,
    context: int,
    iosb: int,
    buffer: int,
    length: int,
    kind: int,
    single: bool,
    mask: int,
    restart: bool,
) -> int | Wait:
    if not isinstance(file, DiskFile) or not file.is_directory:
        raise NtError(Status.INVALID_PARAMETER)
    if length > 1 << 24:
        length = 1 << 24
    folder = file
    pattern = read_unicode_string(call.memory, mask) if mask else None

    def work(op: Operation) -> int:
        data, status = directory.query(folder, kind, length, single, pattern, restart)
        op.write(buffer, data)
        op.information = len(data)
        return status

    return run(call, file, event, apc, context, iosb, work)


@syscall
def NtQueryDirectoryFile(
    call: Call,
    file: Handle[FileObject, access.FILE_LIST_DIRECTORY],
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    buffer: uptr,
    length: u32,
    kind: u32,
    single: boolean,
    mask: uptr,
    restart: boolean,
) -> int | Wait:
    """The next entries of a folder."""
    return _enumerate(
        call, file, event, apc, context, iosb, buffer, length, kind, bool(single), mask, bool(restart)
    )


@syscall
def NtQueryDirectoryFileEx(
    call: Call,
    file: Handle[FileObject, access.FILE_LIST_DIRECTORY],
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    buffer: uptr,
    length: u32,
    kind: u32,
    flags: u32,
    mask: uptr,
) -> int | Wait:
    """The next entries of a folder."""
    single, restart = bool(flags & _SINGLE), bool(flags & _RESTART)
    return _enumerate(call, file, event, apc, context, iosb, buffer, length, kind, single, mask, restart)


@syscall
def NtNotifyChangeDirectoryFile(
    call: Call,
    file: Handle[FileObject, access.FILE_LIST_DIRECTORY],
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    buffer: uptr,
    length: u32,
    filter: u32,
    tree: boolean,
) -> int | Wait:
    """Wait for names to change below a folder; see `directory_watch` for what is seen."""
    if not isinstance(file, DiskFile) or not file.is_directory or not filter & _FILTERS or filter & ~_FILTERS:
        raise NtError(Status.INVALID_PARAMETER)
    folder = file

    def work(op: Operation) -> int:
        watch = folder.change_watch
        if watch is None:
            watch = folder.change_watch = DirectoryWatch(folder, filter, bool(tree))
            call.kernel.io.watches.append(watch)
        if watch.changes:
            watch.deliver(op, buffer, length)
            return op.status
        if watch.op is None:
            watch.op = (op, buffer, length)
        return op.pend(watch)

    return run(call, file, event, apc, context, iosb, work)
