"""Shifts and rotates. The count is masked to 5 bits (6 for 64-bit operands); a count of 0 changes no flag."""

from __future__ import annotations

from nexus.ir.types import I64, Type
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.table import semantics


def _count(i: Ins, n: int, type: Type) -> tuple[Value, int | None]:
    """The masked count, of the operand's type, and its number if it is encoded."""
    mask = 63 if type is I64 else 31
    if i.is_immediate(n):
        known = i.immediate(n) & mask
        return i.const(type, known), known
    return (i.read(n) & mask).resize(type), None


def _flags(i: Ins, kind: str, known: int | None, *operands: Value) -> None:
    if known is None:
        i.flags(f"{kind}.cl", *operands)
    elif known:
        i.flags(kind, *operands)


@semantics("SHL", "SAL")
def shl(i: Ins) -> None:
    type = i.type(0)
    count, known = _count(i, 1, type)
    a = i.read_modify(0)
    i.write(0, a << count)
    _flags(i, "shl", known, a, count)


@semantics("SHR")
def shr(i: Ins) -> None:
    type = i.type(0)
    count, known = _count(i, 1, type)
    a = i.read_modify(0)
    i.write(0, a >> count)
    _flags(i, "shr", known, a, count)


@semantics("SAR")
def sar(i: Ins) -> None:
    type = i.type(0)
    count, known = _count(i, 1, type)
    a = i.read_modify(0)
    i.write(0, a.sar(count))
    _flags(i, "sar", known, a, count)


@semantics("ROL")
def rol(i: Ins) -> None:
    type = i.type(0)
    count, known = _count(i, 1, type)
    result = i.read_modify(0).rotl(count)
    i.write(0, result)
    _flags(i, "rol", known, result, count)


@semantics("ROR")
def ror(i: Ins) -> None:
    type = i.type(0)
    count, known = _count(i, 1, type)
    result = i.read_modify(0).rotr(count)
    i.write(0, result)
    _flags(i, "ror", known, result, count)


def _through_carry(i: Ins, kind: str) -> None:
    type = i.type(0)
    count, known = _count(i, 1, type)
    a = i.read_modify(0)
    i.write(0, i.block.emit(f"{kind}.{type}", a, count))
    _flags(i, kind, known, a, count)


@semantics("RCL")
def rcl(i: Ins) -> None:
    _through_carry(i, "rcl")


@semantics("RCR")
def rcr(i: Ins) -> None:
    _through_carry(i, "rcr")


def _double(i: Ins, kind: str) -> None:
    type = i.type(0)
    count, known = _count(i, 2, type)
    a, b = i.read_modify(0), i.read(1)
    i.write(0, i.block.emit(f"{kind}.{type}", a, b, count))
    _flags(i, kind, known, a, b, count)


@semantics("SHLD")
def shld(i: Ins) -> None:
    _double(i, "shld")


@semantics("SHRD")
def shrd(i: Ins) -> None:
    _double(i, "shrd")


# BMI2: the same without flags --------------------------------------------------------------------------


def _free_count(i: Ins, type: Type) -> Value:
    return i.read(2) & (type.bits - 1)


@semantics("SHLX")
def shlx(i: Ins) -> None:
    i.write(0, i.read(1) << _free_count(i, i.type(0)))


@semantics("SHRX")
def shrx(i: Ins) -> None:
    i.write(0, i.read(1) >> _free_count(i, i.type(0)))


@semantics("SARX")
def sarx(i: Ins) -> None:
    i.write(0, i.read(1).sar(_free_count(i, i.type(0))))


@semantics("RORX")
def rorx(i: Ins) -> None:
    i.write(0, i.read(1).rotr(i.immediate(2) & (i.type(0).bits - 1)))
