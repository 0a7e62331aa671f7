"""String instructions. A repeated one is a block by itself that does a page at most and then goes on at
itself."""

from __future__ import annotations

from iced_x86 import Register

from nexus.ir.types import I8, I32, I64, Type
from nexus.ir.values import Address, Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.operands import STRING_OPERANDS
from nexus.isa.x86.table import semantics


def _is_repeated(i: Ins) -> bool:
    return bool(i.raw.has_rep_prefix or i.raw.has_repne_prefix)


def _address_type(i: Ins, n: int) -> Type:
    """I32 under an address size prefix: rSI, rDI and rCX are then 32 bits wide."""
    return I32 if STRING_OPERANDS[i.raw.op_kind(n)][1] else I64


def _base(i: Ins, n: int) -> Value:
    base = i.memory(n).base
    assert base is not None
    return base


def _distance(i: Ins, type: Type, elements: Value | None) -> Value:
    """Signed bytes that `elements` (one if None) of `type` take in the direction of DF."""
    size = type.bits // 8
    if elements is None:
        return i.get_flag(r.DF).select(i.const(I64, -size), i.const(I64, size))
    bytes_ = elements * size if size > 1 else elements
    mask = i.const(I64, 0) - i.get(r.DF)
    return (bytes_ ^ mask) - mask


def _advance(i: Ins, by: Value, *operands: int, idle: Value | None = None) -> None:
    """Move rSI or rDI, whichever the operands use; not where the i1 `idle` is 1."""
    for n in operands:
        slot = STRING_OPERANDS[i.raw.op_kind(n)][0]
        type = _address_type(i, n)
        _put(i, slot, i.get(slot, type) + by.trunc(type), idle)


def _put(i: Ins, slot: int, value: Value, idle: Value | None) -> None:
    """With 32-bit addresses, a repetition of no elements leaves even the upper halves alone."""
    if idle is not None and value.type is I32:
        value = idle.select(i.get(slot), value.zext(I64))
    i.block.put(slot, value)


def _repeat(i: Ins, done: Value, count: Value, element: Type, *operands: int) -> Value:
    """Commit a step: rCX, rSI, rDI; returns whether elements are left."""
    counter = _address_type(i, operands[0])
    left = count - done
    idle = count.eq(0) if counter is I32 else None
    _advance(i, _distance(i, element, done), *operands, idle=idle)
    _put(i, r.RCX, left.trunc(counter), idle)
    return left.ne(0)


def _count(i: Ins, n: int) -> Value:
    return i.get(r.RCX, _address_type(i, n)).zext(I64)


@semantics("MOVSB", "MOVSW", "MOVSQ")  # MOVSD: shared_names.py
def movs(i: Ins) -> None:
    element = i.type(0)
    if _is_repeated(i):
        count = _count(i, 0)
        done = i.block.emit(f"string.copy.{element}", _base(i, 0), _base(i, 1), count)
        i.branch(_repeat(i, done, count, element, 0, 1), i.address, i.next)
        return
    i.write(0, i.read(1))
    _advance(i, _distance(i, element, None), 0, 1)


@semantics("STOSB", "STOSW", "STOSD", "STOSQ")
def stos(i: Ins) -> None:
    element = i.type(0)
    if _is_repeated(i):
        count = _count(i, 0)
        done = i.block.emit(f"string.fill.{element}", _base(i, 0), i.read(1), count)
        i.branch(_repeat(i, done, count, element, 0), i.address, i.next)
        return
    i.write(0, i.read(1))
    _advance(i, _distance(i, element, None), 0)


@semantics("LODSB", "LODSW", "LODSD", "LODSQ")
def lods(i: Ins) -> None:
    element = i.type(1)
    if _is_repeated(i):
        count = _count(i, 1)
        done = i.block.emit(f"string.load.{element}", _base(i, 1), count)
        i.branch(_repeat(i, done, count, element, 1), i.address, i.next)
        return
    i.write(0, i.read(1))
    _advance(i, _distance(i, element, None), 1)


def _while_flags_say(i: Ins, done: Value, count: Value, element: Type, *operands: int) -> None:
    """Go on while elements are left and ZF is as the prefix wants it. With nothing to do the flags mean
    nothing."""
    more = _repeat(i, done, count, element, *operands)
    wanted = i.condition(5 if i.raw.has_repne_prefix else 4)
    i.branch(more & wanted, i.address, i.next)


@semantics("CMPSB", "CMPSW", "CMPSQ")  # CMPSD: shared_names.py
def cmps(i: Ins) -> None:
    """Operand 0 is DS:[rSI], operand 1 ES:[rDI]."""
    element = i.type(0)
    if _is_repeated(i):
        count = _count(i, 0)
        word = "different" if i.raw.has_repne_prefix else "equal"
        done = i.block.emit(f"string.compare_while_{word}.{element}", _base(i, 1), _base(i, 0), count)
        _while_flags_say(i, done, count, element, 0, 1)
        return
    b = i.read(1)  # first, as processors do
    a = i.read(0)
    _advance(i, _distance(i, element, None), 0, 1)
    i.flags("sub", a, b)


@semantics("SCASB", "SCASW", "SCASD", "SCASQ")
def scas(i: Ins) -> None:
    """Operand 0 is the accumulator."""
    element = i.type(1)
    if _is_repeated(i):
        count = _count(i, 1)
        word = "different" if i.raw.has_repne_prefix else "equal"
        done = i.block.emit(f"string.scan_while_{word}.{element}", _base(i, 1), i.read(0), count)
        _while_flags_say(i, done, count, element, 1)
        return
    a, b = i.read(0), i.read(1)
    _advance(i, _distance(i, element, None), 1)
    i.flags("sub", a, b)


@semantics("XLATB")
def xlatb(i: Ins) -> None:
    """AL := the byte at rBX + AL."""
    table = i.get(r.RBX) + i.get(r.RAX, I8).zext(I64)
    if i.raw.memory_base == Register.EBX:
        table = table.trunc(I32).zext(I64)
    i.set(r.RAX, i.block.load(I8, Address(i.segmented(table))))
