"""Control codes of devices and file systems."""

from __future__ import annotations

from nexus.abi.types import u32, uptr
from nexus.nt.access import EVENT_MODIFY_STATE
from nexus.nt.errors import NtError
from nexus.nt.io.file import FileObject, Operation, run
from nexus.nt.status import Status
from nexus.nt.sync import Event
from nexus.nt.syscall import Handle, syscall
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_MAX_INPUT = 1 << 24


def _input(call: Call, data: int, length: int) -> bytes:
    if length > _MAX_INPUT:
        raise NtError(Status.INSUFFICIENT_RESOURCES)
    return call.memory.read(data, length) if data and length else b""


@syscall
def NtDeviceIoControlFile(
    call: Call,
    file: Handle[FileObject, 0],
    event: Handle[Event, EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    code: u32,
    data: uptr,
    data_length: u32,
    buffer: uptr,
    length: u32,
) -> int | Wait:
    """Ask a device for something special."""
    given = _input(call, data, data_length)

    def work(op: Operation) -> int:
        op.input = data
        return file.control(op, code, given, buffer, length)

    return run(call, file, event, apc, context, iosb, work)


@syscall
def NtFsControlFile(
    call: Call,
    file: Handle[FileObject, 0],
    event: Handle[Event, EVENT_MODIFY_STATE] | None,
    apc: uptr,
    context: uptr,
    iosb: uptr,
    code: u32,
    data: uptr,
    data_length: u32,
    buffer: uptr,
    length: u32,
) -> int | Wait:
    """Ask a file system (or the pipe file system) for something special."""
    given = _input(call, data, data_length)

    def work(op: Operation) -> int:
        return file.fs_control(op, code, given, buffer, length)

    return run(call, file, event, apc, context, iosb, work)
