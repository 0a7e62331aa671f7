"""Floating point of AVX-512 that no earlier form has: unsigned and 64-bit integers, exponents and
significands, rounding to fractions, ranges, classes, fixing up, approximations.

Scalar instructions are the packed ones on a lane alone: the lanes above are zero, which raises nothing, and
then those of the first source.
"""

from __future__ import annotations

from nexus.ir.ops.vector import LANE_BITS
from nexus.ir.types import I64, INTEGER_OF_BITS
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.sse_float import converted, number
from nexus.isa.x86.semantics.sse_operands import control, full, low, row, write
from nexus.isa.x86.table import Semantics, register

_LETTERS = {"PS": "f32", "PD": "f64", "SS": "f32", "SD": "f64"}
_INTEGERS = {"DQ": "i32", "QQ": "i64", "UDQ": "u32", "UQQ": "u64"}
_SAME = 0b100
"""Of an immediate's rounding: MXCSR's."""

# conversions -------------------------------------------------------------------------------------------

for _float, _kind in (("PS", "f32"), ("PD", "f64")):
    for _name, _integer in _INTEGERS.items():
        if _integer == "i32":
            continue  # in sse_float.py
        _bits, _out = LANE_BITS[_kind], int(_integer[1:])
        register(f"VCVT{_name}2{_float}", converted(f"v.cvt.{_integer}.{_kind}", _out, _bits))
        for _how, _row in (("", "cvt"), ("T", "cvtt")):
            register(f"VCVT{_how}{_float}2{_name}", converted(f"v.{_row}.{_kind}.{_integer}", _bits, _out))


def _to_unsigned(kind: str, how: str) -> Semantics:
    def convert(i: Ins) -> None:
        bits = i.type(0).bits
        i.write(0, i.block.emit(f"v.{how}.{kind}x1.u{bits}", low(i, 1, LANE_BITS[kind])))

    return convert


def _from_unsigned(kind: str) -> Semantics:
    def convert(i: Ins) -> None:
        value = i.read(2)
        assert value.type is not None
        write(i, 0, i.block.emit(f"v.cvt.u{value.type.bits}.{kind}x1", full(i, 1), value))

    return convert


for _float in ("SS", "SD"):
    register(f"VCVT{_float}2USI", _to_unsigned(_LETTERS[_float], "cvt"))
    register(f"VCVTT{_float}2USI", _to_unsigned(_LETTERS[_float], "cvtt"))
    register(f"VCVTUSI2{_float}", _from_unsigned(_LETTERS[_float]))

# lanes by themselves -----------------------------------------------------------------------------------


def is_scalar(i: Ins) -> bool:
    return masking.shape(i.raw.code).scalar


def operand(i: Ins, n: int, kind: str) -> Value:
    """Operand `n`; of a scalar instruction the lowest lane alone."""
    bits = LANE_BITS[kind]
    if not is_scalar(i):
        return number(i, n, kind)
    value = low(i, n, bits)
    mask = masking.taken(i) & 1 if i.mask else i.const(I64, 1)
    return i.block.emit(f"v.zero.i{bits}.v128", value, mask)


def result(i: Ins, kind: str, value: Value) -> None:
    """The first operand := the value, or of a scalar instruction its lowest lane, and the first source's
    others."""
    if is_scalar(i):
        value = i.block.emit(f"v.merge.i{LANE_BITS[kind]}.v128", value, full(i, 1), i.const(I64, 1))
    write(i, 0, value, LANE_BITS[kind], int(is_scalar(i)))


def last(i: Ins) -> int:
    """The number of the last operand that is no immediate: the only source of packed instructions that have
    one."""
    return i.count - 1 - i.is_immediate(i.count - 1)


def _unary(name: str, kind: str, with_immediate: bool) -> Semantics:
    def lanes(i: Ins) -> None:
        imm = control(i) if with_immediate else 0
        source = operand(i, last(i), kind)
        result(i, kind, i.block.emit(row(i, f"v.{name}.{kind}"), source, imm=imm))

    return lanes


def _binary(name: str, kind: str, with_immediate: bool) -> Semantics:
    def lanes(i: Ins) -> None:
        imm = control(i) if with_immediate else 0
        a, b = operand(i, 1, kind), operand(i, 2, kind)
        result(i, kind, i.block.emit(row(i, f"v.{name}.{kind}"), a, b, imm=imm))

    return lanes


def _approximate(name: str, kind: str) -> Semantics:
    """Rounded as the quotient is, without exceptions."""

    def lanes(i: Ins) -> None:
        source = operand(i, last(i), kind)
        before = masking.begin(i, 0)
        value = i.block.emit(row(i, f"v.{name}.{kind}"), source)
        masking.resume(i, before)
        result(i, kind, value)

    return lanes


def rounded(i: Ins, kind: str, source: Value) -> Value:
    """To a multiple of 2**-M, the immediate's upper half, as its lower half says."""
    imm, type = control(i), source.type
    mode = imm & 15
    raised = i.block.emit(f"v.fraction_up.{kind}.{type}", source, imm=imm & 0xF0)
    name = f"v.round{mode & 12 if mode & _SAME else mode}.{kind}.{type}"
    whole = i.block.emit(name, raised)
    return i.block.emit(f"v.fraction_down.{kind}.{type}", source, whole, imm=imm & 0xF0)


def _round(kind: str) -> Semantics:
    def lanes(i: Ins) -> None:
        result(i, kind, rounded(i, kind, operand(i, last(i), kind)))

    return lanes


def _reduce(kind: str) -> Semantics:
    """What rounding takes away; 0 of an infinity. Of the difference, only that it is inexact is told."""

    def lanes(i: Ins) -> None:
        imm, source = control(i), operand(i, last(i), kind)
        whole = rounded(i, kind, source)
        finite = i.block.emit(row(i, f"v.not_infinite.{kind}"), source)
        a, b = (i.block.emit(row(i, "and"), value, finite) for value in (source, whole))
        before = masking.begin(i, None if imm & _SAME else imm & 3)
        masking.keep_denormals(i)
        rest = i.block.emit(row(i, f"v.sub.{kind}"), a, b)
        masking.resume(i, before, 0 if imm & 8 else 32)
        result(i, kind, i.block.emit(row(i, "and"), rest, finite))

    return lanes


def _classify(kind: str) -> Semantics:
    def lanes(i: Ins) -> None:
        source = low(i, 1, LANE_BITS[kind]) if is_scalar(i) else full(i, 1)
        found = i.block.emit(row(i, f"v.fpclass.{kind}"), source, imm=control(i))
        masking.to_mask(i, 0, found, LANE_BITS[kind], int(is_scalar(i)))

    return lanes


_TWO = {32: 0x40000000, 64: 0x4000000000000000}
"""2.0 by the bits of a lane."""


def _fixup(kind: str) -> Semantics:
    """Where the mask leaves a lane out there is a 2 to fix, which raises nothing."""

    def lanes(i: Ins) -> None:
        bits = LANE_BITS[kind]
        old, scalar = full(i, 0), is_scalar(i)
        source = full(i, 1)
        table = low(i, 2, bits) if scalar else full(i, 2)
        if i.mask or scalar:
            two = i.block.emit(row(i, f"v.splat.i{bits}"), i.const(INTEGER_OF_BITS[bits], _TWO[bits]))
            mask = masking.taken(i) if i.mask else i.const(I64, 1)
            wanted = mask & 1 if scalar else mask
            source = i.block.emit(row(i, f"v.merge.i{bits}"), source, two, wanted)
        value = i.block.emit(row(i, f"v.fixup.{kind}"), old, source, table, imm=control(i))
        result(i, kind, value)

    return lanes


for _suffix, _kind in (*_LETTERS.items(), ("PH", "f16"), ("SH", "f16")):
    register("VGETEXP" + _suffix, _unary("getexp", _kind, with_immediate=False))
    register("VGETMANT" + _suffix, _unary("getmant", _kind, with_immediate=True))
    register("VSCALEF" + _suffix, _binary("scalef", _kind, with_immediate=False))
    register("VFPCLASS" + _suffix, _classify(_kind))
for _suffix, _kind in _LETTERS.items():
    register("VRANGE" + _suffix, _binary("range", _kind, with_immediate=True))
    register("VRNDSCALE" + _suffix, _round(_kind))
    register("VREDUCE" + _suffix, _reduce(_kind))
    register("VFIXUPIMM" + _suffix, _fixup(_kind))
    register("VRCP14" + _suffix, _approximate("inverse", _kind))
    register("VRSQRT14" + _suffix, _approximate("inverse_root", _kind))
