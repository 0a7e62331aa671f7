"""File syscalls: open, read, write, lock, ask, set, cancel."""

from __future__ import annotations

import os
import struct

from nexus.abi.pointer import In
from nexus.abi.types import boolean, i64, u32, uptr
from nexus.base.errors import GuestFault
from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.handles import release_unused
from nexus.nt.io import file_info, volume_info
from nexus.nt.io.file import (
    FILE_DELETE_ON_CLOSE,
    FILE_OPEN,
    FILE_SYNCHRONOUS_IO_NONALERT,
    FileObject,
    Operation,
    run,
)
from nexus.nt.io.file_disk import MAX_TRANSFER, DiskFile
from nexus.nt.io.file_node import attributes_of, stored_attributes
from nexus.nt.io.file_set import set_information
from nexus.nt.ps.thread import Thread
from nexus.nt.status import Status
from nexus.nt.sync import Event
from nexus.nt.syscall import Handle, NewHandle, ObjectAttributes, syscall
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.pointer import Ptr
    from nexus.nt.attributes import Attributes
    from nexus.nt.call import Call

_FILE = "nexus/nt/syscalls/file.py"
PAGE = 4096
_MAX_EA = 0x1_0000  # bytes that the extended attributes of a file can take


def iosb_write(call: Call, iosb: int, status: int, information: int) -> None:
    """Fill an IO_STATUS_BLOCK."""
    call.memory.write(iosb, struct.pack("<IxxxxQ", status, information))


def _open(
    call: Call,
    out: NewHandle,
    desired: int,
    attributes: Attributes,
    iosb: int,
    allocation: int,
    file_attributes: int,
    share: int,
    disposition: int,
    options: int,
    ea: bytes = b"",
) -> None:
    file, information = call.kernel.io.open(
        call, attributes, desired, share, disposition, options, file_attributes, allocation, ea
    )
    give_file(call, out, file, file.granted, attributes, iosb, information)


def give_file(
    call: Call,
    out: Ptr[int],
    file: FileObject,
    granted: int,
    attributes: Attributes,
    iosb: int,
    information: int,
) -> None:
    """Report a file that was opened: its status block and handle. If they cannot be written it is closed."""
    try:
        iosb_write(call, iosb, Status.SUCCESS, information)
    except GuestFault:
        release_unused(file)
        raise
    call.give_handle(out, file, granted, attributes)


@syscall
def NtCreateFile(
    call: Call,
    handle: NewHandle,
    desired: u32,
    attributes: ObjectAttributes,
    iosb: uptr,
    allocation: In[i64] | None,
    file_attributes: u32,
    share: u32,
    disposition: u32,
    options: u32,
    ea: uptr,
    ea_length: u32,
) -> None:
    """Open or make a file, folder, pipe end or device."""
    size = allocation.read() if allocation is not None else 0
    data = call.memory.read(ea, min(ea_length, 0x10000)) if ea else b""
    _open(call, handle, desired, attributes, iosb, size, file_attributes, share, disposition, options, data)


@syscall
def NtOpenFile(
    call: Call,
    handle: NewHandle,
    desired: u32,
    attributes: ObjectAttributes,
    iosb: uptr,
    share: u32,
    options: u32,
) -> None:
    """Open an existing file."""
    _open(call, handle, desired, attributes, iosb, 0, 0, share, FILE_OPEN, options)


@syscall
def NtDeleteFile(call: Call, attributes: ObjectAttributes) -> None:
    """Delete by name."""
    options = FILE_DELETE_ON_CLOSE | FILE_SYNCHRONOUS_IO_NONALERT
    file, _ = call.kernel.io.open(call, attributes, access.DELETE | access.SYNCHRONIZE, 7, FILE_OPEN, options)
    if isinstance(file, DiskFile):
        try:
            file.check_deletable()
        except NtError as error:
            file.delete_on_close = False
            if error.status != Status.DIRECTORY_NOT_EMPTY:  # which nobody is told of
                raise
        finally:
            file.closed()
        return
    file.closed()
    raise NtError(Status.INVALID_DEVICE_REQUEST)


@syscall
def NtQueryAttributesFile(call: Call, attributes: ObjectAttributes, information: uptr) -> None:
    """FILE_BASIC_INFORMATION of a name."""
    call.memory.write(information, file_info.basic(*_existing(call, attributes)))


@syscall
def NtQueryFullAttributesFile(call: Call, attributes: ObjectAttributes, information: uptr) -> None:
    """FILE_NETWORK_OPEN_INFORMATION of a name."""
    call.memory.write(information, file_info.network_open(*_existing(call, attributes)))


def _existing(call: Call, attributes: Attributes) -> tuple[os.stat_result, int]:
    """Facts and FILE_ATTRIBUTE_* bits of an existing name."""
    place = call.kernel.io.find(call, attributes)
    if place is None:
        raise NtError(Status.OBJECT_NAME_INVALID)
    info = os.stat("/") if place.virtual is not None else place.info
    if info is None:
        raise NtError(Status.OBJECT_NAME_NOT_FOUND)
    stored = place.on_opened_parent(stored_attributes) if place.root is not None and place.names else 0
    return info, attributes_of(info, stored)


# reading and writing ---------------------------------------------------------------------------------


def _reading(call: Call, handle: int, iosb: int) -> FileObject:
    if not iosb:
        raise NtError(Status.ACCESS_VIOLATION)
    return call.process.handles.resolve(handle, FileObject, access.FILE_READ_DATA)


def _writing(call: Call, handle: int, iosb: int) -> FileObject:
    if not iosb:
        raise NtError(Status.ACCESS_VIOLATION)
    file = call.process.handles.resolve(handle, FileObject, 0)
    if not call.process.handles.access_of(handle) & (access.FILE_WRITE_DATA | access.FILE_APPEND_DATA):
        raise NtError(Status.ACCESS_DENIED)
    return file


def check_buffer(call: Call, address: int, length: int, write: bool) -> None:
    """The user buffer must be mapped before anything happens; only its ends are tried, as the data is
    copied guarded.
    """
    if length:
        need = 2 if write else 1
        for place in (address, address + length - 1):
            rights = call.memory.access(place & 0xFFFF_FFFF_FFFF_FFFF)
            if rights is None or not rights & need:
                raise NtError(Status.ACCESS_VIOLATION if write else Status.INVALID_USER_BUFFER)
        if write:
            call.memory.announce_write(address, length)  # NT probes the whole buffer before it reads


@syscall
def NtReadFile(
    call: Call,
    handle: uptr,
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    buffer: uptr,
    length: u32,
    offset: In[i64] | None,
    key: uptr,
) -> int | Wait:
    """Read from a file, pipe or stream."""
    file = _reading(call, handle, iosb)
    position = offset.read() if offset is not None else None
    check_buffer(call, buffer, length, True)

    def work(op: Operation) -> int:
        return file.read(op, buffer, length, position)

    return run(call, file, event, apc, context, iosb, work)


@syscall
def NtWriteFile(
    call: Call,
    handle: uptr,
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    buffer: uptr,
    length: u32,
    offset: In[i64] | None,
    key: uptr,
) -> int | Wait:
    """Write to a file, pipe or stream."""
    file = _writing(call, handle, iosb)
    position = offset.read() if offset is not None else None
    if length > MAX_TRANSFER:
        raise NtError(Status.INSUFFICIENT_RESOURCES)
    if event is not None:
        event.signaled = False
    check_buffer(call, buffer, length, False)
    data = call.memory.read(buffer, length) if length else b""

    def work(op: Operation) -> int:
        return file.write(op, data, position)

    return run(call, file, event, apc, context, iosb, work)


def _segments(call: Call, segments: int, length: int) -> list[int]:
    count = (length + PAGE - 1) // PAGE
    return list(struct.unpack(f"<{count}Q", call.memory.read(segments, 8 * count)))


@syscall
def NtReadFileScatter(
    call: Call,
    handle: uptr,
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    segments: uptr,
    length: u32,
    offset: In[i64] | None,
    key: uptr,
) -> int | Wait:
    """Read page by page into a list of pages."""
    file = _reading(call, handle, iosb)
    position = offset.read() if offset is not None else None
    _check_pages(file)
    pages = _segments(call, segments, min(length, MAX_TRANSFER))

    def work(op: Operation) -> int:
        start = file.position if position is None or position == -2 else position
        done = 0
        for page in pages:
            want = min(PAGE, length - done)
            try:
                file.read(op, page, want, start + done)
            except NtError:
                if not done:
                    raise
                break
            done += op.information
            if op.information < want:
                break
        op.information = done
        return Status.SUCCESS

    return run(call, file, event, apc, context, iosb, work)


@syscall
def NtWriteFileGather(
    call: Call,
    handle: uptr,
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    segments: uptr,
    length: u32,
    offset: In[i64] | None,
    key: uptr,
) -> int | Wait:
    """Write a list of pages."""
    file = _writing(call, handle, iosb)
    position = offset.read() if offset is not None else None
    _check_pages(file)
    if length & (PAGE - 1):
        raise NtError(Status.INVALID_PARAMETER)
    data = b"".join(
        call.memory.read(page, PAGE) for page in _segments(call, segments, min(length, MAX_TRANSFER))
    )

    def work(op: Operation) -> int:
        return file.write(op, data, position)

    return run(call, file, event, apc, context, iosb, work)


def _check_pages(file: FileObject) -> None:
    if not isinstance(file, DiskFile):
        raise NtError(Status.OBJECT_TYPE_MISMATCH)
    if file.synchronous or not file.options & 0x8:  # FILE_NO_INTERMEDIATE_BUFFERING
        raise NtError(Status.INVALID_PARAMETER)


@syscall
def NtFlushBuffersFile(call: Call, file: Handle[FileObject, 0], iosb: uptr) -> int | Wait:
    """Everything is with the host already."""
    if not iosb:
        raise NtError(Status.ACCESS_VIOLATION)
    return run(call, file, None, 0, 0, iosb, file.flush, wait=True)


@syscall
def NtFlushBuffersFileEx(
    call: Call, file: Handle[FileObject, 0], flags: u32, parameters: uptr, size: u32, iosb: uptr
) -> int | Wait:
    """See NtFlushBuffersFile."""
    return run(call, file, None, 0, 0, iosb, file.flush, wait=True)


@syscall
def NtLockFile(
    call: Call,
    file: Handle[FileObject, 0],
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    offset: In[i64],
    length: In[i64],
    key: uptr,
    fail_immediately: boolean,
    exclusive: boolean,
) -> int | Wait:
    """Lock a range of bytes, waiting for it if asked to."""
    if not isinstance(file, DiskFile):
        raise NtError(Status.INVALID_DEVICE_REQUEST)
    disk, start, count = file, offset.read() & 0xFFFF_FFFF_FFFF_FFFF, length.read() & 0xFFFF_FFFF_FFFF_FFFF

    def work(op: Operation) -> int:
        return disk.lock(op, start, count, bool(exclusive), not fail_immediately)

    return run(call, file, event, apc, context, iosb, work)


@syscall
def NtUnlockFile(
    call: Call, file: Handle[FileObject, 0], iosb: uptr, offset: In[i64], length: In[i64], key: uptr
) -> None:
    """Release a locked range."""
    if not isinstance(file, DiskFile):
        raise NtError(Status.INVALID_DEVICE_REQUEST)
    file.node.locks.release(
        file, offset.read() & 0xFFFF_FFFF_FFFF_FFFF, length.read() & 0xFFFF_FFFF_FFFF_FFFF
    )
    if iosb:  # kernelbase's UnlockFile passes none
        iosb_write(call, iosb, Status.SUCCESS, 0)


# cancelling ------------------------------------------------------------------------------------------


@syscall
def NtCancelIoFile(call: Call, file: Handle[FileObject, 0], iosb: uptr) -> None:
    """End what this thread began on a file."""
    for op in [op for op in file.pending if op.thread is call.thread]:
        op.abandon(Status.CANCELLED)
    iosb_write(call, iosb, Status.SUCCESS, 0)


@syscall
def NtCancelIoFileEx(call: Call, file: Handle[FileObject, 0], which: uptr, iosb: uptr) -> None:
    """End all operations of a file, or the one with that status block."""
    found = [op for op in file.pending if op.process is call.process and (not which or op.iosb == which)]
    if not found:
        raise NtError(Status.NOT_FOUND)
    for op in found:
        op.abandon(Status.CANCELLED)
    iosb_write(call, iosb, Status.SUCCESS, 0)


@syscall
def NtCancelSynchronousIoFile(call: Call, thread: uptr, which: uptr, iosb: uptr) -> None:
    """End the I/O that another thread waits in."""
    target = call.process.handles.resolve(thread, Thread, access.THREAD_TERMINATE)
    wait = target.wait
    waited = wait.objects[0] if wait is not None and len(wait.objects) == 1 else None
    if not isinstance(waited, Operation) or (which and waited.iosb != which):
        iosb_write(call, iosb, Status.NOT_FOUND, 0)
        raise NtError(Status.NOT_FOUND)
    waited.abandon(Status.CANCELLED)
    iosb_write(call, iosb, Status.SUCCESS, 0)


# information -----------------------------------------------------------------------------------------


@syscall
def NtQueryInformationFile(call: Call, handle: uptr, iosb: uptr, buffer: uptr, length: u32, kind: u32) -> int:
    """Ask a file about itself."""
    if not file_info.exists(kind):
        raise NtError(Status.INVALID_INFO_CLASS)
    file = call.process.handles.resolve(handle, FileObject, 0)
    found = file_info.query(file, kind, length, call.process.handles.access_of(handle))
    if found is None:
        raise call.unsupported(
            f"file information class {kind} of {file.type.name}", "nexus/nt/io/file_info.py"
        )
    data, status = found
    call.memory.write(buffer, data)
    iosb_write(call, iosb, status, len(data))
    return status


@syscall
def NtSetInformationFile(call: Call, handle: uptr, iosb: uptr, buffer: uptr, length: u32, kind: u32) -> None:
    """Change something about a file."""
    file = call.process.handles.resolve(handle, FileObject, 0)
    data = call.memory.read(buffer, min(length, 0x10000)) if length else b""
    if not set_information(call, file, kind, data, call.process.handles.access_of(handle)):
        raise call.unsupported(f"setting file information class {kind}", "nexus/nt/io/file_set.py")
    iosb_write(call, iosb, Status.SUCCESS, 0)


@syscall
def NtQueryVolumeInformationFile(
    call: Call, file: Handle[FileObject, 0], iosb: uptr, buffer: uptr, length: u32, kind: u32
) -> int:
    """Ask about the volume or device a file lies on."""
    found = volume_info.query(file, kind, length)
    if found is None:
        raise call.unsupported(f"volume information class {kind}", "nexus/nt/io/volume_info.py")
    data, status = found
    call.memory.write(buffer, data)
    iosb_write(call, iosb, status, len(data))
    return status


@syscall
def NtSetVolumeInformationFile(
    call: Call, file: Handle[FileObject, 0], iosb: uptr, buffer: uptr, length: u32, kind: u32
) -> None:
    """Labels and quotas belong to the administrator."""
    raise NtError(Status.ACCESS_DENIED)


@syscall
def NtQueryEaFile(
    call: Call,
    file: Handle[FileObject, 0],
    iosb: uptr,
    buffer: uptr,
    length: u32,
    single: boolean,
    names: uptr,
    names_length: u32,
    index: uptr,
    restart: boolean,
) -> None:
    """No file has extended attributes here."""
    if not isinstance(file, DiskFile):
        raise NtError(Status.INVALID_DEVICE_REQUEST)
    call.memory.write(buffer, bytes(min(length, _MAX_EA)))
    raise NtError(Status.NO_EAS_ON_FILE)


@syscall
def NtSetEaFile(call: Call, file: Handle[FileObject, 0], iosb: uptr, buffer: uptr, length: u32) -> None:
    """See NtQueryEaFile."""
    raise NtError(Status.EAS_NOT_SUPPORTED)
