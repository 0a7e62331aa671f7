"""Threads: creation, end, suspension, registers, APCs and alerts."""

from __future__ import annotations

from nexus.abi.struct import Struct
from nexus.abi.types import u32, uptr
from nexus.nt.access import (
    PROCESS_CREATE_THREAD,
    PROCESS_QUERY_INFORMATION,
    THREAD_ALL_ACCESS,
    THREAD_GET_CONTEXT,
    THREAD_IMPERSONATE,
    THREAD_SET_CONTEXT,
    THREAD_SUSPEND_RESUME,
    THREAD_TERMINATE,
)
from nexus.nt.apc import Apc
from nexus.nt.attributes import Attributes
from nexus.nt.call import Call
from nexus.nt.callback import deliver_apc
from nexus.nt.errors import NtError
from nexus.nt.ps import context as ctx
from nexus.nt.ps import xstate
from nexus.nt.ps.attribute_list import read_attribute_list
from nexus.nt.ps.process import Process
from nexus.nt.ps.start_thread import start_thread
from nexus.nt.ps.thread import MAXIMUM_SUSPEND_COUNT, Thread, UserApcReserve
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, In, NewHandle, ObjectAttributes, Out, syscall
from nexus.nt.wait import RESUME, Resume

CREATE_SUSPENDED = 0x1
HIDE_FROM_DEBUGGER = 0x4
PS_ATTRIBUTE_CLIENT_ID = 0x10003
PS_ATTRIBUTE_TEB_ADDRESS = 0x10004
QUEUE_USER_APC_FLAGS_SPECIAL_USER_APC = 0x1
_CREATE_FLAGS = 0x7F


class CLIENT_ID(Struct):
    UniqueProcess: uptr
    UniqueThread: uptr


@syscall
def NtCreateThreadEx(
    call: Call,
    handle: NewHandle,
    access: u32,
    attributes: ObjectAttributes | None,
    process: Handle[Process, PROCESS_CREATE_THREAD],
    start: uptr,
    parameter: uptr,
    flags: u32,
    zero_bits: uptr,
    stack_commit: uptr,
    stack_reserve: uptr,
    attribute_list: uptr,
) -> None:
    """Start a thread in a process."""
    if flags & ~_CREATE_FLAGS:
        raise NtError(Status.INVALID_PARAMETER)
    if zero_bits > 21 and zero_bits < 32:
        raise NtError(Status.INVALID_PARAMETER_3)
    if process.terminated or process.exiting:
        raise NtError(Status.PROCESS_IS_TERMINATING)
    wanted = read_attribute_list(call.memory, attribute_list) if attribute_list else []
    thread = Thread(process)
    try:
        start_thread(thread, start, parameter, stack_reserve, stack_commit, zero_bits)
        for attribute in wanted:
            if attribute.kind == PS_ATTRIBUTE_CLIENT_ID:
                client = CLIENT_ID(UniqueProcess=process.id, UniqueThread=thread.id).pack()
                attribute.give(call.memory, client)
            elif attribute.kind == PS_ATTRIBUTE_TEB_ADDRESS:
                attribute.give(call.memory, thread.teb.to_bytes(8, "little"))
        call.give_handle(handle, thread, access, attributes)
    except BaseException:
        thread.discard()
        raise
    thread.hide_from_debugger = bool(flags & HIDE_FROM_DEBUGGER)
    if process.debug is not None:
        process.debug.thread_created(thread)
    if flags & CREATE_SUSPENDED:
        thread.suspend()
    thread.make_ready()


@syscall
def NtOpenThread(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes, client: In[CLIENT_ID]
) -> None:
    """Open a thread by its id."""
    wanted = client.read()
    thread = call.kernel.thread_by_id(wanted.UniqueThread)
    if thread is None or (wanted.UniqueProcess and thread.process.id != wanted.UniqueProcess):
        raise NtError(Status.INVALID_CID)
    call.give_handle(handle, thread, access, attributes)


@syscall
def NtTerminateThread(call: Call, handle: uptr, status: u32) -> None:
    """End a thread (0: the caller)."""
    handles = call.process.handles
    thread = handles.resolve(handle, Thread, THREAD_TERMINATE) if handle else call.thread
    thread.terminate(status)


@syscall
def NtSuspendThread(
    call: Call, thread: Handle[Thread, THREAD_SUSPEND_RESUME], previous: Out[u32] | None
) -> None:
    """Stop a thread until it is resumed as often."""
    if thread.terminated:
        raise NtError(Status.THREAD_IS_TERMINATING)
    if thread.suspend_count == MAXIMUM_SUSPEND_COUNT:
        raise NtError(Status.SUSPEND_COUNT_EXCEEDED)
    before = thread.suspend()
    if previous is not None:
        previous.write(before)


@syscall
def NtResumeThread(
    call: Call, thread: Handle[Thread, THREAD_SUSPEND_RESUME], previous: Out[u32] | None
) -> None:
    """Take back one suspension."""
    before = thread.resume()
    if previous is not None:
        previous.write(before)


@syscall
def NtAlertThread(call: Call, thread: Handle[Thread, 0x4]) -> None:
    """End the thread's alertable wait, or its next one."""
    thread.alert()


@syscall
def NtAlertResumeThread(
    call: Call, thread: Handle[Thread, THREAD_SUSPEND_RESUME], previous: Out[u32] | None
) -> None:
    """Alert a thread and take back one suspension."""
    thread.alert()
    before = thread.resume()
    if previous is not None:
        previous.write(before)


@syscall
def NtGetContextThread(call: Call, thread: Handle[Thread, THREAD_GET_CONTEXT], context: uptr) -> None:
    """The registers of a thread, as far as ContextFlags asks for them."""
    registers = bytearray(call.memory.read(context, ctx.CONTEXT_SIZE))
    flags = ctx.flags_of(registers)
    if flags & ctx.XSTATE:
        xstate.store_to(call.memory, context, ctx.CONTEXT_SIZE, thread.state, thread.kernel.cpu)
    ctx.store(registers, thread.state, thread.debug, flags)
    call.memory.write(context, bytes(registers))


@syscall
def NtSetContextThread(
    call: Call, thread: Handle[Thread, THREAD_SET_CONTEXT], context: uptr
) -> Resume | None:
    """Set the registers of a thread."""
    registers = call.memory.read(context, ctx.CONTEXT_SIZE)
    flags = ctx.flags_of(registers)
    if flags & ctx.XSTATE:
        xstate.load_from(call.memory, context, ctx.CONTEXT_SIZE, thread.state, thread.kernel.cpu)
    ctx.load(registers, thread.state)
    if flags & ctx.DEBUG_REGISTERS:
        thread.debug = ctx.debug_registers(registers)
    return RESUME if thread is call.thread and flags & ctx.INTEGER else None


@syscall
def NtQueueApcThread(
    call: Call, thread: Handle[Thread, THREAD_SET_CONTEXT], routine: uptr, a: uptr, b: uptr, c: uptr
) -> None:
    """Queue a user APC."""
    _queue(thread, routine, (a, b, c), special=False)


@syscall
def NtQueueApcThreadEx(
    call: Call,
    thread: Handle[Thread, THREAD_SET_CONTEXT],
    reserve: uptr,
    routine: uptr,
    a: uptr,
    b: uptr,
    c: uptr,
) -> None:
    """Queue a user APC, using a reserve object or - flag 1 - as one that needs no alertable wait."""
    special = reserve == QUEUE_USER_APC_FLAGS_SPECIAL_USER_APC
    if reserve and not special:
        call.process.handles.resolve(reserve, UserApcReserve, 0)
    _queue(thread, routine, (a, b, c), special=special)


def _queue(thread: Thread, routine: int, arguments: tuple[int, int, int], special: bool) -> None:
    if thread.terminated:
        raise NtError(Status.UNSUCCESSFUL)
    if routine:
        thread.queue_apc(Apc(routine, arguments, special=special))


@syscall
def NtTestAlert(call: Call) -> Resume | int:
    """Deliver a pending APC or alert now."""
    thread = call.thread
    if thread.apcs:
        thread.state.rax = Status.SUCCESS
        deliver_apc(thread)
        return RESUME
    if thread.alerted:
        thread.alerted = False
        return Status.ALERTED
    return Status.SUCCESS


@syscall
def NtGetNextThread(
    call: Call,
    process: Handle[Process, PROCESS_QUERY_INFORMATION],
    thread: Handle[Thread, 0] | None,
    access: u32,
    attributes: u32,
    flags: u32,
    next_thread: NewHandle,
) -> None:
    """Open the thread that follows another one (or the first) in a process; flag 1 goes backwards."""
    if flags & ~1:
        raise NtError(Status.INVALID_PARAMETER)
    threads = call.kernel.threads_of(process)
    if flags:
        threads.reverse()
    if thread is not None:
        later = [other for other in threads if (other.id > thread.id) != bool(flags) and other is not thread]
    else:
        later = threads
    if not later:
        raise NtError(Status.NO_MORE_ENTRIES)
    mapped = later[0].type.map_access(access) & THREAD_ALL_ACCESS
    call.give_handle(next_thread, later[0], mapped, Attributes(flags=attributes))


@syscall
def NtImpersonateAnonymousToken(call: Call, thread: Handle[Thread, THREAD_IMPERSONATE]) -> int:
    """Refused: there is no anonymous token."""
    return Status.CANT_OPEN_ANONYMOUS


@syscall
def NtRegisterThreadTerminatePort(call: Call, port: uptr) -> int:
    """There are no LPC ports, so no handle can name one."""
    return Status.INVALID_HANDLE
