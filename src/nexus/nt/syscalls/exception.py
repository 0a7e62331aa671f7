"""Raising exceptions, continuing from a context, returning from callbacks, hard errors."""

from __future__ import annotations

from nexus.abi.types import boolean, u32, uptr
from nexus.nt import callback
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.ps import context as ctx
from nexus.nt.ps import exceptions, xstate
from nexus.nt.status import Status
from nexus.nt.syscall import Out, stub, syscall
from nexus.nt.wait import RESUME, Resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nexus.nt.ps.thread import Thread

EXCEPTION_RECORD_SIZE = 0x98
KCONTINUE_FLAG_TEST_ALERT = 1
MAXIMUM_DEBUG_TEXT = 0x10000
LAST_BOOLEAN = 0xFF  # NtContinueEx takes a BOOLEAN or a pointer to KCONTINUE_ARGUMENT


@syscall
def NtRaiseException(call: Call, record: uptr, context: uptr, first_chance: boolean) -> Resume:
    """Raise an exception in the context given; without a first chance the process ends."""
    raw = bytearray(call.memory.read(record, EXCEPTION_RECORD_SIZE))
    registers = bytearray(call.memory.read(context, ctx.CONTEXT_SIZE))
    if int.from_bytes(raw[24:28], "little") > exceptions.MAXIMUM_PARAMETERS:
        raise NtError(Status.INVALID_PARAMETER)
    _load(call.thread, context, registers)
    code = int.from_bytes(raw[:4], "little")
    if not first_chance:
        exceptions.second_chance(call.thread, bytes(raw), registers)
        return RESUME
    if code == Status.BREAKPOINT:
        rip = int.from_bytes(registers[ctx.RIP : ctx.RIP + 8], "little") - 1
        registers[ctx.RIP : ctx.RIP + 8] = (rip & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
    exceptions.dispatch(call.thread, bytes(raw), registers)
    return RESUME


@syscall
def NtContinue(call: Call, context: uptr, alertable: boolean) -> Resume:
    """Go on with the registers of a CONTEXT."""
    _continue(call, context, bool(alertable))
    return RESUME


@syscall
def NtContinueEx(call: Call, context: uptr, argument: uptr) -> Resume:
    """NtContinue with a KCONTINUE_ARGUMENT (or a plain BOOLEAN)."""
    if argument > LAST_BOOLEAN:
        alertable = bool(call.memory.u32(argument + 4) & KCONTINUE_FLAG_TEST_ALERT)
    else:
        alertable = bool(argument)
    _continue(call, context, alertable)
    return RESUME


def _load(thread: Thread, address: int, context: bytes | bytearray) -> None:
    """Set the registers from a CONTEXT that was read at an address, and from the XState that it has."""
    if ctx.has_extended(context):
        xstate.load_from(thread.process.window, address, ctx.CONTEXT_SIZE, thread.state, thread.kernel.cpu)
    ctx.load(context, thread.state)


def _continue(call: Call, address: int, alertable: bool) -> None:
    thread, context = call.thread, call.memory.read(address, ctx.CONTEXT_SIZE)
    _load(thread, address, context)
    if ctx.flags_of(context) & ctx.DEBUG_REGISTERS:
        thread.debug = ctx.debug_registers(context)
    if alertable and thread.apcs:
        callback.deliver_apc(thread)


@syscall
def NtCallbackReturn(call: Call, output: uptr, length: u32, status: u32) -> Any:
    """End a user callback: the syscall that made it goes on with the output."""
    data = call.memory.read(output, length) if length else b""
    pending = callback.leave(call.thread)
    if pending.then is None:
        return status
    return pending.then(call, status, data, *pending.data)


@stub("there is nobody to show the message to; it is kept for the report")
def NtRaiseHardError(
    call: Call, status: u32, count: u32, unicode_mask: u32, parameters: uptr, options: u32, response: Out[u32]
) -> int:
    """Note the error and say that it was returned to the caller."""
    call.process.hard_errors.append(status)
    response.write(0)
    return Status.SUCCESS


@stub("debug filters only matter to a kernel debugger")
def NtSetDebugFilterState(call: Call, component: u32, level: u32, state: boolean) -> None:
    """Accepted, without effect."""


@syscall
def __wine_dbg_write(call: Call, text: uptr, length: u32) -> int:
    """Wine 8's DLLs print what they say about themselves."""
    call.kernel.debug_output(call.memory.read(text, min(length, MAXIMUM_DEBUG_TEXT)))
    return length
