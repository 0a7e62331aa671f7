"""Folder syscalls: enumerate and watch."""

from __future__ import annotations

from nexus.abi.types import boolean, u32, uptr
from nexus.nt import access
from nexus.nt.attributes import read_unicode_string
from nexus.nt.errors import NtError
from nexus.nt.io import directory
from nexus.nt.io.directory_watch import DirectoryWatch
from nexus.nt.io.file import FileObject, Operation, run
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.path import from_dos_mask
from nexus.nt.status import Status
from nexus.nt.sync import Event
from nexus.nt.syscall import Handle, syscall
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_RESTART, _SINGLE = 1, 2  # SL_* flags of NtQueryDirectoryFileEx
_FILTERS = 0xFFF
_MOST = 1 << 24  # bytes of entries handed out at once


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
    """NtQueryDirectoryFileEx with two of its flags."""
    flags = (_SINGLE if single else 0) | (_RESTART if restart else 0)
    return NtQueryDirectoryFileEx(call, file, event, apc, context, iosb, buffer, length, kind, flags, mask)


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
    if not isinstance(file, DiskFile) or not file.is_directory:
        raise NtError(Status.INVALID_PARAMETER)
    folder, room = file, min(length, _MOST)
    pattern = read_unicode_string(call.memory, mask) if mask else None
    if pattern and call.process.version.dos_masks:
        pattern = from_dos_mask(pattern)

    def work(op: Operation) -> int:
        single, restart = bool(flags & _SINGLE), bool(flags & _RESTART)
        data, status = directory.query(folder, kind, room, single, pattern, restart)
        op.write(buffer, data)
        op.information = len(data)
        return status

    return run(call, file, event, apc, context, iosb, work)


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
    """Ask for changes in a folder. Pends on a synchronous handle too: Wine's FindFirstChangeNotification
    takes anything else for a failure.
    """
    if not isinstance(file, DiskFile) or not file.is_directory or not filter & _FILTERS or filter & ~_FILTERS:
        raise NtError(Status.INVALID_PARAMETER)
    folder = file

    def work(op: Operation) -> int:
        watch = folder.change_watch
        if watch is None:
            watch = folder.change_watch = DirectoryWatch(folder, filter, bool(tree))
            call.kernel.io.watches.append(watch)
        watch.collect()
        if watch.changes or watch.overflowed:
            watch.deliver(op, buffer, length)
            return op.status
        if watch.op is None:
            watch.wait(op, buffer, length)
        return op.pend(watch)

    return run(call, file, event, apc, context, iosb, work, wait=False)
