"""Operands of vector instructions as values, for the MMX, SSE, AVX and AVX-512 forms alike.

An MMX register is the significand of an x87 register; as a value it is 128 bits with zeros above 64, so that
lane rows serve both forms. The AVX form of an instruction with two operands has three: what the other forms
read and write in the first one is in the second and the first. Memory operands of the SSE forms must be
aligned unless an instruction says otherwise, those of the AVX forms only if it says so. What the EVEX
encoding adds is in `masking.py`.
"""

from __future__ import annotations

from iced_x86 import OpKind, Register

from nexus.ir.types import I64, INTEGER_OF_BITS, V128, V256, V512, Type
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import masking

_MM = {Register.MM0 + n: n for n in range(8)}


def is_mmx(i: Ins, n: int) -> bool:
    """Whether operand `n` is an MMX register."""
    return i.raw.op_kind(n) == OpKind.REGISTER and i.raw.op_register(n) in _MM


def uses_mmx(i: Ins) -> bool:
    """Whether this is the MMX form of an instruction that has both."""
    return any(is_mmx(i, n) for n in range(min(i.count, 2)))


def width(i: Ins) -> Type:
    """The vectors that the instruction works on: the widest of its operands."""
    widest = V128
    if i.vex:
        for n in range(i.count):
            if i.is_vector(n) or i.is_memory(n):
                type = masking.memory_type(i) if i.evex and i.is_memory(n) else i.type(n)
                if type.is_vector and type.bits > widest.bits:
                    widest = type
    return widest


def full(i: Ins, n: int, aligned: bool | None = None) -> Value:
    """Operand `n` whole: a vector register, as much of memory as the instruction takes, or 64 bits of the MMX
    forms. `aligned` says whether memory must be; if not given, it must for SSE and not for AVX."""
    if is_mmx(i, n):
        return i.block.emit("mmx.get", imm=_MM[i.raw.op_register(n)])
    if i.is_memory(n):
        if uses_mmx(i):
            return low(i, n, 64)
        if i.evex:
            return masking.load(i, n, masking.shape(i.raw.code).bits, bool(aligned))
        return i.block.load(i.type(n), i.memory(n), not i.vex if aligned is None else aligned)
    return i.read(n)


def first(i: Ins) -> int:
    """The number of the operand that is the first source; the second one follows it."""
    return 1 if i.vex else 0


def two(i: Ins) -> tuple[Value, Value]:
    """Both sources of an instruction that has two."""
    n = first(i)
    return full(i, n), full(i, n + 1)


def row(i: Ins, name: str) -> str:
    """The row of this name for the instruction's `width`."""
    return f"{name}.{width(i)}"


def low(i: Ins, n: int, bits: int) -> Value:
    """Operand `n` where only the low `bits` count: a register as it is, memory loaded at that size and zero
    above."""
    if i.is_memory(n):
        if i.evex:
            return masking.load(i, n, bits)
        if bits == 128:
            return i.block.load(V128, i.memory(n), not i.vex)
        return widen(i.block.load(INTEGER_OF_BITS[bits], i.memory(n)))
    return full(i, n)


def write(i: Ins, n: int, value: Value, bits: int = 0, count: int = 0) -> None:
    """Register operand `n` := the vector. In the EVEX form under the mask, which counts `count` lanes of so
    many bits if that is not what `masking.py` would say; a mask register gets the lanes' sign bits."""
    if is_mmx(i, n):
        i.block.emit("mmx.put", value, imm=_MM[i.raw.op_register(n)])
    elif i.is_mask(n):
        here = masking.shape(i.raw.code)
        masking.to_mask(i, n, value, bits or here.lane, count or int(here.scalar))
    else:
        i.write(n, masking.merged(i, n, value, bits, count))


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


def parts(value: Value) -> list[Value]:
    """A vector as its 128-bit parts, the lowest first."""
    if value.type is V128:
        return [value]
    halves = [value.block.emit(f"v.{half}.{value.type}", value) for half in ("low", "high")]
    return [part for half in halves for part in parts(half)]


def whole(pieces: list[Value]) -> Value:
    """The inverse of `parts`."""
    while len(pieces) > 1:
        type = V256 if pieces[0].type is V128 else V512
        joined = zip(pieces[::2], pieces[1::2], strict=True)
        pieces = [low.block.emit(f"v.join.{type}", low, high) for low, high in joined]
    return pieces[0]


def vector_const(i: Ins, number: int) -> Value:
    """A 128-bit constant."""
    halves = i.const(I64, number & I64.mask), i.const(I64, number >> 64)
    return i.block.emit("v.pair.i64.v128", *halves)


def control(i: Ins) -> int:
    """The immediate that is the last operand."""
    return i.immediate(i.count - 1)
