"""SSE floating-point exceptions that the guest has unmasked (#XM).

The host always runs with every exception masked, so an instruction that should fault completes and
leaves its flags in MXCSR. Once a guest unmasks one, every instruction that may raise is a block of its own,
and while one is unmasked such a block runs between `begin` and `finish`: if its flags say that it should have
faulted, the state from before it comes back. No such instruction writes to memory, so that undoes all of it.

Which flags MXCSR has then is in the SDM, volume 1, 4.9 and 11.5: those found before computing (invalid,
denormal, divide by zero) keep the result's own (overflow, underflow, inexact) from being looked at; a tiny
result that is exact raises underflow only where that is unmasked, and is not flushed to zero there.

Two things are not as in hardware. The products within DPPS and DPPD are not looked at for tiny ones, only
the result. And where an unmasked overflow or underflow faults, the inexact flag speaks of the result that the
masked response would have had, not of one with unlimited exponent.
"""

from __future__ import annotations

from nexus.ir.state import SLOTS, Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.isa.x86.registers import CpuState

    Result = tuple[int, int, int]  # vector register, width and number of the lanes that may be tiny (0: none)

VECTOR = 19  # #XM, the argument of its FP_ERROR
_MXCSR, _EXIT = SLOTS["mxcsr"], SLOTS["exit"]
_FLAGS = 0x3F
_BEFORE = 0x07  # invalid, denormal, divide by zero
_UNDERFLOW = 0x10
_FLUSH = 0x8000
_EXPONENTS = {16: 0x7C00, 32: 0x7F80_0000, 64: 0x7FF0_0000_0000_0000}  # by the width of a lane


def unmasked(mxcsr: int) -> int:
    """The exceptions whose flags make an instruction fault."""
    return ~(mxcsr >> 7) & _FLAGS


def begin(state: CpuState) -> bytes:
    """Prepare for one instruction; returns what `finish` needs."""
    saved = bytes(state.buffer)
    slots = state.slots
    mxcsr = slots[_MXCSR] & ~_FLAGS
    slots[_MXCSR] = mxcsr & ~_FLUSH if unmasked(mxcsr) & _UNDERFLOW else mxcsr
    return saved


def finish(state: CpuState, saved: bytes, result: Result) -> bool:
    """Whether the instruction faulted; the state is then the one before it, with its flags."""
    slots = state.slots
    before = int.from_bytes(saved[8 * _MXCSR : 8 * _MXCSR + 8], "little")
    if slots[_EXIT] in (Exit.FAULT, Exit.BUDGET):  # it has not computed anything
        slots[_MXCSR] = before
        return False
    enabled, flags = unmasked(before), slots[_MXCSR] & _FLAGS
    if enabled & _UNDERFLOW and _is_tiny(state, *result):
        flags |= _UNDERFLOW
    if flags & enabled & _BEFORE:
        flags &= _BEFORE
    if not flags & enabled:
        slots[_MXCSR] = before | flags
        return False
    state.buffer[:] = saved
    slots[_MXCSR] = before | flags
    return True


def _is_tiny(state: CpuState, register: int, lane: int, count: int) -> bool:
    """Whether one of the lowest `count` lanes of a vector register is denormal."""
    size, exponent = lane // 8, _EXPONENTS[lane]
    value = state.vector(register)
    numbers = (int.from_bytes(value[at : at + size], "little") for at in range(0, count * size, size))
    return any(not number & exponent and number << 1 & (1 << lane) - 1 for number in numbers)
