"""Debug objects: making them, attaching them to processes, waiting for events and continuing them."""

from __future__ import annotations

import struct

from nexus.abi.types import boolean, i64, u32, uptr
from nexus.nt import access as rights
from nexus.nt.attributes import Attributes
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_NON_DIRECTORY_FILE, FILE_OPEN, FILE_SYNCHRONOUS_IO_NONALERT
from nexus.nt.objects import KernelObject
from nexus.nt.ps import debug
from nexus.nt.ps.debug import DebugEvent, DebugObject, ExceptionEvent
from nexus.nt.ps.process import Process
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, In, NewHandle, ObjectAttributes, Out, syscall
from nexus.nt.syscalls.thread import CLIENT_ID
from nexus.nt.wait import Wait

DEBUG_READ_EVENT, DEBUG_PROCESS_ASSIGN, DEBUG_SET_INFORMATION = 1, 2, 4
_ATTACH = rights.PROCESS_VM_READ | rights.PROCESS_VM_WRITE | rights.PROCESS_SUSPEND_RESUME
_KILL_ON_CLOSE_CLASS = 1  # DEBUGOBJECTINFOCLASS
_CONTINUATIONS = (
    Status.DBG_CONTINUE,
    Status.DBG_EXCEPTION_HANDLED,
    Status.DBG_EXCEPTION_NOT_HANDLED,
    Status.DBG_REPLY_LATER,
)
_STATE_CHANGE_SIZE = 0xB8  # DBGUI_WAIT_STATE_CHANGE
_SHARE_READ_WRITE = 3


@syscall
def NtCreateDebugObject(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None, flags: u32
) -> int:
    """Create or open a debug object."""
    if flags & ~debug.KILL_ON_CLOSE:
        raise NtError(Status.INVALID_PARAMETER)
    target, status = call.kernel.namespace.create(attributes, DebugObject, lambda: DebugObject(flags))
    call.give_handle(handle, target, access, attributes)
    return status


@syscall
def NtSetInformationDebugObject(
    call: Call,
    target: Handle[DebugObject, DEBUG_SET_INFORMATION],
    information_class: u32,
    buffer: In[u32],
    length: u32,
    returned: Out[u32] | None,
) -> None:
    """Whether closing the object kills the processes attached to it."""
    if returned is not None:
        returned.write(4 if length != 4 else 0)
    if information_class != _KILL_ON_CLOSE_CLASS:
        raise NtError(Status.INVALID_PARAMETER)
    if length != 4:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    flags = buffer.read()
    if flags & ~debug.KILL_ON_CLOSE:
        raise NtError(Status.INVALID_PARAMETER)
    target.flags = flags


@syscall
def NtDebugActiveProcess(
    call: Call, process: Handle[Process, _ATTACH], target: Handle[DebugObject, DEBUG_PROCESS_ASSIGN]
) -> None:
    """Debug a running process; its children are not debugged with it."""
    if process.debug is not None or process is call.process or not process.threads or not process.peb:
        raise NtError(Status.ACCESS_DENIED)
    process.debug_children = 0
    target.attach(process)


@syscall
def NtRemoveProcessDebug(
    call: Call, process: Handle[Process, _ATTACH], target: Handle[DebugObject, DEBUG_PROCESS_ASSIGN]
) -> None:
    """Stop debugging a process, which goes on."""
    if process.debug is not target:
        raise NtError(Status.ACCESS_DENIED)
    target.detach(process)


@syscall
def NtWaitForDebugEvent(
    call: Call,
    target: Handle[DebugObject, DEBUG_READ_EVENT],
    alertable: boolean,
    timeout: In[i64] | None,
    event: uptr,
) -> Wait:
    """Wait for an event of the processes attached to the object (DBGUI_WAIT_STATE_CHANGE)."""
    deadline = call.deadline(timeout)
    return Wait((target,), deadline, alertable=bool(alertable), then=_event, data=(target, event))


def _event(call: Call, status: int, acquired: object, target: DebugObject, buffer: int) -> int:
    if status != Status.SUCCESS:
        return status
    event = target.take()
    if event is None:  # another thread was faster
        return Status.TIMEOUT
    head = struct.pack("<IxxxxQQ", event.kind, event.process.id, event.thread.id)
    call.memory.write(buffer, (head + _describe(call, event)).ljust(_STATE_CHANGE_SIZE, b"\0"))
    return Status.SUCCESS


def _describe(call: Call, event: DebugEvent) -> bytes:
    """The part of the structure that depends on the kind, with handles for the debugger."""
    facts = event.facts
    if isinstance(event, ExceptionEvent):
        return event.record + struct.pack("<I", *facts)
    if event.kind == debug.CREATE_THREAD:
        return struct.pack("<QQQ", _handle(call, event.thread, rights.THREAD_ALL_ACCESS), 0, *facts)
    if event.kind == debug.CREATE_PROCESS:
        base, symbols, count, start = facts
        process = _handle(call, event.process, rights.PROCESS_ALL_ACCESS)
        thread = _handle(call, event.thread, rights.THREAD_ALL_ACCESS)
        image = _file(call, event.image)
        return struct.pack("<QQQQQIIQQ", process, thread, 0, image, base, symbols, count, 0, start)
    if event.kind == debug.LOAD_DLL:
        base, symbols, count, name = facts
        return struct.pack("<QQIIQ", _file(call, event.image), base, symbols, count, name)
    if event.kind == debug.UNLOAD_DLL:
        return struct.pack("<Q", *facts)
    return struct.pack("<I", *facts)


def _handle(call: Call, target: KernelObject, granted: int) -> int:
    """A handle for the debugger; 0 when it has too many."""
    try:
        return call.process.handles.add(target, granted)
    except NtError:
        return 0


def _file(call: Call, path: str) -> int:
    """A handle to an image's file, for reading; 0 when it cannot be opened."""
    if not path:
        return 0
    wanted = rights.GENERIC_READ | rights.SYNCHRONIZE
    options = FILE_SYNCHRONOUS_IO_NONALERT | FILE_NON_DIRECTORY_FILE
    try:
        file, _ = call.kernel.io.open(call, Attributes(path), wanted, _SHARE_READ_WRITE, FILE_OPEN, options)
    except NtError:
        return 0
    return _handle(call, file, file.granted)


@syscall
def NtDebugContinue(
    call: Call, target: Handle[DebugObject, DEBUG_READ_EVENT], client: In[CLIENT_ID], status: u32
) -> None:
    """Let the thread that shows an event go on."""
    if status not in _CONTINUATIONS:
        raise NtError(Status.INVALID_PARAMETER)
    wanted = client.read()
    target.resume(wanted.UniqueProcess, wanted.UniqueThread, status)
