"""Processor exceptions become Windows exceptions; unhandled ones end the process with a report."""

from __future__ import annotations

import struct

from nexus.base.errors import GuestFault
from nexus.ir.state import Exit
from nexus.nt.ps import context as ctx
from nexus.nt.ps import frames, xstate
from nexus.nt.ps.crash import Crash
from nexus.nt.ps.debug import BREAKPOINT
from nexus.nt.status import Status
from nexus.nt.wait import RESUME, Resume, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.machine.stop import Stop
    from nexus.nt.call import Call
    from nexus.nt.ps.debug import ExceptionEvent
    from nexus.nt.ps.thread import Thread

EXCEPTION_NONCONTINUABLE = 0x1
MAXIMUM_PARAMETERS = 15
_READ, _WRITE, _EXECUTE = 0, 1, 8
_FAST_FAIL = 0x29
_XM = 19  # of an FP_ERROR
_SIGBUS = 7  # in a Stop: the page lies beyond the end of the file it shows
_FLOAT_STATUS = (  # exception flags of MXCSR and of the x87 status word, most important first
    (0x01, Status.FLOAT_INVALID_OPERATION),
    (0x04, Status.FLOAT_DIVIDE_BY_ZERO),
    (0x02, Status.FLOAT_DENORMAL_OPERAND),
    (0x08, Status.FLOAT_OVERFLOW),
    (0x10, Status.FLOAT_UNDERFLOW),
    (0x20, Status.FLOAT_INEXACT_RESULT),
)


def on_stop(thread: Thread, stop: Stop) -> None:
    """Raise the exception that a stop of the vCPU means."""
    state = thread.state
    kind = stop.kind
    if kind == Exit.FAULT:
        _memory_fault(thread, stop)
    elif kind == Exit.DIVIDE:
        raise_exception(thread, Status.INTEGER_DIVIDE_BY_ZERO)
    elif kind == Exit.ILLEGAL:
        raise_exception(thread, Status.ILLEGAL_INSTRUCTION)
    elif kind == Exit.PRIVILEGED:
        raise_exception(thread, Status.PRIVILEGED_INSTRUCTION)
    elif kind == Exit.TRAP:
        state.eflags = state.eflags & ~ctx.TRAP_FLAG
        raise_exception(thread, Status.SINGLE_STEP)
    elif kind == Exit.ALIGNMENT:
        raise_exception(thread, Status.DATATYPE_MISALIGNMENT)
    elif kind == Exit.FP_ERROR:
        _float_error(thread, stop.argument)
    elif kind == Exit.INTERRUPT:
        _interrupt(thread, stop.argument)
    else:
        raise RuntimeError(f"the vCPU stopped with {stop}, which the kernel does not expect")


def _memory_fault(thread: Thread, stop: Stop) -> None:
    access = _EXECUTE if stop.execute else _WRITE if stop.write else _READ
    if stop.argument == _SIGBUS:
        raise_exception(thread, Status.IN_PAGE_ERROR, (access, stop.address, Status.END_OF_FILE))
        return
    status = frames.guard_hit(thread, stop.address)
    if status == Status.SUCCESS:
        return
    code = Status.ACCESS_VIOLATION if status is None else status
    raise_exception(thread, code, (access, stop.address))


def _interrupt(thread: Thread, number: int) -> None:
    state = thread.state
    if number == 3:
        state.rip -= 1
        raise_exception(thread, Status.BREAKPOINT, (0,))
    elif number == 0x2D:  # the debug service, with its filler byte: a breakpoint that continues after both
        state.rip += 1
        raise_exception(thread, Status.BREAKPOINT, (state.rax, state.rcx, state.rdx))
    elif number == _FAST_FAIL:
        state.rip -= 2
        record = exception_record(
            Status.STACK_BUFFER_OVERRUN, state.rip, (state.rcx,), EXCEPTION_NONCONTINUABLE
        )
        second_chance(thread, record, ctx.capture(state, thread.debug))
    else:  # any other gate is closed to user mode: #GP
        state.rip -= 2
        raise_exception(thread, Status.ACCESS_VIOLATION, (_READ, 0xFFFF_FFFF_FFFF_FFFF))


def _float_error(thread: Thread, vector: int) -> None:
    """#MF of the x87, or #XM of SSE, which tells its MXCSR."""
    state = thread.state
    if vector == _XM:
        raise_exception(thread, _float_status(state.mxcsr & ~(state.mxcsr >> 7)), (0, state.mxcsr))
    else:
        raise_exception(thread, _float_status(state.fsw & ~state.fcw))


def _float_status(raised: int) -> int:
    for bit, status in _FLOAT_STATUS:
        if raised & bit:
            return status
    return Status.FLOAT_INVALID_OPERATION


def exception_record(
    code: int, address: int, parameters: tuple[int, ...] = (), flags: int = 0, nested: int = 0
) -> bytes:
    """EXCEPTION_RECORD64."""
    head = struct.pack("<IIQQII", code, flags, nested, address, len(parameters), 0)
    return (head + struct.pack(f"<{len(parameters)}Q", *parameters)).ljust(0x98, b"\0")


def raise_exception(thread: Thread, code: int, parameters: tuple[int, ...] = ()) -> None:
    """Raise an exception at the current instruction."""
    record = exception_record(code, thread.state.rip, parameters)
    extended = ctx.XSTATE if xstate.size(thread.kernel.cpu) else 0
    dispatch(thread, record, ctx.capture(thread.state, thread.debug, ctx.CONTEXT_ALL | extended))


def dispatch(thread: Thread, record: bytes, context: bytearray) -> None:
    """First chance: let a debugger see it, then the guest's handlers."""
    before = thread.last_crash
    thread.last_crash = Crash.of(thread, record, context)
    trace = thread.kernel.trace
    if trace is not None:
        trace.exception(thread, thread.last_crash)
    if not _ask_debugger(thread, record, before, True):
        _deliver(thread, record, context, before)


def _deliver(thread: Thread, record: bytes, context: bytearray, before: Crash | None) -> None:
    """Enter the guest's dispatcher; `before` is the exception that came before this one."""
    try:
        frames.push_exception(thread, record, context)
    except (frames.StackOverflow, GuestFault):
        overflowed = before if before is not None and before.code == Status.STACK_OVERFLOW else None
        second_chance(thread, record, context, overflowed)


def second_chance(thread: Thread, record: bytes, context: bytearray, cause: Crash | None = None) -> None:
    """No handler took it (or none had the stack to run on, after `cause`): if no debugger does either the
    process ends with its code.
    """
    crash = cause or Crash.of(thread, record, context)
    crash.note_stack()
    if not _ask_debugger(thread, record, crash, False):
        _end(thread, crash)


def _end(thread: Thread, crash: Crash) -> None:
    thread.process.crash = crash
    thread.process.terminate(crash.code)


def _ask_debugger(thread: Thread, record: bytes, crash: Crash | None, first_chance: bool) -> bool:
    """Show the exception to the process's debugger, if it has one; the thread waits for the answer.

    The debugger finds a breakpoint's thread behind it, the guest's handlers find it before.
    """
    debug = thread.process.debug
    event = debug.exception(thread, record, first_chance) if debug is not None else None
    if event is None:
        return False
    thread.state.rip += event.kind == BREAKPOINT
    thread.begin_wait(Wait((event,), None, then=_answered, data=(event, crash, first_chance)))
    return True


def _answered(
    call: Call, status: int, acquired: object, event: ExceptionEvent, crash: Crash | None, first_chance: bool
) -> Resume:
    """The debugger has continued the event: it took care of the exception, or leaves it to the others."""
    thread = call.thread
    if event.handled:
        return RESUME
    thread.state.rip -= event.kind == BREAKPOINT
    if first_chance:
        context = ctx.capture(thread.state, thread.debug, ctx.CONTEXT_ALL)
        _deliver(thread, event.record, context, crash)
    elif crash is not None:
        _end(thread, crash)
    return RESUME


def fatal(thread: Thread, code: int) -> None:
    """End the process because the kernel cannot go on with this thread."""
    record = exception_record(code, thread.state.rip)
    second_chance(thread, record, ctx.capture(thread.state, thread.debug))
