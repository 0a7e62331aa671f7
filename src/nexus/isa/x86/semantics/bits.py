"""Bits: test, scan, count, BMI1 and BMI2, CRC-32C."""

from __future__ import annotations

from nexus.ir.types import I16, I32, I64, Type
from nexus.ir.values import Address, Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.table import register, semantics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# bt, bts, btr, btc ---------------------------------------------------------------------------------------


def _bit_string(i: Ins, index: Value, type: Type) -> Address:
    """The operand-sized element that holds bit `index` (signed) of the bit string at the memory operand."""
    shift = {I16: 4, I32: 5, I64: 6}[type]
    element = i.offset() + index.sext(I64).sar(shift) * (type.bits // 8)
    return Address(i.segmented(element.trunc(I32).zext(I64) if i.is_narrow() else element))


def _bit_operation(kind: str) -> Callable[[Ins], None]:
    """CF := the bit; then it is set ("or"), cleared ("and"), flipped ("xor") or left alone ("")."""

    def operate(i: Ins) -> None:
        type = i.type(0)
        if i.is_immediate(1):
            number = i.const(type, i.immediate(1) & (type.bits - 1))
            where = i.memory(0) if i.is_memory(0) else None
        else:
            index = i.read(1)
            number = index & (type.bits - 1)
            where = _bit_string(i, index, type) if i.is_memory(0) else None
        bit = i.const(type, 1) << number
        operand = ~bit if kind == "and" else bit
        if kind and i.raw.has_lock_prefix:
            assert where is not None
            flat = i.block.address(where)
            old = i.block.emit(f"atomic.{kind}.{type}", flat, operand)
        else:
            old = i.block.load(type, where, modify=bool(kind)) if where is not None else i.read(0)
            if kind:
                new = old & operand if kind == "and" else old | operand if kind == "or" else old ^ operand
                if where is not None:
                    i.block.store(where, new)
                else:
                    i.write(0, new)
        i.set_flag(r.CF, (old & bit).ne(0))

    return operate


for _name, _kind in (("BT", ""), ("BTS", "or"), ("BTR", "and"), ("BTC", "xor")):
    register(_name, _bit_operation(_kind))


# scanning and counting -----------------------------------------------------------------------------------


def _scan(i: Ins, found: Value, source: Value) -> None:
    """A source of 0 sets ZF and leaves the whole destination register alone, as all processors do."""
    empty = source.eq(0)
    old = i.get(i.general(0))
    if source.type is I16:
        old_low = i.get(i.general(0), I16)
        i.write(0, empty.select(old_low, found))
    else:
        i.block.put(i.general(0), empty.select(old, found.zext(I64)))
    i.set_zero_flag(empty)


@semantics("BSF")
def bsf(i: Ins) -> None:
    source = i.read(1)
    _scan(i, i.block.emit(f"cttz.{source.type}", source), source)


@semantics("BSR")
def bsr(i: Ins) -> None:
    source = i.read(1)
    assert source.type is not None
    _scan(i, i.const(source.type, source.type.bits - 1) - i.block.emit(f"ctlz.{source.type}", source), source)


def _count_zeros(i: Ins, row: str) -> None:
    """CF: the source is 0; ZF: the result is 0; OF, SF, PF, AF (undefined) stay."""
    source = i.read(1)
    result = i.block.emit(f"{row}.{source.type}", source)
    i.write(0, result)
    i.set_flag(r.CF, source.eq(0))
    i.set_zero_flag(result.eq(0))


@semantics("TZCNT")
def tzcnt(i: Ins) -> None:
    _count_zeros(i, "cttz")


@semantics("LZCNT")
def lzcnt(i: Ins) -> None:
    _count_zeros(i, "ctlz")


@semantics("POPCNT")
def popcnt(i: Ins) -> None:
    """ZF says whether the source is 0; the other flags are cleared."""
    source = i.read(1)
    result = i.block.emit(f"ctpop.{source.type}", source)
    i.write(0, result)
    i.flags("count", result)


# BMI1, BMI2 ------------------------------------------------------------------------------------------------


@semantics("ANDN")
def andn(i: Ins) -> None:
    result = ~i.read(1) & i.read(2)
    i.write(0, result)
    i.flags("logic", result)


def _lowest(name: str, compute: Callable[[Value], Value], carry_if_zero: bool) -> None:
    def lower(i: Ins) -> None:
        source = i.read(1)
        result = compute(source)
        i.write(0, result)
        i.flags("logic", result)
        i.set_flag(r.CF, source.eq(0) if carry_if_zero else source.ne(0))

    register(name, lower)


_lowest("BLSI", lambda a: a & -a, carry_if_zero=False)
_lowest("BLSR", lambda a: a & (a - 1), carry_if_zero=True)
_lowest("BLSMSK", lambda a: a ^ (a - 1), carry_if_zero=True)


@semantics("BEXTR")
def bextr(i: Ins) -> None:
    """Start in bits 0..7 of operand 2, length in 8..15."""
    source, control = i.read(1), i.read(2)
    type = i.type(0)
    length = control >> 8 & 255
    mask = (i.const(type, 1) << length) - 1
    result = (source >> (control & 255)) & mask
    i.write(0, result)
    i.flags("logic", result)


@semantics("BZHI")
def bzhi(i: Ins) -> None:
    """Clear the bits from the index (low byte of operand 2) on; CF says that the index is beyond the
    width."""
    source, type = i.read(1), i.type(0)
    index = i.read(2) & 255
    result = source & ((i.const(type, 1) << index) - 1)
    i.write(0, result)
    i.flags("logic", result)
    i.set_flag(r.CF, i.const(type, type.bits - 1).ult(index))


@semantics("PDEP")
def pdep(i: Ins) -> None:
    source, mask = i.read(1), i.read(2)
    i.write(0, i.block.emit(f"pdep.{source.type}", source, mask))


@semantics("PEXT")
def pext(i: Ins) -> None:
    source, mask = i.read(1), i.read(2)
    i.write(0, i.block.emit(f"pext.{source.type}", source, mask))


@semantics("CRC32")
def crc32(i: Ins) -> None:
    """CRC-32C; a 64-bit destination gets zeros above."""
    data = i.read(1)
    result = i.block.emit(f"crc32c.{data.type}", i.get(i.general(0), I32), data)
    i.block.put(i.general(0), result)
