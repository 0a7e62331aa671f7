"""The start of a guest thread: its stack, TEB and first context.

Every thread begins in ntdll!LdrInitializeThunk with a CONTEXT on its stack; the loader ends in NtContinue to
it, which goes to ntdll!RtlUserThreadStart with the start address and its argument.
"""

from __future__ import annotations

from nexus.base.errors import GuestFault, NexusError
from nexus.nt.mm.memory import zero_bits_limit
from nexus.nt.mm.vad import MEM_PRIVATE, PAGE, PAGE_GUARD, PAGE_NOACCESS, PAGE_READWRITE, round_up
from nexus.nt.ps import context as ctx
from nexus.nt.ps.peb import TEB_DEALLOCATION_STACK, write_teb
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.mm.vad import Region
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread

MINIMUM_STACK = 1 << 20
"""ntdll clears nearly 1 MB below the first context, so no thread has less."""

_HOME_SPACE = 0x28
_INITIAL_FCW = 0x27F  # Windows starts threads with double precision
_BELOW_GUARD = 3 * PAGE


def start_thread(
    thread: Thread, start: int, argument: int, reserve: int = 0, commit: int = 0, zero_bits: int = 0
) -> None:
    """Give a new thread its stack, TEB and registers; it is not made ready. Sizes of 0 mean the program's
    own.
    """
    process = thread.process
    stack = allocate_stack(process, reserve, commit, zero_bits)
    limit = stack.base + _BELOW_GUARD + PAGE
    try:
        teb = write_teb(process.space, process.peb, process.id, thread.id, stack, limit)
    except BaseException:
        process.space.release(stack)
        raise
    thread.teb = teb
    thread.stack = (stack.base, stack.size)
    thread.start_address = start
    thread.parameter = argument
    _set_registers(thread, stack.end, start, argument)


def allocate_stack(process: Process, reserve: int, commit: int, zero_bits: int) -> Region:
    """A stack, committed except for its lowest pages; above them lies the guard.

    When the guard has moved down into the lowest pages the stack is used up, and its handler gets what is
    left.
    """
    wanted = max(reserve or process.stack_reserve, commit or process.stack_commit, MINIMUM_STACK)
    size = round_up(wanted, 0x10000)
    limits = zero_bits_limit(zero_bits, Status.INVALID_PARAMETER_3)
    space = process.space
    region = space.new_region(0, size, MEM_PRIVATE, 0, PAGE_READWRITE, limits)
    region.name = "stack"
    region.charged = False
    try:
        guard = region.base + _BELOW_GUARD
        space.commit_pages(region, region.base, _BELOW_GUARD, PAGE_NOACCESS)
        space.commit_pages(region, guard, PAGE, PAGE_READWRITE | PAGE_GUARD)
        space.commit_pages(region, guard + PAGE, region.end - guard - PAGE, PAGE_READWRITE)
    except BaseException:
        space.release(region)
        raise
    return region


def _set_registers(thread: Thread, stack_top: int, start: int, argument: int) -> None:
    """Enter LdrInitializeThunk with the CONTEXT of RtlUserThreadStart(start, argument) on the stack."""
    process, state = thread.process, thread.state
    state.reset()
    state.fcw = _INITIAL_FCW
    state.gs_base = thread.teb
    state.rip = symbol(process, "RtlUserThreadStart")
    state.rcx, state.rdx = start, argument
    state.rsp = stack_top - _HOME_SPACE
    context = (state.rsp & ~15) - ctx.CONTEXT_SIZE
    process.window.write(context, bytes(ctx.capture(state)))
    state.rip = symbol(process, "LdrInitializeThunk")
    state.rcx, state.rdx = context, 0
    state.rsp = context - 8


def symbol(process: Process, name: str) -> int:
    """The guest address of an export of ntdll that the kernel enters."""
    address = process.symbols.get(name)
    if address is None:
        raise NexusError(f"ntdll.dll of this sysroot has no export {name}", hint="use a Wine of 8.0 or later")
    return address


def free_stack(thread: Thread) -> None:
    """Give back the stack and the TEB of a thread that has ended while its process lives on.

    The stack is the one that the TEB names: the thread may have ended as a fiber, and its first stack be one
    that another thread goes on with.
    """
    space = thread.process.space
    try:
        stack = thread.process.window.u64(thread.teb + TEB_DEALLOCATION_STACK)
    except GuestFault:  # the guest has freed its TEB
        stack = 0
    for address in (stack, thread.teb):
        region = space.regions.at(address) if address else None
        if region is not None and region.base == address and region.kind == MEM_PRIVATE:
            space.release(region)
    thread.stack = (0, 0)
