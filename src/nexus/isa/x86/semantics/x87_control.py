"""x87 control: control and status words, the stack pointer and tags, environments, FXSAVE, and EMMS.

The last instruction and data pointers are not kept: they are stored as zero.
"""

from __future__ import annotations

from iced_x86 import MemorySize

from nexus.ir.ops.x87_image import FX_BYTES
from nexus.ir.ops.x87_state import C1, EXCEPTIONS, SUMMARY
from nexus.ir.types import I8, I16, I32, I64
from nexus.ir.values import Address, Value
from nexus.isa.x86 import helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import GENERAL_PROTECTION, Exit, Ins
from nexus.isa.x86.semantics.sse_operands import lane
from nexus.isa.x86.semantics.x87 import st, wait
from nexus.isa.x86.table import register, semantics

STATUS_KEPT = 0x7F00  # of the status word by FNCLEX
FX_ALIGNMENT, FX_MXCSR = 16, 24
_SHORT = (MemorySize.FPU_ENV14, MemorySize.FPU_STATE94)
_SIZES = {
    MemorySize.FPU_ENV14: 14,
    MemorySize.FPU_ENV28: 28,
    MemorySize.FPU_STATE94: 94,
    MemorySize.FPU_STATE108: 108,
}


def status_word(i: Ins) -> Value:
    """FSW with TOP, as 16 bits."""
    return (i.get(r.FSW) | i.get(r.FTOP) << 11).trunc(I16)


def set_status(i: Ins, word: Value) -> None:
    """FSW and TOP from the 64-bit value of a status word; its summary bits follow the control word of the
    moment."""
    i.block.put(r.FTOP, (word >> 11) & 7)
    i.block.put(r.FSW, word & (0xC7FF & ~SUMMARY))


@semantics("WAIT")
def fwait(i: Ins) -> None:
    wait(i)


@semantics("FNOP")
def fnop(i: Ins) -> None:
    wait(i)


@semantics("FNSTSW")
def fnstsw(i: Ins) -> None:
    i.write(0, status_word(i))


@semantics("FNSTCW")
def fnstcw(i: Ins) -> None:
    i.write(0, i.get(r.FCW, I16))


@semantics("FLDCW")
def fldcw(i: Ins) -> None:
    wait(i)
    load_control(i, i.read(0, I16).zext(I64))


@semantics("FNCLEX")
def fnclex(i: Ins) -> None:
    i.block.put(r.FSW, i.get(r.FSW) & STATUS_KEPT)


@semantics("FNINIT")
def fninit(i: Ins) -> None:
    _reset(i)


def load_control(i: Ins, word: Value) -> None:
    """The block ends here: what computes behind it must not be moved before it."""
    i.block.emit("x87.control", word)
    i.goto(i.next)


def _reset(i: Ins) -> None:
    i.block.put(r.FSW, i.const(I64, 0))
    i.block.put(r.FTOP, i.const(I64, 0))
    i.block.put(r.FTAG, i.const(I64, 0))
    load_control(i, i.const(I64, r.DEFAULT_FCW))


@semantics("EMMS")
def emms(i: Ins) -> None:
    wait(i)
    i.block.put(r.FTAG, i.const(I64, 0))
    i.block.put(r.FTOP, i.const(I64, 0))


def _clear_c1(i: Ins) -> None:
    i.block.put(r.FSW, i.get(r.FSW) & (0xFFFF & ~C1))


def _turn(name: str, by: int) -> None:
    """FINCSTP, FDECSTP: only the top moves."""

    def turn(i: Ins) -> None:
        wait(i)
        i.block.put(r.FTOP, (i.get(r.FTOP) + by) & 7)
        _clear_c1(i)

    register(name, turn)


_turn("FINCSTP", 1)
_turn("FDECSTP", -1)


@semantics("FFREE")
def ffree(i: Ins) -> None:
    wait(i)
    bit = i.const(I64, 1) << ((i.get(r.FTOP) + st(i, 0)) & 7)
    i.block.put(r.FTAG, i.get(r.FTAG) & ~bit)
    _clear_c1(i)


@semantics("FFREEP")
def ffreep(i: Ins) -> None:
    """Free a register, then pop."""
    wait(i)
    top = i.get(r.FTOP)
    gone = i.const(I64, 1) << ((top + st(i, 0)) & 7) | i.const(I64, 1) << top
    i.block.put(r.FTAG, i.get(r.FTAG) & ~gone)
    i.block.put(r.FTOP, (top + 1) & 7)
    _clear_c1(i)


# environments ------------------------------------------------------------------------------------------
#
# Seven words of 32 bits (16 under an operand size prefix): control, status, tags, and four of pointers. Their
# first word and their last byte are touched first, as processors do, so that a fault comes before any change.


def _word(i: Ins) -> tuple[int, bool]:
    """Bytes per word of the environment, and whether they are 16-bit ones."""
    short = i.raw.memory_size in _SHORT
    return (2 if short else 4), short


def _probe(i: Ins, modify: bool) -> None:
    i.block.load(I16 if _word(i)[1] else I32, i.memory(), modify=modify)
    i.block.load(I8, i.memory().plus(_SIZES[i.raw.memory_size] - 1), modify=modify)


def _store_environment(i: Ins) -> int:
    """Store the environment; returns its size."""
    size, short = _word(i)
    where = i.memory()
    _probe(i, modify=True)
    words = [i.get(r.FCW), status_word(i).zext(I64), i.block.emit("x87.tags")]
    for index, value in enumerate(words):
        wide = value.trunc(I16) if short else (value | 0xFFFF0000).trunc(I32)
        i.block.store(where.plus(index * size), wide)
    for index in range(3, 7):
        pointer = 0xFFFF0000 if index == 6 and not short else 0
        i.block.store(where.plus(index * size), i.const(I16 if short else I32, pointer))
    return 7 * size


def _load_environment(i: Ins) -> list[Value]:
    """Control, status and tags."""
    size, _ = _word(i)
    _probe(i, modify=False)
    return [i.block.load(I16, i.memory().plus(index * size)).zext(I64) for index in range(3)]


def _set_environment(i: Ins, words: list[Value]) -> None:
    control, status, tags = words
    set_status(i, status)
    empty = tags & (tags >> 1) & 0x5555  # both bits set: empty; then every other bit is gathered
    i.block.put(r.FTAG, (i.block.emit("pext.i64", empty, i.const(I64, 0x5555)) ^ 0xFF) & 0xFF)
    i.block.emit("x87.control", control)  # the caller ends the block


@semantics("FNSTENV")
def fnstenv(i: Ins) -> None:
    """Afterwards every exception is masked."""
    _store_environment(i)
    load_control(i, i.get(r.FCW) | EXCEPTIONS)


@semantics("FLDENV")
def fldenv(i: Ins) -> None:
    wait(i)
    _set_environment(i, _load_environment(i))
    i.goto(i.next)


@semantics("FNSAVE")
def fnsave(i: Ins) -> None:
    """The environment, then ST0..ST7; then as FNINIT."""
    at = i.memory().plus(_store_environment(i))
    for number in range(8):
        value = i.block.emit("x87.get", imm=number | 8)
        i.block.store(at.plus(10 * number), lane(value, 64))
        i.block.store(at.plus(10 * number + 8), lane(value, 16, 4))
    _reset(i)


@semantics("FRSTOR")
def frstor(i: Ins) -> None:
    wait(i)
    words = _load_environment(i)
    at = i.memory().plus(7 * _word(i)[0])
    values = []
    for number in range(8):
        low, high = i.block.load(I64, at.plus(10 * number)), i.block.load(I16, at.plus(10 * number + 8))
        values.append(i.block.emit("v.pair.i64.v128", low, high.zext(I64)))
    _set_environment(i, words)
    for number, value in enumerate(values):
        i.block.emit("x87.put", value, imm=number)
    i.goto(i.next)


def _image(i: Ins) -> Address:
    where = i.flat()
    i.require_aligned(where, FX_ALIGNMENT)
    return where


@semantics("FXSAVE", "FXSAVE64")
def fxsave(i: Ins) -> None:
    base = _image(i).base
    assert base is not None
    i.block.load(I8, Address(base, FX_BYTES - 1), modify=True)
    i.block.emit("fx.save", base)


@semantics("FXRSTOR", "FXRSTOR64")
def fxrstor(i: Ins) -> None:
    """Reserved bits of MXCSR are #GP. Leaves the engine, since exceptions may be unmasked now."""
    where = _image(i)
    assert where.base is not None
    i.block.load(I8, where.plus(FX_BYTES - 1))
    mxcsr = i.block.load(I32, where.plus(FX_MXCSR))
    i.block.trap_if((mxcsr & (I32.mask & ~r.MXCSR_MASK)).ne(0), Exit.PRIVILEGED, GENERAL_PROTECTION)
    i.block.emit("fx.load", where.base)
    i.helper(helpers.MXCSR_LOADED)
