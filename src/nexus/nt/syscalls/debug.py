"""Debug objects. They exist and have names; attaching a debugger is not implemented and stops loudly."""

from __future__ import annotations

from nexus.abi.types import boolean, i64, u32, uptr
from nexus.nt import access as rights
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, In, NewHandle, ObjectAttributes, Out, syscall
from nexus.nt.wait import Wait

DEBUG_READ_EVENT, DEBUG_PROCESS_ASSIGN, DEBUG_SET_INFORMATION = 1, 2, 4
DEBUG_KILL_ON_CLOSE = 1
_KILL_ON_CLOSE_CLASS = 1  # DEBUGOBJECTINFOCLASS


class DebugObject(KernelObject):
    """Would collect the debug events of processes; signalled while there is one, which is never."""

    type = ObjectType(
        "DebugObject",
        read=DEBUG_READ_EVENT,
        write=DEBUG_PROCESS_ASSIGN,
        execute=rights.SYNCHRONIZE,
        all=rights.STANDARD_RIGHTS_ALL | 0xF,
    )


@syscall
def NtCreateDebugObject(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None, flags: u32
) -> int:
    """Create or open a debug object."""
    if flags & ~DEBUG_KILL_ON_CLOSE:
        raise NtError(Status.INVALID_PARAMETER)
    target, status = call.kernel.namespace.create(attributes, DebugObject, DebugObject)
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
    """Whether closing the object would kill the processes attached to it."""
    if returned is not None:
        returned.write(4)
    if information_class != _KILL_ON_CLOSE_CLASS:
        raise NtError(Status.INVALID_PARAMETER)
    if length != 4:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    if buffer.read() & ~DEBUG_KILL_ON_CLOSE:
        raise NtError(Status.INVALID_PARAMETER)


@syscall
def NtWaitForDebugEvent(
    call: Call,
    target: Handle[DebugObject, DEBUG_READ_EVENT],
    alertable: boolean,
    timeout: In[i64] | None,
    event: uptr,
) -> Wait:
    """Wait for an event of the processes attached to the object."""
    return Wait((target,), call.deadline(timeout), alertable=bool(alertable))
