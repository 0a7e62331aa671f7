"""Integers of AVX-512 that no earlier form has: logic by lanes, comparisons into masks, rotations, bits, sums
of products. (Forms of SSE and AVX instructions are where those are.)"""

from __future__ import annotations

from nexus.ir.types import I64, INTEGER_OF_BITS
from nexus.ir.values import Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.operands import MASK
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.sse_operands import control, full, row, two, write
from nexus.isa.x86.table import Semantics, register, semantics

_BITS = {"B": 8, "W": 16, "D": 32, "Q": 64}

# mnemonic -> row; first operand = row(second, third)
_BINARY = {
    **{f"V{name}{letter}": name[1:].lower() for name in ("PAND", "POR", "PXOR") for letter in "DQ"},
    "VPANDND": "andn", "VPANDNQ": "andn",
    "VPMINSQ": "v.smin.i64", "VPMAXSQ": "v.smax.i64", "VPMINUQ": "v.umin.i64", "VPMAXUQ": "v.umax.i64",
    "VPMULLQ": "v.mul.i64", "VPMULTISHIFTQB": "v.multishift.i64",
    "VPSLLVW": "v.shlv.i16", "VPSRLVW": "v.shrv.i16", "VPSRAVW": "v.sarv.i16", "VPSRAVQ": "v.sarv.i64",
}  # fmt: skip
_UNARY = {
    "VPABSQ": "v.abs.i64", "VPLZCNTD": "v.lzcnt.i32", "VPLZCNTQ": "v.lzcnt.i64",
    "VPCONFLICTD": "v.conflict.i32", "VPCONFLICTQ": "v.conflict.i64",
    **{f"VPOPCNT{letter}": f"v.popcnt.i{bits}" for letter, bits in _BITS.items()},
}  # fmt: skip
# first operand = row(first, second, third)
_THREE = {
    "VPMADD52LUQ": "v.madd52_low.i64", "VPMADD52HUQ": "v.madd52_high.i64",
    "VPDPBUSD": "v.dot.u8i8", "VPDPBUSDS": "v.dot_sat.u8i8",
    "VPDPWSSD": "v.dot.i16i16", "VPDPWSSDS": "v.dot_sat.i16i16",
}  # fmt: skip


def _binary(operation: str) -> Semantics:
    return lambda i: write(i, 0, i.block.emit(row(i, operation), *two(i)))


def _unary(operation: str) -> Semantics:
    return lambda i: write(i, 0, i.block.emit(row(i, operation), full(i, 1)))


def _three(operation: str) -> Semantics:
    return lambda i: write(i, 0, i.block.emit(row(i, operation), full(i, 0), *two(i)))


for _table, _shape in ((_BINARY, _binary), (_UNARY, _unary), (_THREE, _three)):
    for _name, _row in _table.items():
        register(_name, _shape(_row))


def splat(i: Ins, number: int, bits: int) -> Value:
    """A constant in every lane."""
    type = INTEGER_OF_BITS[bits]
    return i.block.emit(row(i, f"v.splat.{type}"), i.const(type, number))


# logic of three ----------------------------------------------------------------------------------------


def _of_two(i: Ins, table: int, a: Value, b: Value) -> Value:
    """The function of two bits with the truth table (bit 2a + b)."""

    def emit(name: str, *values: Value) -> Value:
        return i.block.emit(f"{name}.{a.type}", *values)

    ones = splat(i, -1, 64)
    match table:
        case 0b0000:
            return splat(i, 0, 64)
        case 0b1111:
            return ones
        case 0b1100:
            return a
        case 0b1010:
            return b
        case 0b1000:
            return emit("and", a, b)
        case 0b1110:
            return emit("or", a, b)
        case 0b0110:
            return emit("xor", a, b)
        case 0b0010:
            return emit("andn", a, b)
        case 0b0100:
            return emit("andn", b, a)
    return emit("xor", _of_two(i, table ^ 15, a, b), ones)


@semantics("VPTERNLOGD", "VPTERNLOGQ")
def vpternlog(i: Ins) -> None:
    """Bit by bit the bit of the immediate that the three operands' bits say."""
    table, a = control(i), full(i, 0)
    b, c = two(i)
    result, differ = _of_two(i, table & 15, b, c), (table & 15) ^ table >> 4
    if differ:
        change = i.block.emit(row(i, "and"), a, _of_two(i, differ, b, c))
        result = i.block.emit(row(i, "xor"), result, change)
    write(i, 0, result)


# comparisons into masks --------------------------------------------------------------------------------


def _compare(bits: int, greater: str) -> Semantics:
    """The eight predicates: EQ LT LE FALSE NE NLT NLE TRUE."""

    def lanes(i: Ins) -> None:
        a, b = two(i)
        predicate = control(i) & 7
        if predicate & 3 == 0:
            found = i.block.emit(row(i, f"v.eq.i{bits}"), a, b)
        elif predicate & 3 == 1:
            found = i.block.emit(row(i, f"{greater}.i{bits}"), b, a)
        elif predicate & 3 == 2:  # not greater
            found = i.block.emit(row(i, f"{greater}.i{bits}"), a, b)
            predicate ^= 4
        else:
            found = splat(i, 0, 64)
        masking.to_mask(i, 0, found, bits, invert=bool(predicate & 4))

    return lanes


def _test(bits: int, zero: bool) -> Semantics:
    """Which lanes have no bit, or some, in both operands."""

    def lanes(i: Ins) -> None:
        both = i.block.emit(row(i, "and"), *two(i))
        none = i.block.emit(row(i, f"v.eq.i{bits}"), both, splat(i, 0, 64))
        masking.to_mask(i, 0, none, bits, invert=not zero)

    return lanes


def _blend(bits: int) -> Semantics:
    """The mask does not keep what was there, but what the second operand has."""

    def lanes(i: Ins) -> None:
        a, b = two(i)
        if i.mask and i.zeroing:
            b = i.block.emit(row(i, f"v.zero.i{bits}"), b, masking.taken(i))
        elif i.mask:
            b = i.block.emit(row(i, f"v.merge.i{bits}"), b, a, masking.taken(i))
        i.write(0, b)

    return lanes


def _from_mask(bits: int) -> Semantics:
    def lanes(i: Ins) -> None:
        mask = i.block.get(I64, MASK[i.raw.op1_register])
        i.write(0, i.block.emit(row(i, f"v.zero.i{bits}"), splat(i, -1, 64), mask))

    return lanes


def _signs(bits: int) -> Semantics:
    return lambda i: masking.to_mask(i, 0, full(i, 1), bits)


for _letter, _bits in _BITS.items():
    register("VPCMP" + _letter, _compare(_bits, "v.sgt"))
    register("VPCMPU" + _letter, _compare(_bits, "v.ugt"))
    register("VPTESTM" + _letter, _test(_bits, zero=False))
    register("VPTESTNM" + _letter, _test(_bits, zero=True))
    register("VPBLENDM" + _letter, _blend(_bits))
    register("VPMOVM2" + _letter, _from_mask(_bits))
    register(f"VPMOV{_letter}2M", _signs(_bits))
register("VBLENDMPS", _blend(32))
register("VBLENDMPD", _blend(64))


@semantics("VPSHUFBITQMB")
def vpshufbitqmb(i: Ins) -> None:
    """For each byte of the second operand, that bit of the first one's 64-bit lane."""
    a, b = two(i)
    taken = i.block.emit(row(i, "v.multishift.i64"), b, a)
    lowest = i.block.emit(row(i, "and"), taken, splat(i, 1, 8))
    none = i.block.emit(row(i, "v.eq.i8"), lowest, splat(i, 0, 64))
    masking.to_mask(i, 0, none, 8, invert=True)


def _intersect(bits: int) -> Semantics:
    """Two masks, of an even register and the next one: which lanes of each are somewhere in the other."""

    def lanes(i: Ins) -> None:
        a, b = two(i)
        first = r.K0 + ((MASK[i.raw.op0_register] - r.K0) & ~1)
        for slot, values in ((first, (a, b)), (first + 1, (b, a))):
            found = i.block.emit(row(i, f"v.found.i{bits}"), *values)
            kind = "f32" if bits == 32 else "f64"
            i.block.put(slot, i.block.emit(row(i, f"v.movemask.{kind}"), found))

    return lanes


register("VP2INTERSECTD", _intersect(32))
register("VP2INTERSECTQ", _intersect(64))


def _broadcast_mask(source: int, bits: int) -> Semantics:
    def lanes(i: Ins) -> None:
        type = INTEGER_OF_BITS[bits]
        number = i.read(1, INTEGER_OF_BITS[source]).zext(type)
        i.write(0, i.block.emit(row(i, f"v.splat.{type}"), number))

    return lanes


register("VPBROADCASTMB2Q", _broadcast_mask(8, 64))
register("VPBROADCASTMW2D", _broadcast_mask(16, 32))

# shifts of pairs ---------------------------------------------------------------------------------------


def _rotate(bits: int, name: str) -> Semantics:
    def lanes(i: Ins) -> None:
        value = full(i, 1)
        counts = splat(i, control(i), bits) if i.is_immediate(2) else full(i, 2)
        write(i, 0, i.block.emit(row(i, f"v.{name}.i{bits}"), value, value, counts))

    return lanes


def _double(bits: int, name: str) -> Semantics:
    """By an immediate: the second and the third operand; by a vector of counts: the first and the second."""

    def lanes(i: Ins) -> None:
        if i.is_immediate(i.count - 1):
            (one, other), counts = two(i), splat(i, control(i), bits)
        else:
            one, other, counts = full(i, 0), full(i, 1), full(i, 2)
        if name == "fshr":
            one, other = other, one
        write(i, 0, i.block.emit(row(i, f"v.{name}.i{bits}"), one, other, counts))

    return lanes


for _direction, _row in (("L", "fshl"), ("R", "fshr")):
    for _letter, _bits in _BITS.items():
        if _bits > 8:
            register(f"VPSH{_direction}D{_letter}", _double(_bits, _row))
            register(f"VPSH{_direction}DV{_letter}", _double(_bits, _row))
        if _bits > 16:
            register(f"VPRO{_direction}{_letter}", _rotate(_bits, _row))
            register(f"VPRO{_direction}V{_letter}", _rotate(_bits, _row))


@semantics("VDBPSADBW")
def vdbpsadbw(i: Ins) -> None:
    a, b = two(i)
    shuffled = i.block.emit(row(i, "v.permute.i32"), b, imm=control(i))
    write(i, 0, i.block.emit(row(i, "v.dbsad.i8"), a, shuffled))
