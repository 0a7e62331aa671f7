"""SSE floating point: arithmetic, comparison, conversion, rounding, and the MXCSR register."""

from __future__ import annotations

from iced_x86 import Mnemonic

from nexus.ir.ops.float_arithmetic import PREDICATES
from nexus.ir.types import I32, I64, INTEGER_OF_BITS, V128
from nexus.isa.x86 import helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import GENERAL_PROTECTION, Exit, Ins
from nexus.isa.x86.semantics.sse_operands import control, enter_mmx, full, lane, low, widen, write
from nexus.isa.x86.table import SEMANTICS, register, semantics

_FORMS = (("PS", "f32", 128), ("PD", "f64", 128), ("SS", "f32x1", 32), ("SD", "f64x1", 64))


def _both(name: str, row: str, bits: int) -> None:
    """first = row(first, second); `bits` is how much of the second operand counts."""

    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row, full(i, 0), low(i, 1, bits) if bits < 128 else full(i, 1)))

    register(name, lanes)


def _one(name: str, row: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row, full(i, 1)))

    register(name, lanes)


for _suffix, _kind, _bits in _FORMS:
    for _name in ("ADD", "SUB", "MUL", "DIV", "MIN", "MAX"):
        _both(_name + _suffix, f"v.{_name.lower()}.{_kind}.v128", _bits)
    if _bits == 128:
        _one("SQRT" + _suffix, f"v.sqrt.{_kind}.v128")
        for _name in ("HADD", "HSUB", "ADDSUB"):
            _both(_name + _suffix, f"v.{_name.lower()}.{_kind}.v128", 128)
    else:
        _both("SQRT" + _suffix, f"v.sqrt.{_kind}.v128", _bits)
for _name in ("RCP", "RSQRT"):
    _one(_name + "PS", f"v.{_name.lower()}.f32.v128")
    _both(_name + "SS", f"v.{_name.lower()}.f32x1.v128", 32)


def _compare(name: str, kind: str, bits: int) -> None:
    def lanes(i: Ins) -> None:
        second = low(i, 1, bits) if bits < 128 else full(i, 1)
        write(i, 0, i.block.emit(f"v.cmp_{PREDICATES[control(i) & 7]}.{kind}.v128", full(i, 0), second))

    register(name, lanes)


def _round(name: str, kind: str, bits: int) -> None:
    def lanes(i: Ins) -> None:
        mode = control(i) & 15
        row = f"v.round{mode & 12 if mode & 4 else mode}.{kind}.v128"
        if bits == 128:
            write(i, 0, i.block.emit(row, full(i, 1)))
        else:
            write(i, 0, i.block.emit(row, full(i, 0), low(i, 1, bits)))

    register(name, lanes)


def _dot(name: str, kind: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(f"v.dot.{kind}.v128", full(i, 0), full(i, 1), imm=control(i)))

    register(name, lanes)


for _suffix, _kind, _bits in _FORMS:
    _round("ROUND" + _suffix, _kind, _bits)
    if _suffix != "SD":
        _compare("CMP" + _suffix, _kind, _bits)
_dot("DPPS", "f32")
_dot("DPPD", "f64")


def cmpsd(i: Ins) -> None:
    """Registered in `shared_names.py`."""
    row = f"v.cmp_{PREDICATES[control(i) & 7]}.f64x1.v128"
    write(i, 0, i.block.emit(row, full(i, 0), low(i, 1, 64)))


def _ordered(name: str, row: str, bits: int) -> None:
    def compare(i: Ins) -> None:
        i.block.emit(row, full(i, 0), low(i, 1, bits))

    register(name, compare)


for _name in ("COMI", "UCOMI"):
    _ordered(_name + "SS", f"flags.{_name.lower()}.f32", 32)
    _ordered(_name + "SD", f"flags.{_name.lower()}.f64", 64)

# conversions: packed ones by how many bits of the source count
for _name, _row, _bits in (
    ("CVTDQ2PS", "cvt.i32.f32", 128),
    ("CVTPS2DQ", "cvt.f32.i32", 128),
    ("CVTTPS2DQ", "cvtt.f32.i32", 128),
    ("CVTPD2DQ", "cvt.f64.i32", 128),
    ("CVTTPD2DQ", "cvtt.f64.i32", 128),
    ("CVTDQ2PD", "cvt.i32.f64", 64),
    ("CVTPS2PD", "cvt.f32.f64", 64),
    ("CVTPD2PS", "cvt.f64.f32", 128),
):

    def _convert(i: Ins, row: str = f"v.{_row}.v128", bits: int = _bits) -> None:
        write(i, 0, i.block.emit(row, low(i, 1, bits) if bits < 128 else full(i, 1)))

    register(_name, _convert)

_both("CVTSS2SD", "v.cvt.f32x1.f64x1", 32)
_both("CVTSD2SS", "v.cvt.f64x1.f32x1", 64)


def _to_integer(name: str, operation: str, kind: str, bits: int) -> None:
    def convert(i: Ins) -> None:
        i.write(0, i.block.emit(f"v.{operation}.{kind}.{i.type(0)}", low(i, 1, bits)))

    register(name, convert)


def _from_integer(name: str, kind: str) -> None:
    def convert(i: Ins) -> None:
        value = i.read(1)
        write(i, 0, i.block.emit(f"v.cvt.{value.type}.{kind}", full(i, 0), value))

    register(name, convert)


for _letter, _kind, _bits in (("SS", "f32x1", 32), ("SD", "f64x1", 64)):
    _to_integer(f"CVT{_letter}2SI", "cvt", _kind, _bits)
    _to_integer(f"CVTT{_letter}2SI", "cvtt", _kind, _bits)
    _from_integer(f"CVTSI2{_letter}", _kind)


def _to_mmx(name: str, row: str, bits: int) -> None:
    """Two integers into an MMX register; lanes that are not converted are zero, so that they raise
    nothing."""

    def convert(i: Ins) -> None:
        if bits == 64:
            source = widen(lane(low(i, 1, 64), 64))
        else:
            source = i.block.load(V128, i.memory(1), aligned=True) if i.is_memory(1) else full(i, 1)
        write(i, 0, i.block.emit(row, source))

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


# exceptions ----------------------------------------------------------------------------------------------

RAISING = frozenset({m for m, f in SEMANTICS.items() if f.__module__ == __name__} | {Mnemonic.CMPSD})
"""The mnemonics (iced) of instructions that may raise an exception of MXCSR."""

MAY_BE_TINY: dict[int, tuple[int, int]] = {Mnemonic.CVTSD2SS: (32, 1), Mnemonic.CVTPD2PS: (32, 2)}
"""Mnemonic -> width and number of the result's lanes that may be denormal, for those that can underflow."""

for _suffix, _lane, _count in (("PS", 32, 4), ("PD", 64, 2), ("SS", 32, 1), ("SD", 64, 1)):
    for _name in ("ADD", "SUB", "MUL", "DIV", *(("HADD", "HSUB", "ADDSUB", "DP") if _count > 1 else ())):
        MAY_BE_TINY[getattr(Mnemonic, _name + _suffix)] = _lane, _count

# the control register ----------------------------------------------------------------------------------


@semantics("LDMXCSR")
def ldmxcsr(i: Ins) -> None:
    """Reserved bits are #GP. Leaves the engine, since exceptions may be unmasked now."""
    value = i.read(0, I32)
    i.block.trap_if((value & (I32.mask & ~r.MXCSR_MASK)).ne(0), Exit.PRIVILEGED, GENERAL_PROTECTION)
    i.block.emit("mxcsr.load", value.zext(I64))
    i.helper(helpers.MXCSR_LOADED)


@semantics("STMXCSR")
def stmxcsr(i: Ins) -> None:
    i.write(0, i.block.emit("mxcsr.read").trunc(INTEGER_OF_BITS[32]))
