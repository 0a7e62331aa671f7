"""CONTEXT, the registers of a thread as Windows code sees them (winnt.h, AMD64)."""

from __future__ import annotations

import struct

from nexus.nt.errors import NtError
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.isa.x86.registers import CpuState

CONTEXT_SIZE = 0x4D0
CONTEXT_AMD64 = 0x0010_0000
CONTROL, INTEGER, SEGMENTS, FLOATING_POINT, DEBUG_REGISTERS, XSTATE = 0x1, 0x2, 0x4, 0x8, 0x10, 0x40
CONTEXT_FULL = CONTEXT_AMD64 | CONTROL | INTEGER | FLOATING_POINT
CONTEXT_ALL = CONTEXT_FULL | SEGMENTS | DEBUG_REGISTERS
EXCEPTION_ACTIVE, SERVICE_ACTIVE = 0x0800_0000, 0x1000_0000
EXCEPTION_REQUEST, EXCEPTION_REPORTING = 0x4000_0000, 0x8000_0000

FLAGS, MXCSR, SELECTORS, EFLAGS, DEBUG, RAX, RIP, FXSAVE = 0x30, 0x34, 0x38, 0x44, 0x48, 0x78, 0xF8, 0x100
P1_HOME = 0x0
RSP = RAX + 4 * 8
_GPRS = struct.Struct("<16Q")
_DEBUG = struct.Struct("<6Q")
_USER_FLAGS = 0x0024_4DD5  # what user mode may change: CF PF AF ZF SF TF DF OF NT AC ID
TRAP_FLAG = 0x100


def capture(state: CpuState, debug: tuple[int, ...] = (0,) * 6, flags: int = CONTEXT_FULL) -> bytearray:
    """A CONTEXT with the parts that `flags` names."""
    context = bytearray(CONTEXT_SIZE)
    store(context, state, debug, flags)
    return context


def store(context: bytearray, state: CpuState, debug: tuple[int, ...], flags: int) -> None:
    """Fill the named parts of an existing CONTEXT."""
    struct.pack_into("<I", context, FLAGS, flags)
    gprs = [state.gpr(number) for number in range(16)]
    if flags & INTEGER:
        kept = context[RSP : RSP + 8]
        _GPRS.pack_into(context, RAX, *gprs)
        context[RSP : RSP + 8] = kept
    if flags & CONTROL:
        struct.pack_into("<H", context, SELECTORS, state.cs)
        struct.pack_into("<HI", context, SELECTORS + 10, state.ss, state.eflags)
        struct.pack_into("<Q", context, RSP, gprs[4])
        struct.pack_into("<Q", context, RIP, state.rip)
    if flags & SEGMENTS:
        struct.pack_into("<4H", context, SELECTORS + 2, state.ds, state.es, state.fs, state.gs)
    if flags & FLOATING_POINT:
        context[FXSAVE : FXSAVE + 512] = state.fxsave()
        struct.pack_into("<I", context, MXCSR, state.mxcsr)
    if flags & DEBUG_REGISTERS:
        _DEBUG.pack_into(context, DEBUG, *debug)


def flags_of(context: bytes | bytearray) -> int:
    """ContextFlags, which must name this architecture."""
    flags = int.from_bytes(context[FLAGS : FLAGS + 4], "little")
    if not flags & CONTEXT_AMD64:
        raise NtError(Status.INVALID_PARAMETER)
    return flags


def load(context: bytes | bytearray, state: CpuState) -> None:
    """Set the registers from the parts a CONTEXT says it has.

    Selectors are fixed in user mode and not loaded.
    """
    flags = flags_of(context)
    if flags & INTEGER:
        for number, value in enumerate(_GPRS.unpack_from(context, RAX)):
            if number != 4:
                state.set_gpr(number, value)
    if flags & CONTROL:
        state.rsp = int.from_bytes(context[RSP : RSP + 8], "little")
        state.rip = int.from_bytes(context[RIP : RIP + 8], "little")
        wanted = int.from_bytes(context[EFLAGS : EFLAGS + 4], "little")
        state.eflags = (wanted & _USER_FLAGS) | 0x202
    if flags & FLOATING_POINT:
        image = bytearray(context[FXSAVE : FXSAVE + 512])
        mxcsr = int.from_bytes(image[24:28], "little") & 0xFFFF
        image[24:28] = mxcsr.to_bytes(4, "little")
        state.fxrstor(bytes(image))


def has_extended(context: bytes | bytearray) -> bool:
    """Whether a CONTEXT says that an XState belongs to it (`xstate.py`)."""
    return bool(flags_of(context) & XSTATE)


def debug_registers(context: bytes | bytearray) -> tuple[int, ...]:
    """Dr0-Dr3, Dr6, Dr7."""
    values: tuple[int, ...] = _DEBUG.unpack_from(context, DEBUG)
    return values
