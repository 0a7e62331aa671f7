"""Lanes from anywhere in one or two vectors, and lanes made narrower (AVX-512)."""

from __future__ import annotations

from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import row
from nexus.ir.ops.vector import BUILT, LANE_BITS, holding, join, lanes, split
from nexus.ir.ops.vector_integer import clamp_signed, clamp_unsigned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.vector import Oracle


def _one(lane: int) -> Oracle:
    def oracle(width: int, a: int, order: int) -> int:
        values = split(a, lane, width)
        return join((values[at % len(values)] for at in split(order, lane, width)), lane)

    return oracle


def _two(lane: int) -> Oracle:
    def oracle(width: int, a: int, b: int, order: int) -> int:
        values = [*split(a, lane, width), *split(b, lane, width)]
        return join((values[at % len(values)] for at in split(order, lane, width)), lane)

    return oracle


def _text(count: int, tables: int, bits: int) -> str:
    """Lane by lane; the place is masked to what there is."""
    text, table, order = "", "%a", "%b"
    if tables == 2:
        places = ", ".join(f"i32 {i}" for i in range(2 * count))
        text = f"%both = shufflevector {{L}} %a, {{L}} %b, <{2 * count} x i32> <{places}>\n"
        table, order = "%both", "%c"
    text += f"%order = and {{L}} {order}, splat ({{e}} {count * tables - 1})\n"
    result = "poison"
    for n in range(count):
        wide = f"%at{n}"
        text += f"%n{n} = extractelement {{L}} %order, i64 {n}\n"
        if bits < 64:
            text += f"%at{n} = zext {{e}} %n{n} to i64\n"
        else:
            wide = f"%n{n}"
        text += f"%x{n} = extractelement <{count * tables} x {{e}}> {table}, i64 {wide}\n"
        text += f"%r{n} = insertelement {{L}} {result}, {{e}} %x{n}, i64 {n}\n"
        result = f"%r{n}"
    return text + f"$d = bitcast {{L}} {result} to {{V}}"


for _t in BUILT:
    for _kind in ("i8", "i16", "i32", "i64"):
        _count = _t.bits // LANE_BITS[_kind]
        if f"{_kind}.{_t}" != "i32.v256":  # in vector_wide.py
            lanes(
                _kind,
                "v.permute_all.{e}.{v}",
                "{v} {v} -> {v}",
                _text(_count, 1, LANE_BITS[_kind]),
                _one,
                "Lanes of a chosen by the low bits of b's lanes (VPERMB and kin).",
                parts=False,
                only=_t,
                rare=True,
            )
        lanes(
            _kind,
            "v.permute_two.{e}.{v}",
            "{v} {v} {v} -> {v}",
            _text(_count, 2, LANE_BITS[_kind]),
            _two,
            "Lanes of a and b, one after the other, chosen by the low bits of c's lanes (VPERMI2B and kin).",
            parts=False,
            only=_t,
            rare=True,
        )


def _align(lane: int) -> Oracle:
    def oracle(width: int, a: int, b: int, imm: int) -> int:
        return (a << width | b) >> (imm % (width // lane)) * lane

    return oracle


for _t in BUILT:
    for _kind in ("i32", "i64"):
        _count = _t.bits // LANE_BITS[_kind]
        _text_of = f"%imm = and i64 $imm, {_count - 1}\n"
        _places = ", ".join(f"i32 {i}" for i in range(2 * _count))
        _text_of += f"%both = shufflevector {{L}} %b, {{L}} %a, <{2 * _count} x i32> <{_places}>\n"
        _result = "poison"
        for _n in range(_count):
            _text_of += f"%at{_n} = add i64 %imm, {_n}\n"
            _text_of += f"%x{_n} = extractelement <{2 * _count} x {{e}}> %both, i64 %at{_n}\n"
            _text_of += f"%r{_n} = insertelement {{L}} {_result}, {{e}} %x{_n}, i64 {_n}\n"
            _result = f"%r{_n}"
        lanes(
            _kind,
            "v.align_all.{e}.{v}",
            "{v} {v} -> {v}",
            _text_of + f"$d = bitcast {{L}} {_result} to {{V}}",
            _align,
            "The lanes of a:b from lane imm on, a being the upper half (VALIGND, VALIGNQ).",
            parts=False,
            only=_t,
            imm=True,
            rare=True,
        )

# narrower lanes ----------------------------------------------------------------------------------------

_HOW = {"narrow": "cut", "narrow_s": "saturated (signed)", "narrow_u": "saturated (unsigned)"}


def _narrow(wide: int, small: int, how: str) -> Oracle:
    def one(x: int) -> int:
        if how == "narrow":
            return x
        return clamp_signed(small, signed(x, wide)) if how == "narrow_s" else clamp_unsigned(small, x)

    return lambda width, a: join((one(x) for x in split(a, wide, width)), small)


def _narrow_text(bits: int, wide: int, small: int, how: str) -> str:
    count, room = bits // wide, holding(bits * small // wide)
    kind = f"<{count} x i{wide}>"
    text, value = f"%x = bitcast i{bits} $a to {kind}\n", "%x"
    if how == "narrow_s":
        low, high = -(1 << small - 1), (1 << small - 1) - 1
        text += f"%lo = call {kind} @llvm.smax.v{count}i{wide}({kind} %x, {kind} splat (i{wide} {low}))\n"
        text += f"%hi = call {kind} @llvm.smin.v{count}i{wide}({kind} %lo, {kind} splat (i{wide} {high}))\n"
        value = "%hi"
    elif how == "narrow_u":
        high = (1 << small) - 1
        text += f"%hi = call {kind} @llvm.umin.v{count}i{wide}({kind} %x, {kind} splat (i{wide} {high}))\n"
        value = "%hi"
    short, there = f"<{count} x i{small}>", room.bits // small
    text += f"%y = trunc {kind} {value} to {short}\n"
    if there > count:
        places = ", ".join(f"i32 {min(i, count)}" for i in range(there))
        text += f"%z = shufflevector {short} %y, {short} zeroinitializer, <{there} x i32> <{places}>\n"
    else:
        text += f"%z = shufflevector {short} %y, {short} poison, <{count} x i32> <"
        text += ", ".join(f"i32 {i}" for i in range(count)) + ">\n"
    return text + f"$d = bitcast <{there} x i{small}> %z to {room.llvm}"


def _later(bits: int, wide: int, small: int, how: str) -> Callable[[], str]:
    return lambda: _narrow_text(bits, wide, small, how)


for _t in BUILT:
    for _wide, _small in ((16, 8), (32, 8), (32, 16), (64, 8), (64, 16), (64, 32)):
        for _how, _doc in _HOW.items():
            row(
                f"v.{_how}.i{_wide}.i{_small}.{_t}",
                f"{_t} -> {holding(_t.bits * _small // _wide)}",
                _later(_t.bits, _wide, _small, _how),
                _narrow(_wide, _small, _how),
                f"Lanes of {_wide} bits made {_small} wide, {_doc}, zero above.",
                bits=_t.bits,
                rare=True,
            )
