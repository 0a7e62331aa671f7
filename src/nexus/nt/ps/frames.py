"""The stack frames with which the kernel enters ntdll: exceptions, APCs, user callbacks."""

from __future__ import annotations

import struct

from nexus.base.errors import GuestFault
from nexus.nt.errors import NtError
from nexus.nt.ps import context as ctx
from nexus.nt.ps import xstate
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.ps.thread import Thread

PAGE = 0x1000
MINIMUM_GUARANTEE = 2 * PAGE  # what a stack overflow handler has at least, in a 64-bit process
TEB_STACK_BASE, TEB_STACK_LIMIT, TEB_DEALLOCATION_STACK = 0x08, 0x10, 0x1478
TEB_GUARANTEED_STACK_BYTES = 0x1748

_EXCEPTION_FRAME = 0x5C0
_APC_FRAME = 0x500


class StackOverflow(Exception):
    """The guest's stack has no room for the frame."""


def machine_frame(rip: int, cs: int, eflags: int, rsp: int, ss: int) -> bytes:
    """What an interrupt pushes."""
    return struct.pack("<5Q", rip, cs, eflags, rsp, ss)


def guard_hit(thread: Thread, address: int) -> int | None:
    """Answer an access to a guard page: None when it was none, a status otherwise (SUCCESS: just go on).

    On the stack that the TEB names, which the guest may have replaced (fibers), the guard moves down; on the
    last page that is STATUS_STACK_OVERFLOW.
    """
    space, window, teb = thread.process.space, thread.process.window, thread.teb
    if not space.guard_hit(address):
        return None
    lowest = window.u64(teb + TEB_DEALLOCATION_STACK)
    if not lowest <= address < window.u64(teb + TEB_STACK_BASE):
        return Status.GUARD_PAGE_VIOLATION
    guaranteed = window.u32(teb + TEB_GUARANTEED_STACK_BYTES)
    guaranteed = max(MINIMUM_GUARANTEE, (guaranteed + PAGE - 1) & -PAGE)
    try:
        limit, used_up = space.grow_stack(address & -PAGE, lowest, guaranteed)
    except NtError as error:  # what the guest calls its stack is none, or there is no memory for it
        return error.status
    window.w64(teb + TEB_STACK_LIMIT, limit)
    return Status.STACK_OVERFLOW if used_up else Status.SUCCESS


def push(thread: Thread, address: int, data: bytes) -> None:
    """Write a frame on the guest's stack, growing it where needed; raises StackOverflow."""
    window = thread.process.window
    while True:
        try:
            window.write(address, data)
            return
        except GuestFault as fault:
            if guard_hit(thread, fault.address) != Status.SUCCESS:
                raise StackOverflow from fault


def push_exception(thread: Thread, record: bytes, context: bytearray) -> None:
    """Enter KiUserExceptionDispatcher with a record and the context it happened in."""
    state = thread.state
    rsp = int.from_bytes(context[ctx.RSP : ctx.RSP + 8], "little")
    rip = int.from_bytes(context[ctx.RIP : ctx.RIP + 8], "little")
    eflags = int.from_bytes(context[ctx.EFLAGS : ctx.EFLAGS + 4], "little")
    extended = xstate.save(state, thread.kernel.cpu) if ctx.has_extended(context) else b""
    frame = (rsp - _EXCEPTION_FRAME - max(len(extended), xstate.HEADER)) & -64
    description = xstate.context_ex(ctx.CONTEXT_SIZE, _EXCEPTION_FRAME - ctx.CONTEXT_SIZE, len(extended))
    body = bytes(context) + description + record.ljust(0x98, b"\0") + bytes(8)
    body += machine_frame(rip, state.cs, eflags, rsp, state.ss)
    push(thread, frame, body.ljust(_EXCEPTION_FRAME, b"\0") + extended)
    state.rsp = frame
    state.rip = thread.process.symbols["KiUserExceptionDispatcher"]


def push_apc(thread: Thread, routine: int, arguments: tuple[int, int, int], context: bytearray) -> None:
    """Enter KiUserApcDispatcher; when the routine is done the guest continues with `context`."""
    state = thread.state
    rsp = int.from_bytes(context[ctx.RSP : ctx.RSP + 8], "little")
    rip = int.from_bytes(context[ctx.RIP : ctx.RIP + 8], "little")
    if thread.process.version.machine_frames:
        struct.pack_into("<4Q", context, ctx.P1_HOME, *arguments, routine)
        frame = (rsp & -16) - _APC_FRAME
        push(thread, frame, bytes(context) + machine_frame(rip, state.cs, state.eflags, rsp, state.ss))
        state.rsp = frame
    else:
        saved = struct.pack("<32xQ8x", routine)
        frame = (rsp & -16) - ctx.CONTEXT_SIZE - len(saved)
        push(thread, frame, saved + bytes(context))
        state.rsp = frame - 8
        state.rcx, (state.rdx, state.r8, state.r9) = frame + len(saved), arguments
    state.rip = thread.process.symbols["KiUserApcDispatcher"]


def push_callback(thread: Thread, index: int, arguments: bytes) -> None:
    """Enter KiUserCallbackDispatcher."""
    state = thread.state
    if thread.process.version.machine_frames:
        frame = (state.rsp - 0x58 - len(arguments)) & -16
        head = struct.pack("<32xQII", frame + 0x58, len(arguments), index)
        push(
            thread,
            frame,
            head + machine_frame(state.rip, state.cs, state.eflags, state.rsp, state.ss) + arguments,
        )
        state.rsp = frame
    else:
        at = (state.rsp - len(arguments)) & -16
        push(thread, at - 0x28, bytes(0x28) + arguments)
        state.rsp = at - 0x28
        state.rcx, state.rdx, state.r8 = index, at, len(arguments)
    state.rip = thread.process.symbols["KiUserCallbackDispatcher"]
