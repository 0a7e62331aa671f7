"""Floating point of SSE and AVX: arithmetic, conversion, rounding, and the MXCSR register. Comparisons are in
`float_compare.py`."""

from __future__ import annotations

from nexus.ir.ops.vector import LANE_BITS
from nexus.ir.types import I32, I64, INTEGER_OF_BITS, V128
from nexus.ir.values import Value
from nexus.isa.x86 import helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import GENERAL_PROTECTION, Exit, Ins
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.sse_operands import (
    control,
    enter_mmx,
    first,
    full,
    lane,
    low,
    row,
    two,
    widen,
    width,
    write,
)
from nexus.isa.x86.table import Semantics, register, register_vectors, semantics, vector_semantics

_FORMS = (("PS", "f32"), ("PD", "f64"), ("SS", "f32x1"), ("SD", "f64x1"))
_ONES = {32: 0x3F800000, 64: 0x3FF0000000000000}
"""1.0 by the bits of a lane."""


def number(i: Ins, n: int, kind: str) -> Value:
    """Operand `n` as a source of floating-point numbers: of lanes "f32" or "f64", or only the lowest one
    ("f32x1", "f64x1")."""
    bits, scalar = LANE_BITS[kind.partition("x")[0]], kind.endswith("x1")
    value = low(i, n, bits) if scalar else full(i, n)
    return masking.quiet(i, value, bits, scalar)


def sources(i: Ins, kind: str) -> tuple[Value, Value]:
    """Both sources; of scalar instructions all of the first one counts."""
    n, bits = first(i), LANE_BITS[kind.partition("x")[0]]
    one = masking.quiet(i, full(i, n), bits, kind.endswith("x1"))
    return one, number(i, n + 1, kind)


def _both(name: str, operation: str, kind: str) -> None:
    """first = operation(first, second)."""

    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), *sources(i, kind)))

    register_vectors(name, lanes)


def _quotient(name: str, kind: str) -> None:
    """Where the mask leaves a lane out, 0 is divided by 1."""
    bits = LANE_BITS[kind.partition("x")[0]]

    def lanes(i: Ins) -> None:
        a, b = sources(i, kind)
        if i.mask:
            one = i.block.emit(f"v.splat.i{bits}.{b.type}", i.const(INTEGER_OF_BITS[bits], _ONES[bits]))
            b = i.block.emit(f"v.merge.i{bits}.{b.type}", b, one, masking.taken(i))
        write(i, 0, i.block.emit(row(i, f"v.div.{kind}"), a, b))

    register_vectors(name, lanes)


def _one(name: str, operation: str, kind: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), number(i, 1, kind)))

    register_vectors(name, lanes)


for _suffix, _kind in _FORMS:
    for _name in ("ADD", "SUB", "MUL", "MIN", "MAX"):
        _both(_name + _suffix, f"v.{_name.lower()}.{_kind}", _kind)
    _quotient("DIV" + _suffix, _kind)
    if not _kind.endswith("x1"):
        _one("SQRT" + _suffix, f"v.sqrt.{_kind}", _kind)
        for _name in ("HADD", "HSUB", "ADDSUB"):
            _both(_name + _suffix, f"v.{_name.lower()}.{_kind}", _kind)
    else:
        _both("SQRT" + _suffix, f"v.sqrt.{_kind}", _kind)
for _name in ("RCP", "RSQRT"):
    _one(_name + "PS", f"v.{_name.lower()}.f32", "f32")
    _both(_name + "SS", f"v.{_name.lower()}.f32x1", "f32x1")


def _round(name: str, kind: str) -> None:
    def lanes(i: Ins) -> None:
        mode = control(i) & 15
        operation = row(i, f"v.round{mode & 12 if mode & 4 else mode}.{kind}")
        if kind.endswith("x1"):
            write(i, 0, i.block.emit(operation, *sources(i, kind)))
        else:
            write(i, 0, i.block.emit(operation, full(i, 1)))

    register_vectors(name, lanes)


def _dot(name: str, kind: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, f"v.dot.{kind}"), *two(i), imm=control(i)))

    register_vectors(name, lanes)


for _suffix, _kind in _FORMS:
    _round("ROUND" + _suffix, _kind)
_dot("DPPS", "f32")
_dot("DPPD", "f64")


def _ordered(name: str, operation: str, bits: int) -> None:
    def compare(i: Ins) -> None:
        i.block.emit(operation, full(i, 0), low(i, 1, bits))

    register_vectors(name, compare)


for _name in ("COMI", "UCOMI"):
    _ordered(_name + "SS", f"flags.{_name.lower()}.f32", 32)
    _ordered(_name + "SD", f"flags.{_name.lower()}.f64", 64)


def converted(operation: str, source: int, target: int) -> Semantics:
    """A packed conversion between lanes of these bits."""

    def lanes(i: Ins) -> None:
        whole, wider = width(i).bits, max(source, target)
        value = low(i, 1, whole * source // wider) if source < target else full(i, 1)
        value = masking.quiet(i, value, source)
        write(i, 0, i.block.emit(row(i, operation), value), target, whole // wider)

    return lanes


# conversions: packed ones by the widths of their lanes
for _name, _operation, _from, _to in (
    ("CVTDQ2PS", "cvt.i32.f32", 32, 32),
    ("CVTPS2DQ", "cvt.f32.i32", 32, 32),
    ("CVTTPS2DQ", "cvtt.f32.i32", 32, 32),
    ("CVTPD2DQ", "cvt.f64.i32", 64, 32),
    ("CVTTPD2DQ", "cvtt.f64.i32", 64, 32),
    ("CVTDQ2PD", "cvt.i32.f64", 32, 64),
    ("CVTPS2PD", "cvt.f32.f64", 32, 64),
    ("CVTPD2PS", "cvt.f64.f32", 64, 32),
):
    register_vectors(_name, converted(f"v.{_operation}", _from, _to))

_both("CVTSS2SD", "v.cvt.f32x1.f64x1", "f32x1")
_both("CVTSD2SS", "v.cvt.f64x1.f32x1", "f64x1")


def _to_integer(name: str, operation: str, kind: str, bits: int) -> None:
    def convert(i: Ins) -> None:
        i.write(0, i.block.emit(f"v.{operation}.{kind}.{i.type(0)}", low(i, 1, bits)))

    register_vectors(name, convert)


def _from_integer(name: str, kind: str) -> None:
    def convert(i: Ins) -> None:
        n = first(i)
        value = i.read(n + 1)
        write(i, 0, i.block.emit(f"v.cvt.{value.type}.{kind}", full(i, n), value))

    register_vectors(name, convert)


for _letter, _kind, _bits in (("SS", "f32x1", 32), ("SD", "f64x1", 64)):
    _to_integer(f"CVT{_letter}2SI", "cvt", _kind, _bits)
    _to_integer(f"CVTT{_letter}2SI", "cvtt", _kind, _bits)
    _from_integer(f"CVTSI2{_letter}", _kind)


def _to_mmx(name: str, operation: str, bits: int) -> None:
    """Two integers into an MMX register; lanes that are not converted are zero, so that they raise
    nothing."""

    def convert(i: Ins) -> None:
        if bits == 64:
            source = widen(lane(low(i, 1, 64), 64))
        else:
            source = i.block.load(V128, i.memory(1), aligned=True) if i.is_memory(1) else full(i, 1)
        write(i, 0, i.block.emit(operation, source))

    register(name, convert)


_to_mmx("CVTPS2PI", "v.cvt.f32.i32.v128", 64)
_to_mmx("CVTTPS2PI", "v.cvtt.f32.i32.v128", 64)
_to_mmx("CVTPD2PI", "v.cvt.f64.i32.v128", 128)
_to_mmx("CVTTPD2PI", "v.cvtt.f64.i32.v128", 128)


@semantics("CVTPI2PS")
def cvtpi2ps(i: Ins) -> None:
    """Two integers into the low half; the MMX form leaves MMX mode as it is when the source is memory."""
    converted = i.block.emit("v.cvt.i32.f32.v128", low(i, 1, 64))
    write(i, 0, i.block.emit("v.blend.i64.v128", full(i, 0), converted, imm=1))
    enter_mmx(i)


@semantics("CVTPI2PD")
def cvtpi2pd(i: Ins) -> None:
    converted = i.block.emit("v.cvt.i32.f64.v128", low(i, 1, 64))
    write(i, 0, converted)
    enter_mmx(i)


# the control register ----------------------------------------------------------------------------------


@vector_semantics("LDMXCSR")
def ldmxcsr(i: Ins) -> None:
    """Reserved bits are #GP. Leaves the engine, since exceptions may be unmasked now."""
    value = i.read(0, I32)
    i.block.trap_if((value & (I32.mask & ~r.MXCSR_MASK)).ne(0), Exit.PRIVILEGED, GENERAL_PROTECTION)
    i.block.emit("mxcsr.load", value.zext(I64))
    i.helper(helpers.MXCSR_LOADED)


@vector_semantics("STMXCSR")
def stmxcsr(i: Ins) -> None:
    i.write(0, i.block.emit("mxcsr.read").trunc(INTEGER_OF_BITS[32]))
