"""Floating point of SSE and AVX: arithmetic, conversion, rounding, and the MXCSR register. Comparisons are in
`float_compare.py`."""

from __future__ import annotations

from nexus.ir.types import I32, I64, INTEGER_OF_BITS, V128
from nexus.ir.values import Value
from nexus.isa.x86 import helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import GENERAL_PROTECTION, Exit, Ins
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
from nexus.isa.x86.table import register, register_vectors, semantics, vector_semantics

_FORMS = (("PS", "f32", 128), ("PD", "f64", 128), ("SS", "f32x1", 32), ("SD", "f64x1", 64))


def second(i: Ins, bits: int) -> Value:
    """The second source, of which `bits` count: 128 stand for all."""
    n = first(i) + 1
    return low(i, n, bits) if bits < 128 else full(i, n)


def sources(i: Ins, bits: int) -> tuple[Value, Value]:
    """Both sources; `bits` is how much of the second one counts."""
    return full(i, first(i)), second(i, bits)


def _both(name: str, operation: str, bits: int) -> None:
    """first = operation(first, second)."""

    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), *sources(i, bits)))

    register_vectors(name, lanes)


def _one(name: str, operation: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), full(i, 1)))

    register_vectors(name, lanes)


for _suffix, _kind, _bits in _FORMS:
    for _name in ("ADD", "SUB", "MUL", "DIV", "MIN", "MAX"):
        _both(_name + _suffix, f"v.{_name.lower()}.{_kind}", _bits)
    if _bits == 128:
        _one("SQRT" + _suffix, f"v.sqrt.{_kind}")
        for _name in ("HADD", "HSUB", "ADDSUB"):
            _both(_name + _suffix, f"v.{_name.lower()}.{_kind}", 128)
    else:
        _both("SQRT" + _suffix, f"v.sqrt.{_kind}", _bits)
for _name in ("RCP", "RSQRT"):
    _one(_name + "PS", f"v.{_name.lower()}.f32")
    _both(_name + "SS", f"v.{_name.lower()}.f32x1", 32)


def _round(name: str, kind: str, bits: int) -> None:
    def lanes(i: Ins) -> None:
        mode = control(i) & 15
        operation = row(i, f"v.round{mode & 12 if mode & 4 else mode}.{kind}")
        if bits == 128:
            write(i, 0, i.block.emit(operation, full(i, 1)))
        else:
            write(i, 0, i.block.emit(operation, *sources(i, bits)))

    register_vectors(name, lanes)


def _dot(name: str, kind: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, f"v.dot.{kind}"), *two(i), imm=control(i)))

    register_vectors(name, lanes)


for _suffix, _kind, _bits in _FORMS:
    _round("ROUND" + _suffix, _kind, _bits)
_dot("DPPS", "f32")
_dot("DPPD", "f64")


def _ordered(name: str, operation: str, bits: int) -> None:
    def compare(i: Ins) -> None:
        i.block.emit(operation, full(i, 0), low(i, 1, bits))

    register_vectors(name, compare)


for _name in ("COMI", "UCOMI"):
    _ordered(_name + "SS", f"flags.{_name.lower()}.f32", 32)
    _ordered(_name + "SD", f"flags.{_name.lower()}.f64", 64)

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

    def _convert(i: Ins, operation: str = f"v.{_operation}", widens: bool = _from < _to) -> None:
        value = low(i, 1, width(i).bits // 2) if widens else full(i, 1)
        write(i, 0, i.block.emit(row(i, operation), value))

    register_vectors(_name, _convert)

_both("CVTSS2SD", "v.cvt.f32x1.f64x1", 32)
_both("CVTSD2SS", "v.cvt.f64x1.f32x1", 64)


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
