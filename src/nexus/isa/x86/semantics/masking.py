"""What the EVEX encoding adds to any instruction: masks, broadcasts from memory, zeroing.

A mask counts lanes of the result. For most instructions these are the lanes that a memory operand would have,
which iced knows; `LANES` has the others. Where the lanes of memory are those of the result, what the mask
leaves out is not accessed and does not fault; `WHOLE` has the instructions that read all of it nevertheless
(exception classes with NF, Intel SDM volume 2, 2.8).
"""

from __future__ import annotations

from functools import cache

from iced_x86 import MemorySizeInfo, Mnemonic, OpCodeInfo

from nexus.ir.ops.vector import holding
from nexus.ir.types import I64, INTEGER_OF_BITS, V128, Type
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Numbered  # a number of one of iced's enums, which its stubs call classes

LANES: dict[int, int] = {}
"""Mnemonic -> bits of the lanes that its mask counts, where memory has others or scalars."""
SCALARS: dict[int, int] = {Mnemonic.VMOVSH: 16, Mnemonic.VMOVSS: 32, Mnemonic.VMOVSD: 64}
"""Mnemonic -> bits of the only lane, where no form with memory tells."""
WHOLE: set[int] = set()


def _note(table: dict[int, int], bits: int, names: str) -> None:
    for name in names.split():
        table[getattr(Mnemonic, name)] = bits


_note(SCALARS, 64, "VCVTSS2SD")
_note(SCALARS, 32, "VCVTSD2SS")
_note(LANES, 8, "VPACKSSWB VPACKUSWB VGF2P8AFFINEQB VGF2P8AFFINEINVQB VPBROADCASTB VPMULTISHIFTQB")
_note(LANES, 16, "VPACKSSDW VPACKUSDW VPMADDUBSW VPMOVSXBW VPMOVZXBW VPBROADCASTW VDBPSADBW")
_note(LANES, 32, "VPMADDWD VPMOVSXBD VPMOVZXBD VPMOVSXWD VPMOVZXWD VPBROADCASTD VBROADCASTSS VCVTPH2PS")
_note(
    LANES,
    64,
    "VPMOVSXBQ VPMOVZXBQ VPMOVSXWQ VPMOVZXWQ VPMOVSXDQ VPMOVZXDQ VPBROADCASTQ VBROADCASTSD VMOVDDUP",
)
# these combine neighbours, in memory too
GROUPED: dict[int, int] = {}
_note(GROUPED, 8, "VPSHUFBITQMB")
_note(GROUPED, 64, "VPMULDQ VPMULUDQ")
_note(GROUPED, 32, "VPDPBUSD VPDPBUSDS VPDPWSSD VPDPWSSDS")
LANES |= GROUPED
for _names in (
    "VPACKSSWB VPACKUSWB VPACKSSDW VPACKUSDW VPSHUFB VPSHUFD VPSHUFHW VPSHUFLW VSHUFPS",
    "VSHUFPD VPALIGNR VPUNPCKLBW VPUNPCKLWD VPUNPCKLDQ VPUNPCKLQDQ VPUNPCKHBW VPUNPCKHWD",
    "VPUNPCKHDQ VPUNPCKHQDQ VUNPCKLPS VUNPCKLPD VUNPCKHPS VUNPCKHPD VPMADDWD VPMADDUBSW",
    "VPSADBW VDBPSADBW VMOVDDUP VMOVSLDUP VMOVSHDUP VPERMB VPERMW VPERMD VPERMQ VPERMPS",
    "VPERMPD VPERMILPS VPERMILPD VPERMI2B VPERMI2W VPERMI2D VPERMI2Q VPERMI2PS VPERMI2PD",
    "VPERMT2B VPERMT2W VPERMT2D VPERMT2Q VPERMT2PS VPERMT2PD VALIGND VALIGNQ VSHUFF32X4",
    "VSHUFF64X2 VSHUFI32X4 VSHUFI64X2 VINSERTF32X4 VINSERTF64X2 VINSERTF32X8 VINSERTF64X4",
    "VINSERTI32X4 VINSERTI64X2 VINSERTI32X8 VINSERTI64X4 VPCONFLICTD VPCONFLICTQ",
    "VPMULTISHIFTQB VGF2P8AFFINEQB VGF2P8AFFINEINVQB VCVTNE2PS2BF16",
):
    WHOLE |= {getattr(Mnemonic, name) for name in _names.split()}


class Shape:
    """A memory operand without a broadcast: all its bits, those of a lane, whether it is one lane only; the
    bits that a broadcast reads."""

    __slots__ = ("bits", "broadcast", "lane", "scalar")

    def __init__(self, code: Numbered) -> None:
        described = OpCodeInfo(code)
        info = MemorySizeInfo(described.memory_size)
        self.broadcast = MemorySizeInfo(described.broadcast_memory_size).size * 8
        self.bits = info.size * 8
        self.lane = info.element_size * 8
        self.scalar = not info.is_packed and self.bits <= I64.bits


@cache
def shape(code: Numbered) -> Shape:
    """Of the memory operand that this encoding has, or would have."""
    return Shape(code)


def taken(i: Ins) -> Value:
    """The mask, with all 64 bits of its register."""
    return i.block.get(I64, i.mask)


def first_lanes(i: Ins, count: int) -> Value:
    """The mask of an instruction with so many lanes."""
    return taken(i) if count >= 64 else taken(i) & (1 << count) - 1


# reading -----------------------------------------------------------------------------------------------


def _suppresses(i: Ins) -> bool:
    return i.mask != 0 and i.raw.mnemonic not in WHOLE


def element(i: Ins, n: int, bits: int, count: int) -> Value:
    """One number in memory; it is not accessed, and 0, if the mask takes none of `count` lanes."""
    type = INTEGER_OF_BITS[bits]
    if not _suppresses(i):
        return i.block.load(type, i.memory(n))
    wanted = first_lanes(i, count).ne(0)
    return i.block.emit(f"load.if.{type}", i.block.address(i.memory(n)), wanted, i.const(type, 0))


def load(i: Ins, n: int, bits: int, aligned: bool = False, packed: bool = True) -> Value:
    """Memory operand `n`, of `bits` in all, as a vector with room for it and zeros above."""
    here = shape(i.raw.code)
    type = holding(bits)
    if i.raw.is_broadcast:
        number = element(i, n, here.broadcast, bits // here.broadcast)
        return i.block.emit(f"v.splat.{number.type}.{type}", number)
    if here.scalar or not packed:
        number = element(i, n, bits, 1)
        return i.block.emit(f"v.from.{number.type}.v128", number)
    if not _suppresses(i):
        if bits < V128.bits:
            number = i.block.load(INTEGER_OF_BITS[bits], i.memory(n))
            return i.block.emit(f"v.from.{number.type}.v128", number)
        return i.block.load(type, i.memory(n), aligned)
    where = i.memory(n)
    if aligned:
        i.require_aligned(where, bits // 8)
    lane = GROUPED.get(i.raw.mnemonic, here.lane)
    mask = first_lanes(i, bits // lane)
    return i.block.emit(f"load.mask.k{lane}.{type}", i.block.address(where), mask)


def quiet(i: Ins, value: Value, lane: int, scalar: bool = False) -> Value:
    """A source of floating-point numbers: what the mask leaves out is 0, so that it raises nothing."""
    if not i.mask:
        return value
    mask = taken(i) | ~1 if scalar else taken(i)
    return i.block.emit(f"v.zero.i{lane}.{value.type}", value, mask)


# writing -----------------------------------------------------------------------------------------------


def _counted(i: Ins, lane: int, count: int, bits: int) -> tuple[int, int]:
    """Bits and number of the lanes that the mask counts, in a result of `bits`."""
    here, mnemonic = shape(i.raw.code), i.raw.mnemonic
    if not lane:
        if mnemonic in SCALARS:
            return SCALARS[mnemonic], 1
        if mnemonic in LANES:
            lane = LANES[mnemonic]
        elif here.scalar:
            return here.lane, 1
        else:
            lane = here.lane
    return lane, count or bits // lane


def merged(i: Ins, n: int, value: Value, lane: int = 0, count: int = 0) -> Value:
    """What a vector register becomes when it is written under the mask; above `count` lanes the value's
    own."""
    if not i.mask:
        return value
    assert value.type is not None
    lane, count = _counted(i, lane, count, value.type.bits)
    mask = taken(i)
    if count * lane < value.type.bits:
        mask = mask | -(1 << count)
    if i.zeroing:
        return i.block.emit(f"v.zero.i{lane}.{value.type}", value, mask)
    old = i.block.get(value.type, i.vector(n))
    return i.block.emit(f"v.merge.i{lane}.{value.type}", value, old, mask)


def store(i: Ins, n: int, value: Value, aligned: bool = False, lane: int = 0, count: int = 0) -> None:
    """Memory operand `n` := the lanes of the value that the mask takes, or all of it; `count`: of its lowest
    lanes."""
    assert value.type is not None
    lane, count = _counted(i, lane, count, value.type.bits)
    bits, where = lane * count, i.memory(n)
    if i.mask:
        if aligned:
            i.require_aligned(where, bits // 8)
        mask = first_lanes(i, count)
        i.block.emit(f"store.mask.k{lane}.{value.type}", i.block.address(where), mask, value)
    elif bits < V128.bits:
        i.block.store(where, i.block.emit(f"v.extract.i{bits}.v128", value, imm=0))
    else:
        i.block.store(where, value, aligned)


def to_mask(i: Ins, n: int, value: Value, lane: int, count: int = 0, invert: bool = False) -> None:
    """Mask register `n` := the sign bits of the lanes, or their complements, of those that the mask takes."""
    assert value.type is not None
    count = count or value.type.bits // lane
    kind = {8: "i8", 16: "i16", 32: "f32", 64: "f64"}[lane]
    bits = i.block.emit(f"v.movemask.{kind}.{value.type}", value)
    if invert:
        bits = ~bits
    if i.mask:
        bits = bits & taken(i)
    if count < 64 and (invert or count * lane < value.type.bits):
        bits = bits & (1 << count) - 1
    i.write(n, bits)


def address(i: Ins, index: Value) -> Value:
    """Of a lane of a gather or scatter: base + index * scale + displacement, and the segment's base."""
    raw = i.raw
    offset = index * raw.memory_index_scale if raw.memory_index_scale > 1 else index
    base = i.base()
    if base is not None:
        offset = base + offset
    offset = offset + raw.memory_displacement
    if i.is_narrow():
        offset = offset.trunc(INTEGER_OF_BITS[32]).zext(I64)
    return i.segmented(offset)


def memory_type(i: Ins) -> Type:
    """The vector type that has room for the memory operand without its broadcast."""
    return holding(shape(i.raw.code).bits)


# rounding ----------------------------------------------------------------------------------------------


def begin(i: Ins, mode: int | None) -> Value:
    """Round by `mode`, if given, from here on; what is returned is for `resume`."""
    before = i.block.emit("mxcsr.read")
    if mode is not None:
        i.block.emit("mxcsr.round", imm=mode)
    return before


def keep_denormals(i: Ins) -> None:
    """Denormal results are not flushed from here on."""
    i.block.emit("mxcsr.load", i.block.emit("mxcsr.read") & ~0x8000)


def resume(i: Ins, before: Value, kept: int = 0) -> None:
    """Round as before; of the exceptions since then those in `kept` stay."""
    if kept:
        before = before | i.block.emit("mxcsr.read") & kept
    i.block.emit("mxcsr.load", before)
