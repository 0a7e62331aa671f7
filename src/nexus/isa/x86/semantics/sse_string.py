"""The string instructions of SSE4.2: PCMPISTRI, PCMPISTRM, PCMPESTRI, PCMPESTRM.

The rows do the comparison (`ir/ops/vector_string.py`); lengths, polarity, output and flags are built here.
"""

from __future__ import annotations

from nexus.ir.types import I1, I32, I64, Type
from nexus.ir.values import Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_operands import control, full, widen
from nexus.isa.x86.table import register_vectors

_AGGREGATIONS = ("any", "ranges", "each", "ordered")


def _explicit_length(value: Value, count: int) -> Value:
    """The absolute value of EAX, EDX (or the whole registers), at most `count`."""
    wide = value.sext(I64)
    sign = wide.sar(63)
    length = (wide ^ sign) - sign
    return length.ult(count).select(length, count)


def _compare(name: str, explicit: Type | None, mask: bool) -> None:
    """`explicit` is the type of the lengths in rAX and rDX; without it strings end at a zero."""

    def compare(i: Ins) -> None:
        _comparison(i, explicit, mask)

    register_vectors(name, compare)


for _end, _mask_wanted in (("I", False), ("M", True)):
    _compare("PCMPISTR" + _end, None, _mask_wanted)
    _compare("PCMPESTR" + _end, I32, _mask_wanted)
    _compare(f"PCMPESTR{_end}64", I64, _mask_wanted)


def _comparison(i: Ins, explicit: Type | None, mask: bool) -> None:
    imm = control(i)
    bits = 16 if imm & 1 else 8
    count = 128 // bits
    a, b = full(i, 0), full(i, 1, aligned=False)
    if explicit is not None:
        length_a = _explicit_length(i.get(r.RAX, explicit), count)
        length_b = _explicit_length(i.get(r.RDX, explicit), count)
    else:
        length_a = i.block.emit(f"v.string_length.i{bits}.v128", a)
        length_b = i.block.emit(f"v.string_length.i{bits}.v128", b)
    kind = _AGGREGATIONS[imm >> 2 & 3]
    lane = ("s" if imm & 2 else "u") if kind == "ranges" else "i"
    found = i.block.emit(f"v.string_{kind}.{lane}{bits}.v128", a, b, length_a, length_b)
    everything = (1 << count) - 1
    if imm >> 4 & 3 == 1:
        found = found ^ everything
    elif imm >> 4 & 3 == 3:
        found = found ^ ((i.const(I64, 1) << length_b) - 1)
    if mask:
        _mask(i, found, bits, bool(imm & 0x40))
    else:
        _index(i, found, count, bool(imm & 0x40))
    _flags(i, found, length_a.ult(count), length_b.ult(count))


def _flags(i: Ins, found: Value, short_a: Value, short_b: Value) -> None:
    """CF: anything found; ZF: b ends here; SF: a ends here; OF: the first element."""
    i.set_flag(r.CF, found.ne(0))
    i.set_flag(r.OF, found.trunc(I1))
    i.block.put(r.NZ, short_b.select(i.const(I64, 0), 1))
    i.block.put(r.PF, short_a.select(i.const(I64, r.SF_FORCED | 1), 1))
    i.set_flag(r.AF, 0)


def _index(i: Ins, found: Value, count: int, last: bool) -> None:
    """ECX := the first or last element found, or the number of elements."""
    if last:
        top = i.const(I64, 63) - i.block.emit("ctlz.i64", found)
        place = found.eq(0).select(i.const(I64, count), top)
    else:
        place = i.block.emit("cttz.i64", found | 1 << count)
    i.set(r.RCX, place.trunc(I32))


def _mask(i: Ins, found: Value, bits: int, expand: bool) -> None:
    """XMM0 := the elements found, as bits or as whole lanes."""
    i.set_vector(0, i.block.emit(f"v.bit_lanes.i{bits}.v128", found) if expand else widen(found))
