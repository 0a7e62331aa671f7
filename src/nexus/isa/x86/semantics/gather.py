"""Gathers and scatters: lane after lane, each done for good before the next one.

A fault leaves the lanes before it loaded and their part of the mask cleared, and the instruction can begin
again. So for the engines every lane is an instruction of its own, at the same address.
"""

from __future__ import annotations

from nexus.ir.types import I64, INTEGER_OF_BITS
from nexus.ir.values import Value
from nexus.isa.x86.ins import Exit, Ins
from nexus.isa.x86.operands import VECTOR
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.sse_operands import lane, parts, vector_const, whole, widen
from nexus.isa.x86.table import register


def _replaced(value: Value, bits: int, number: int, new: Value) -> Value:
    """A vector with one lane replaced."""
    pieces, per = parts(value), 128 // bits
    at = number // per
    pieces[at] = value.block.emit(f"v.insert.i{bits}.v128", pieces[at], new, imm=number % per)
    return whole(pieces)


def _lane(value: Value, bits: int, number: int) -> Value:
    per = 128 // bits
    return lane(parts(value)[number // per], bits, number % per)


def _gather(name: str, index_bits: int, bits: int) -> None:
    def lanes(i: Ins) -> None:
        if i.evex:
            gather_by_mask(i, index_bits, bits)
            return
        index_number, index_type = VECTOR[i.raw.memory_index]
        target, mask, type = i.vector(0), i.vector(2), i.type(0)
        if len({target, mask, index_number}) < 3:
            i.trap(Exit.ILLEGAL)
            return
        count = min(type.bits // bits, index_type.bits // index_bits)
        kind, zero = INTEGER_OF_BITS[bits], i.const(INTEGER_OF_BITS[bits], 0)
        for n in range(count):
            if n:
                i.block.mark(i.address)
            index = _lane(i.block.get(index_type, index_number), index_bits, n).sext(I64)
            old, wanted = i.block.get(type, target), i.block.get(type, mask)
            chosen = _lane(wanted, bits, n).slt(0)
            where = masking.address(i, index)
            found = i.block.emit(f"load.if.{kind}", where, chosen, _lane(old, bits, n))
            result = _replaced(old, bits, n, found)
            if n < count - 1:
                i.block.put(target, result)  # what is above is cleared at the end
                i.block.put(mask, _replaced(wanted, bits, n, zero))
                continue
            i.set_vector(target, widen(lane(result, 64)) if count * bits < 128 else result)
            i.set_vector(mask, vector_const(i, 0))

    register(name, lanes)


def gather_by_mask(i: Ins, index_bits: int, bits: int) -> None:
    """The lanes that a mask register takes, whose bits are cleared as they are done."""
    index_number, index_type = VECTOR[i.raw.memory_index]
    target, type = i.vector(0), i.type(0)
    count = min(type.bits // bits, index_type.bits // index_bits)
    kind = INTEGER_OF_BITS[bits]
    for n in range(count):
        if n:
            i.block.mark(i.address)
        index = _lane(i.block.get(index_type, index_number), index_bits, n).sext(I64)
        old, wanted = i.block.get(type, target), masking.taken(i)
        chosen = (wanted & 1 << n).ne(0)
        where = masking.address(i, index)
        found = i.block.emit(f"load.if.{kind}", where, chosen, _lane(old, bits, n))
        result = _replaced(old, bits, n, found)
        if n < count - 1:
            i.block.put(target, result)  # what is above is cleared at the end
            i.block.put(i.mask, wanted & ~(1 << n))
            continue
        i.set_vector(target, widen(lane(result, 64)) if count * bits < 128 else result)
        i.block.put(i.mask, i.const(I64, 0))


def _scatter(name: str, index_bits: int, bits: int) -> None:
    def lanes(i: Ins) -> None:
        index_number, index_type = VECTOR[i.raw.memory_index]
        source, type = i.vector(1), i.type(1)
        count = min(type.bits // bits, index_type.bits // index_bits)
        for n in range(count):
            if n:
                i.block.mark(i.address)
            index = _lane(i.block.get(index_type, index_number), index_bits, n).sext(I64)
            value = widen(_lane(i.block.get(type, source), bits, n))
            wanted = masking.taken(i)
            where = masking.address(i, index)
            i.block.emit(f"store.mask.k{bits}.v128", where, (wanted >> n) & 1, value)
            i.block.put(i.mask, wanted & ~(1 << n) if n < count - 1 else i.const(I64, 0))

    register(name, lanes)


for _letter, _index_bits in (("D", 32), ("Q", 64)):
    for _start in ("VGATHER", "VPGATHER"):
        _four, _eight = ("PS", "PD") if _start == "VGATHER" else ("D", "Q")
        _gather(_start + _letter + _four, _index_bits, 32)
        _gather(_start + _letter + _eight, _index_bits, 64)
        _scatter(_start.replace("GATHER", "SCATTER") + _letter + _four, _index_bits, 32)
        _scatter(_start.replace("GATHER", "SCATTER") + _letter + _eight, _index_bits, 64)
