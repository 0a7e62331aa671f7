"""Moving lanes as AVX-512 does: 128-bit and 256-bit parts, permutations of whole vectors, narrowing,
packing."""

from __future__ import annotations

from nexus.ir.ops.vector import holding
from nexus.ir.types import INTEGER_OF_BITS
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.sse_operands import (
    control,
    full,
    lane,
    low,
    parts,
    row,
    two,
    whole,
    width,
    write,
)
from nexus.isa.x86.table import Semantics, register

_BITS = {"B": 8, "W": 16, "D": 32, "Q": 64}

# parts -------------------------------------------------------------------------------------------------


def _extract(bits: int, size: int) -> Semantics:
    """One part of so many bits, as the immediate says."""

    def move(i: Ins) -> None:
        pieces, per = parts(full(i, 1)), size // 128
        at = control(i) % (len(pieces) // per) * per
        part = whole(pieces[at : at + per])
        if i.is_memory(0):
            for byte in range(0, size // 8, 8) if i.mask else ():  # all of it may fault, whatever the mask
                i.block.load(INTEGER_OF_BITS[64], i.memory(0).plus(byte), modify=True)
            masking.store(i, 0, part, lane=bits)
        else:
            write(i, 0, part, bits)

    return move


def _insert(bits: int, size: int) -> Semantics:
    def move(i: Ins) -> None:
        pieces, per = parts(full(i, 1)), size // 128
        at = control(i) % (len(pieces) // per) * per
        pieces[at : at + per] = parts(full(i, 2))
        write(i, 0, whole(pieces), bits)

    return move


def _repeat(bits: int, size: int) -> Semantics:
    """64, 128 or 256 bits over and over."""

    def move(i: Ins) -> None:
        source = _part(i, bits, size)
        if size == 64:
            value = i.block.emit(row(i, "v.splat.i64"), lane(source, 64))
        else:
            value = whole(parts(source) * (width(i).bits // size))
        write(i, 0, value, bits)

    return move


def _part(i: Ins, bits: int, size: int) -> Value:
    """What is repeated; of memory the lanes that the mask takes in any repetition."""
    if not i.is_memory(1) or not i.mask:
        return low(i, 1, size)
    lanes = width(i).bits // bits
    mask, step = masking.first_lanes(i, lanes), size // bits
    while step < lanes:
        mask, step = mask | mask >> step, 2 * step
    where = i.block.address(i.memory(1))
    return i.block.emit(f"load.mask.k{bits}.{holding(size)}", where, mask & (1 << size // bits) - 1)


for _letter in "FI":
    for _bits, _count in ((32, 4), (64, 2), (32, 8), (64, 4)):
        _name = f"{_letter}{_bits}X{_count}"
        register("VEXTRACT" + _name, _extract(_bits, _bits * _count))
        register("VINSERT" + _name, _insert(_bits, _bits * _count))
        register("VBROADCAST" + _name, _repeat(_bits, _bits * _count))
    register(f"VBROADCAST{_letter}32X2", _repeat(32, 64))


def _shuffle_parts(i: Ins) -> None:
    """The lower half of the result: parts of the second operand; the upper half: of the third."""
    one, other = (parts(value) for value in two(i))
    count, imm = len(one), control(i)
    step = 1 if count == 2 else 2
    chosen = [(one if n < count // 2 else other)[imm >> n * step & count - 1] for n in range(count)]
    write(i, 0, whole(chosen))


for _name in ("F32X4", "F64X2", "I32X4", "I64X2"):
    register("VSHUF" + _name, _shuffle_parts)

# permutations ------------------------------------------------------------------------------------------


def _permute(bits: int) -> Semantics:
    def lanes(i: Ins) -> None:
        order, value = two(i)
        write(i, 0, i.block.emit(row(i, f"v.permute_all.i{bits}"), value, order))

    return lanes


def _permute_two(bits: int, order_first: bool) -> Semantics:
    """VPERMI2 overwrites the order, VPERMT2 the first table."""

    def lanes(i: Ins) -> None:
        one, other, table = full(i, 0), full(i, 1), full(i, 2)
        tables = (other, table, one) if order_first else (one, table, other)
        write(i, 0, i.block.emit(row(i, f"v.permute_two.i{bits}"), *tables))

    return lanes


register("VPERMB", _permute(8))
register("VPERMW", _permute(16))
for _letter, _bits in (*_BITS.items(), ("PS", 32), ("PD", 64)):
    register("VPERMI2" + _letter, _permute_two(_bits, order_first=True))
    register("VPERMT2" + _letter, _permute_two(_bits, order_first=False))


def _align(bits: int) -> Semantics:
    return lambda i: write(i, 0, i.block.emit(row(i, f"v.align_all.i{bits}"), *two(i), imm=control(i)))


register("VALIGND", _align(32))
register("VALIGNQ", _align(64))

# narrower lanes ----------------------------------------------------------------------------------------


def _narrow(wide: int, small: int, how: str) -> Semantics:
    def lanes(i: Ins) -> None:
        count = width(i).bits // wide
        value = i.block.emit(row(i, f"v.{how}.i{wide}.i{small}"), full(i, 1))
        if i.is_memory(0):
            masking.store(i, 0, value, lane=small, count=count)
        else:
            write(i, 0, value, small, count)

    return lanes


for _pair in ("WB", "DB", "DW", "QB", "QW", "QD"):
    for _letter, _how in (("", "narrow"), ("S", "narrow_s"), ("US", "narrow_u")):
        register(f"VPMOV{_letter}{_pair}", _narrow(_BITS[_pair[0]], _BITS[_pair[1]], _how))

# packing -----------------------------------------------------------------------------------------------


def _mask_of(i: Ins, count: int) -> Value:
    return masking.first_lanes(i, count) if i.mask else i.const(INTEGER_OF_BITS[64], (1 << count) - 1)


def _compress(bits: int) -> Semantics:
    """The lanes that the mask takes, one behind the other; memory gets no more than these."""

    def lanes(i: Ins) -> None:
        value = full(i, 1)
        assert value.type is not None
        if not i.mask:
            _plain(i, value)
            return
        mask = _mask_of(i, value.type.bits // bits)
        packed = i.block.emit(f"v.compress.i{bits}.{value.type}", value, mask)
        there = i.block.emit("k.first", mask)
        if i.is_memory(0):
            where = i.block.address(i.memory(0))
            i.block.emit(f"store.mask.k{bits}.{value.type}", where, there, packed)
            return
        if not i.zeroing:
            old = i.block.get(value.type, i.vector(0))
            packed = i.block.emit(f"v.merge.i{bits}.{value.type}", packed, old, there)
        i.write(0, packed)

    return lanes


def _plain(i: Ins, value: Value) -> None:
    if i.is_memory(0):
        i.block.store(i.memory(0), value)
    else:
        i.write(0, value)


def _expand(bits: int) -> Semantics:
    """The other way round: from memory only as many lanes as the mask has."""

    def lanes(i: Ins) -> None:
        if not i.mask:
            _plain(i, full(i, 1))
            return
        type = width(i)
        mask = _mask_of(i, type.bits // bits)
        if i.is_memory(1):
            where = i.block.address(i.memory(1))
            source = i.block.emit(f"load.mask.k{bits}.{type}", where, i.block.emit("k.first", mask))
        else:
            source = full(i, 1)
        write(i, 0, i.block.emit(f"v.expand.i{bits}.{type}", source, mask), bits)

    return lanes


for _letter, _bits in _BITS.items():
    register("VPCOMPRESS" + _letter, _compress(_bits))
    register("VPEXPAND" + _letter, _expand(_bits))
for _letter, _bits in (("PS", 32), ("PD", 64)):
    register("VCOMPRESS" + _letter, _compress(_bits))
    register("VEXPAND" + _letter, _expand(_bits))
