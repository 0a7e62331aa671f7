"""Operands of vector instructions as 128-bit values, for the SSE and MMX forms alike.

An MMX register is the significand of an x87 register; as a value it is 128 bits with zeros above 64, so that
lane rows serve both forms. Memory operands of 16 bytes must be aligned unless an instruction says otherwise.
"""

from __future__ import annotations

from iced_x86 import OpKind, Register

from nexus.ir.types import I64, INTEGER_OF_BITS, V128
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins

_MM = {Register.MM0 + n: n for n in range(8)}


def is_mmx(i: Ins, n: int) -> bool:
    """Whether operand `n` is an MMX register."""
    return i.raw.op_kind(n) == OpKind.REGISTER and i.raw.op_register(n) in _MM


def uses_mmx(i: Ins) -> bool:
    """Whether this is the MMX form of an instruction that has both."""
    return any(is_mmx(i, n) for n in range(min(i.count, 2)))


def full(i: Ins, n: int, aligned: bool = True) -> Value:
    """Operand `n` whole: 128 bits of a register or memory, or 64 bits of the MMX forms."""
    if is_mmx(i, n):
        return i.block.emit("mmx.get", imm=_MM[i.raw.op_register(n)])
    if i.is_memory(n):
        if uses_mmx(i):
            return low(i, n, 64)
        return i.block.load(V128, i.memory(n), aligned)
    return i.read(n, V128)


def low(i: Ins, n: int, bits: int) -> Value:
    """Operand `n` where only the low `bits` count: a register as it is, memory loaded at that size and zero
    above."""
    if i.is_memory(n):
        return widen(i.block.load(INTEGER_OF_BITS[bits], i.memory(n)))
    return full(i, n)


def write(i: Ins, n: int, value: Value) -> None:
    """Register operand `n` := the vector."""
    if is_mmx(i, n):
        i.block.emit("mmx.put", value, imm=_MM[i.raw.op_register(n)])
    else:
        i.write(n, value)


def enter_mmx(i: Ins) -> None:
    """What an instruction does to the x87 stack that has an MMX operand but writes no MMX register."""
    if any(is_mmx(i, n) for n in range(i.count)):
        i.block.emit("mmx.enter")


def widen(value: Value) -> Value:
    """An integer as a vector, zero above it."""
    return value.block.emit(f"v.from.{value.type}.v128", value)


def lane(value: Value, bits: int, index: int = 0) -> Value:
    """One lane as an integer."""
    return value.block.emit(f"v.extract.i{bits}.v128", value, imm=index)


def pair(lower: Value, upper: Value) -> Value:
    """The low halves of two vectors in one."""
    return lower.block.emit("v.unpack_low.i64.v128", lower, upper)


def vector_const(i: Ins, number: int) -> Value:
    """A 128-bit constant."""
    halves = i.const(I64, number & I64.mask), i.const(I64, number >> 64)
    return i.block.emit("v.pair.i64.v128", *halves)


def control(i: Ins) -> int:
    """The immediate that is the last operand."""
    return i.immediate(i.count - 1)
