"""SSE4A: AMD's bit fields in vector registers, and its non-temporal scalar stores.

The upper half of the result of EXTRQ and INSERTQ is undefined; it is zero, as on Zen.
"""

from __future__ import annotations

from nexus.ir.types import I64, V128
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_operands import lane, widen, write
from nexus.isa.x86.table import semantics


def _field(i: Ins, length: Value, index: Value) -> tuple[Value, Value]:
    """(mask of `length` bits at bit 0, index), both modulo 64; length 0 is 64."""
    length, index = length & 63, index & 63
    mask = length.eq(0).select(i.const(I64, -1), (i.const(I64, 1) << length) - 1)
    return mask, index


@semantics("EXTRQ")
def extrq(i: Ins) -> None:
    """The field goes to bit 0. Length and index are immediates, or bytes 0 and 1 of operand 1."""
    if i.count == 3:
        length, index = i.const(I64, i.immediate(1)), i.const(I64, i.immediate(2))
    else:
        control = lane(i.read(1, V128), 64)
        length, index = control, control >> 8
    mask, index = _field(i, length, index)
    write(i, 0, widen((lane(i.read(0, V128), 64) >> index) & mask))


@semantics("INSERTQ")
def insertq(i: Ins) -> None:
    """The low bits of operand 1 into a field; without immediates its bytes 8 and 9 say which."""
    source = i.read(1, V128)
    if i.count == 4:
        length, index = i.const(I64, i.immediate(2)), i.const(I64, i.immediate(3))
    else:
        control = lane(source, 64, 1)
        length, index = control, control >> 8
    mask, index = _field(i, length, index)
    old = lane(i.read(0, V128), 64)
    write(i, 0, widen((old & ~(mask << index)) | (lane(source, 64) & mask) << index))


@semantics("MOVNTSS")
def movntss(i: Ins) -> None:
    i.write(0, lane(i.read(1, V128), 32))


@semantics("MOVNTSD")
def movntsd(i: Ins) -> None:
    i.write(0, lane(i.read(1, V128), 64))
