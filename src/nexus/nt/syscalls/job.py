"""Job objects."""

from __future__ import annotations

import struct

from nexus.abi.types import u32, uptr
from nexus.nt.access import (
    IO_COMPLETION_MODIFY_STATE,
    JOB_OBJECT_ASSIGN_PROCESS,
    JOB_OBJECT_QUERY,
    JOB_OBJECT_SET_ATTRIBUTES,
    JOB_OBJECT_TERMINATE,
    PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_SET_QUOTA,
    PROCESS_TERMINATE,
)
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.io.completion import IoCompletion
from nexus.nt.ps.job import MESSAGE_NEW_PROCESS, JobObject
from nexus.nt.ps.process import Process
from nexus.nt.query import answer
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, NewHandle, ObjectAttributes, Out, syscall

_ACCOUNTING, _BASIC_LIMITS, _PROCESS_IDS, _UI_RESTRICTIONS = 1, 2, 3, 4
_COMPLETION_PORT, _ACCOUNTING_AND_IO, _EXTENDED_LIMITS = 7, 8, 9  # JOBOBJECTINFOCLASS
_LAST_CLASS = 50
_BASIC_SIZE, _EXTENDED_SIZE = 0x40, 0x90
_BASIC_FLAGS, _EXTENDED_FLAGS = 0xFF, 0x7FFF
_FILE = "src/nexus/nt/syscalls/job.py"


@syscall
def NtCreateJobObject(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None) -> int:
    """Create or open a job."""
    job, status = call.kernel.namespace.create(attributes, JobObject, JobObject)
    call.give_handle(handle, job, access, attributes)
    return status


@syscall
def NtOpenJobObject(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes) -> None:
    """Open a named job."""
    call.give_handle(handle, call.kernel.namespace.open(attributes, JobObject), access, attributes)


@syscall
def NtAssignProcessToJobObject(
    call: Call,
    job: Handle[JobObject, JOB_OBJECT_ASSIGN_PROCESS],
    process: Handle[Process, PROCESS_SET_QUOTA | PROCESS_TERMINATE],
) -> None:
    """Put a process into a job."""
    if process.terminated:
        raise NtError(Status.PROCESS_IS_TERMINATING)
    job.add(process)


@syscall
def NtIsProcessInJob(
    call: Call,
    process: Handle[Process, PROCESS_QUERY_LIMITED_INFORMATION],
    job: Handle[JobObject, JOB_OBJECT_QUERY] | None,
) -> int:
    """Is a process in this job, or in any?"""
    inside = process.job is not None and (job is None or process.job is job)
    return Status.PROCESS_IN_JOB if inside else Status.PROCESS_NOT_IN_JOB


@syscall
def NtTerminateJobObject(call: Call, job: Handle[JobObject, JOB_OBJECT_TERMINATE], status: u32) -> None:
    """End every process of a job."""
    job.terminate(status)


@syscall
def NtQueryInformationJobObject(
    call: Call,
    job: Handle[JobObject, JOB_OBJECT_QUERY] | None,
    information_class: u32,
    buffer: uptr,
    length: u32,
    returned: Out[u32] | None,
) -> int:
    """Limits, accounting or members of a job (0: the caller's own)."""
    if information_class >= _LAST_CLASS:
        raise NtError(Status.INVALID_PARAMETER)
    job = job or call.process.job
    if job is None:
        raise NtError(Status.ACCESS_DENIED)
    if information_class in (_ACCOUNTING, _ACCOUNTING_AND_IO):
        counts = struct.pack("<4I", 0, job.total, len(job.processes), job.terminated)
        data = bytes(32) + counts + (bytes(48) if information_class == _ACCOUNTING_AND_IO else b"")
        answer(call, buffer, length, returned, data)
    elif information_class == _BASIC_LIMITS:
        answer(call, buffer, length, returned, job.limits[:_BASIC_SIZE])
    elif information_class == _EXTENDED_LIMITS:
        answer(call, buffer, length, returned, job.limits)
    elif information_class == _UI_RESTRICTIONS:
        answer(call, buffer, length, returned, bytes(4))
    elif information_class == _PROCESS_IDS:
        return _process_ids(call, job, buffer, length, returned)
    else:
        raise call.unsupported(f"information class {information_class} of NtQueryInformationJobObject", _FILE)
    return Status.SUCCESS


def _process_ids(call: Call, job: JobObject, buffer: int, length: int, returned: Out[u32] | None) -> int:
    if length < 16:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    listed = job.processes[: (length - 8) // 8]
    data = struct.pack("<II", len(job.processes), len(listed))
    answer(call, buffer, length, returned, data + b"".join(p.id.to_bytes(8, "little") for p in listed))
    return Status.MORE_ENTRIES if len(listed) < len(job.processes) else Status.SUCCESS


@syscall
def NtSetInformationJobObject(
    call: Call,
    job: Handle[JobObject, JOB_OBJECT_SET_ATTRIBUTES],
    information_class: u32,
    buffer: uptr,
    length: u32,
) -> None:
    """Set a job's limits or its completion port. Of the limits the kernel enforces kill-on-close."""
    if information_class >= _LAST_CLASS:
        raise NtError(Status.INVALID_PARAMETER)
    if information_class in (_BASIC_LIMITS, _EXTENDED_LIMITS):
        extended = information_class == _EXTENDED_LIMITS
        if length != (_EXTENDED_SIZE if extended else _BASIC_SIZE):
            raise NtError(Status.INVALID_PARAMETER)
        data = call.memory.read(buffer, length)
        if int.from_bytes(data[16:20], "little") & ~(_EXTENDED_FLAGS if extended else _BASIC_FLAGS):
            raise NtError(Status.INVALID_PARAMETER)
        job.limits = data + job.limits[length:]
    elif information_class == _COMPLETION_PORT:
        if length != 16:
            raise NtError(Status.INVALID_PARAMETER)
        key, port = struct.unpack("<QQ", call.memory.read(buffer, 16))
        if not port:
            job.port = None
            return
        job.port = call.process.handles.resolve(port, IoCompletion, IO_COMPLETION_MODIFY_STATE)
        job.port_key = key
        for process in job.processes:
            job.report(MESSAGE_NEW_PROCESS, process.id)
    elif information_class == _UI_RESTRICTIONS:  # there is no desktop to restrict
        call.memory.read(buffer, 4)
    else:
        raise call.unsupported(f"information class {information_class} of NtSetInformationJobObject", _FILE)
