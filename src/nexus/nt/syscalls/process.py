"""Processes: creation, end, opening, suspension."""

from __future__ import annotations

from nexus.abi.types import u32, uptr
from nexus.nt.access import (
    JOB_OBJECT_ASSIGN_PROCESS,
    PROCESS_CREATE_PROCESS,
    PROCESS_SUSPEND_RESUME,
    PROCESS_TERMINATE,
    TOKEN_ASSIGN_PRIMARY,
    TOKEN_QUERY,
)
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.ps.attribute_list import Attribute, read_attribute_list
from nexus.nt.ps.crash import crash_behind
from nexus.nt.ps.debug import DebugObject
from nexus.nt.ps.job import JobObject
from nexus.nt.ps.process import Process
from nexus.nt.ps.spawn import Request, spawn
from nexus.nt.ps.thread import Thread
from nexus.nt.se.token import TOKEN_PRIMARY, Token
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, In, NewHandle, ObjectAttributes, syscall
from nexus.nt.syscalls.debug import DEBUG_PROCESS_ASSIGN
from nexus.nt.syscalls.thread import CLIENT_ID

(
    _PARENT,
    _DEBUG_OBJECT,
    _TOKEN,
    _CLIENT_ID,
    _TEB,
    _IMAGE_NAME,
    _IMAGE_INFO,
    _MEMORY_RESERVE,
    _PRIORITY_CLASS,
    _ERROR_MODE,
    _STD_HANDLE_INFO,
    _HANDLE_LIST,
    _GROUP_AFFINITY,
    _PREFERRED_NODE,
    _IDEAL_PROCESSOR,
    _UMS_THREAD,
    _MITIGATION_OPTIONS,
    _PROTECTION_LEVEL,
    _SECURE_PROCESS,
    _JOB_LIST,
) = range(20)  # PS_ATTRIBUTE_NUM
_MACHINE_TYPE = 28
_MAXIMUM_HANDLES = 4096
_IGNORED = (_MEMORY_RESERVE, _PRIORITY_CLASS, _ERROR_MODE, _GROUP_AFFINITY, _PREFERRED_NODE, _IDEAL_PROCESSOR,
            _MITIGATION_OPTIONS, _STD_HANDLE_INFO, _MACHINE_TYPE)  # fmt: skip
_FILE = "src/nexus/nt/syscalls/process.py"

PROCESS_CREATE_FLAGS_NO_DEBUG_INHERIT = 0x2
PROCESS_CREATE_FLAGS_SUSPENDED = 0x200
PROCESS_CREATE_FLAGS_INHERIT_HANDLES = 0x4
THREAD_CREATE_FLAGS_CREATE_SUSPENDED = 0x1


@syscall
def NtTerminateProcess(call: Call, handle: uptr, status: u32) -> None:
    """End a process. With 0 the caller's other threads end, and the caller goes on to clean up."""
    if handle == 0:
        call.process.exiting = True
        call.process.exit_status = status
        for thread in list(call.process.threads):
            if thread is not call.thread:
                thread.terminate(status)
        return
    process = call.process.handles.resolve(handle, Process, PROCESS_TERMINATE)
    if process is call.process:
        process.crash = crash_behind(call.thread, status)
    process.terminate(status)


@syscall
def NtOpenProcess(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None, client: In[CLIENT_ID]
) -> None:
    """Open a process by its id, or by the id of one of its threads."""
    wanted = client.read()
    process = call.kernel.process_by_id(wanted.UniqueProcess)
    if process is None or process.terminated:
        raise NtError(Status.INVALID_CID)
    if wanted.UniqueThread:
        thread = call.kernel.thread_by_id(wanted.UniqueThread)
        if thread is None or thread.process is not process:
            raise NtError(Status.INVALID_CID)
    call.give_handle(handle, process, access, attributes)


@syscall
def NtSuspendProcess(call: Call, process: Handle[Process, PROCESS_SUSPEND_RESUME]) -> None:
    """Suspend every thread of a process."""
    for thread in process.threads:
        thread.suspend()


@syscall
def NtResumeProcess(call: Call, process: Handle[Process, PROCESS_SUSPEND_RESUME]) -> None:
    """Resume every thread of a process."""
    for thread in process.threads:
        thread.resume()


def _read_attributes(call: Call, request: Request, attribute_list: int) -> list[Attribute]:
    """Put what a PS_ATTRIBUTE_LIST says into the request; returns the attributes that want an answer."""
    handles = call.process.handles
    wanted = []
    for attribute in read_attribute_list(call.memory, attribute_list):
        number = attribute.number
        if number == _IMAGE_NAME:
            if attribute.size & 1 or attribute.size > 0xFFFE:
                raise NtError(Status.OBJECT_NAME_INVALID)
            name = call.memory.read(attribute.value, attribute.size)
            request.image = name.decode("utf-16-le", "surrogatepass")
        elif number == _PARENT:
            request.parent = handles.resolve(attribute.value, Process, PROCESS_CREATE_PROCESS)
        elif number in (_CLIENT_ID, _TEB, _IMAGE_INFO):
            wanted.append(attribute)
        elif number == _HANDLE_LIST:
            request.only = {handle & ~3 for handle in _read_handles(call, attribute)}
        elif number == _JOB_LIST:
            listed = _read_handles(call, attribute)
            request.jobs = [handles.resolve(job, JobObject, JOB_OBJECT_ASSIGN_PROCESS) for job in listed]
        elif number == _DEBUG_OBJECT:
            request.debug = handles.resolve(attribute.value, DebugObject, DEBUG_PROCESS_ASSIGN)
        elif number == _TOKEN:
            request.token = handles.resolve(attribute.value, Token, TOKEN_QUERY | TOKEN_ASSIGN_PRIMARY)
            if request.token.kind != TOKEN_PRIMARY:
                raise NtError(Status.BAD_TOKEN_TYPE)
        elif number not in _IGNORED:
            raise call.unsupported(f"process attribute {number}", _FILE)
    return wanted


def _read_handles(call: Call, attribute: Attribute) -> list[int]:
    """The handles of an attribute that is an array of them."""
    if attribute.size // 8 > _MAXIMUM_HANDLES:
        raise NtError(Status.INVALID_PARAMETER)
    raw = call.memory.read(attribute.value, attribute.size & ~7)
    return [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]


def _give_attributes(
    call: Call, wanted: list[Attribute], process: Process, thread: Thread, image_info: bytes
) -> None:
    """Answer the attributes that ask about the new process."""
    answers = {
        _CLIENT_ID: CLIENT_ID(UniqueProcess=process.id, UniqueThread=thread.id).pack(),
        _TEB: thread.teb.to_bytes(8, "little"),
        _IMAGE_INFO: image_info,
    }
    for attribute in wanted:
        attribute.give(call.memory, answers[attribute.number])


@syscall
def NtCreateUserProcess(
    call: Call,
    process_handle: NewHandle,
    thread_handle: NewHandle,
    process_access: u32,
    thread_access: u32,
    process_attributes: ObjectAttributes | None,
    thread_attributes: ObjectAttributes | None,
    process_flags: u32,
    thread_flags: u32,
    parameters: uptr,
    create_info: uptr,
    attribute_list: uptr,
) -> None:
    """Start a program in a new process."""
    if thread_flags & ~THREAD_CREATE_FLAGS_CREATE_SUSPENDED:
        raise NtError(Status.INVALID_PARAMETER)
    request = Request(parameters)
    wanted = _read_attributes(call, request, attribute_list)
    request.inherit = bool(process_flags & PROCESS_CREATE_FLAGS_INHERIT_HANDLES)
    process, thread, image_info = spawn(call, request)
    for job in request.jobs:
        job.add(process)
    try:
        _give_attributes(call, wanted, process, thread, image_info)
        call.give_handle(process_handle, process, process_access, process_attributes)
        call.give_handle(thread_handle, thread, thread_access, thread_attributes)
    except BaseException:
        process.terminate(Status.UNSUCCESSFUL)
        raise
    if request.debug is not None:
        process.debug_children = int(not process_flags & PROCESS_CREATE_FLAGS_NO_DEBUG_INHERIT)
        request.debug.attach(process)
    elif call.process.debug is not None and call.process.debug_children:
        call.process.debug.attach(process)
    if thread_flags & THREAD_CREATE_FLAGS_CREATE_SUSPENDED or process_flags & PROCESS_CREATE_FLAGS_SUSPENDED:
        thread.suspend()
    thread.make_ready()
