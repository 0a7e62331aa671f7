"""Calls from the kernel into the guest: user callbacks (which nest) and APCs."""

from __future__ import annotations

from nexus.nt.errors import NtError
from nexus.nt.ps import context as ctx
from nexus.nt.ps import exceptions, frames
from nexus.nt.ps.thread import Frame
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.ps.thread import Thread
    from nexus.nt.wait import UserCallback

MAXIMUM_DEPTH = 64


def enter(thread: Thread, callback: UserCallback) -> None:
    """Start a user callback; the syscall that asked for it goes on in `leave`."""
    if len(thread.frames) >= MAXIMUM_DEPTH:
        thread.state.rax = Status.STACK_OVERFLOW
        return
    registers = bytes(thread.state.buffer)
    try:
        frames.push_callback(thread, callback.index, callback.arguments)
    except frames.StackOverflow:
        thread.state.rax = Status.STACK_OVERFLOW
        return
    thread.frames.append(Frame(callback, registers))


def leave(thread: Thread) -> UserCallback:
    """NtCallbackReturn: restore the registers of the interrupted syscall; returns what it wants next."""
    if not thread.frames:
        raise NtError(Status.NO_CALLBACK_ACTIVE)
    frame = thread.frames.pop()
    thread.state.buffer[:] = frame.registers
    return frame.callback


def deliver_apc(thread: Thread) -> None:
    """Enter the next APC; the interrupted code goes on with the registers as they are now."""
    apc = thread.apcs.pop(0)
    context = ctx.capture(thread.state, thread.debug)
    try:
        frames.push_apc(thread, apc.routine, apc.arguments, context)
    except frames.StackOverflow:
        exceptions.fatal(thread, Status.STACK_OVERFLOW)


def deliver_special(thread: Thread) -> None:
    """Special APCs do not wait for an alertable wait."""
    for apc in thread.apcs:
        if apc.special:
            thread.apcs.remove(apc)
            thread.apcs.insert(0, apc)
            deliver_apc(thread)
            return
