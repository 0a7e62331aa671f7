"""Lanes as AVX-512 has them: counts of bits, shifts of pairs, sums of products, all lanes with all."""

from __future__ import annotations

from nexus.ir.ops.scalar import signed
from nexus.ir.ops.vector import BUILT, each, join, lanes, parts, split
from nexus.ir.ops.vector_integer import clamp_signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.vector import Oracle

_ONE, _TWO, _THREE = "{v} -> {v}", "{v} {v} -> {v}", "{v} {v} {v} -> {v}"
_ALL = "i8 i16 i32 i64"

lanes(
    _ALL,
    "v.ugt.{e}.{v}",
    _TWO,
    "%m = icmp ugt {L} %a, %b\n%d = sext {bools} %m to {L}",
    each(lambda w, a, b: -(a > b)),
    "All ones where a > b (unsigned), else zero.",
    rare=True,
)
lanes(
    "i32 i64",
    "v.lzcnt.{e}.{v}",
    _ONE,
    "%d = call {L} @llvm.ctlz.v{n}{e}({L} %a, i1 false)",
    each(lambda w, a: w - a.bit_length()),
    "Zero bits above the highest one that is set.",
    rare=True,
)
lanes(
    _ALL,
    "v.popcnt.{e}.{v}",
    _ONE,
    "%d = call {L} @llvm.ctpop.v{n}{e}({L} %a)",
    each(lambda w, a: a.bit_count()),
    "Bits that are set.",
    rare=True,
)
# the upper one of two lanes, shifted in from the lower one, and the other way round
for _name, _function in (
    ("fshl", lambda w, a, b, c: (a << w | b) << c % w >> w),
    ("fshr", lambda w, a, b, c: (a << w | b) >> c % w),
):
    lanes(
        "i16 i32 i64",
        f"v.{_name}.{{e}}.{{v}}",
        _THREE,
        f"%d = call {{L}} @llvm.{_name}.v{{n}}{{e}}({{L}} %a, {{L}} %b, {{L}} %c)",
        each(_function),
        f"a above b, shifted {'left' if _name == 'fshl' else 'right'} by c modulo the lane: the "
        f"{'upper' if _name == 'fshl' else 'lower'} half.",
        rare=True,
        avx=True,  # without AVX2, LLVM shifts by way of floats
    )


def _multishift(w: int, a: int, b: int) -> int:
    """Unaligned bytes of b, from the bits that a's bytes say."""
    twice = b << 64 | b
    return join((twice >> (count & 63) for count in split(a, 8, 64)), 8)


def _multishift_text() -> str:
    text = ""
    for byte in range(8):
        at = 8 * byte
        text += f"%s{byte} = lshr {{L}} %a, splat (i64 {at})\n"
        text += f"%r{byte} = call {{L}} @llvm.fshr.v{{n}}{{e}}({{L}} %b, {{L}} %b, {{L}} %s{byte})\n"
        text += f"%u{byte} = and {{L}} %r{byte}, splat (i64 255)\n"
        text += f"%p{byte} = shl {{L}} %u{byte}, splat (i64 {at})\n"
        text += f"%o{byte} = or {{L}} %p{byte}, " + (f"%o{byte - 1}\n" if byte else "zeroinitializer\n")
    return text + "%d = or {L} %o7, zeroinitializer"


lanes(
    "i64",
    "v.multishift.{e}.{v}",
    _TWO,
    _multishift_text(),
    each(_multishift),
    "Each byte: eight bits of b's 64-bit lane, from the bit on that a's byte says (VPMULTISHIFTQB).",
    avx=True,
    rare=True,
)

# 52 bits: the product of the low 52 bits of both
for _name, _shift in (("low", 0), ("high", 52)):

    def _product(w: int, a: int, b: int, c: int, at: int = _shift) -> int:
        mask = (1 << 52) - 1
        return a + (((b & mask) * (c & mask) >> at) & mask)

    lanes(
        "i64",
        f"v.madd52_{_name}.{{e}}.{{v}}",
        _THREE,
        "%x1 = and {L} %b, splat (i64 4503599627370495)\n%y1 = and {L} %c, splat (i64 4503599627370495)\n"
        "%x = zext {L} %x1 to {B}\n%y = zext {L} %y1 to {B}\n%p = mul {B} %x, %y\n"
        f"%q = lshr {{B}} %p, splat (i128 {_shift})\n%r = trunc {{B}} %q to {{L}}\n"
        "%s = and {L} %r, splat (i64 4503599627370495)\n%d = add {L} %a, %s",
        each(_product),
        f"a plus the {_name} 52 bits of the 104-bit product of b and c.",
        rare=True,
    )


# sums of products: lane a plus neighbouring products of b and c
def _dot(size: int, is_signed: bool, saturate: bool) -> Callable[[int, int, int, int], int]:
    def lane(w: int, a: int, b: int, c: int) -> int:
        first = [signed(x, size) if is_signed else x for x in split(b, size, w)]
        total = signed(a, w) + sum(x * signed(y, size) for x, y in zip(first, split(c, size, w), strict=True))
        return clamp_signed(w, total) if saturate else total

    return lane


def _dot_text(size: int, is_signed: bool, saturate: bool) -> str:
    """Every product in 64-bit lanes where the sum is to saturate and might not fit."""
    text, wide = "", saturate and size == 16
    kind = "{B}" if wide else "{L}"
    total = "%a"
    if wide:
        text, total = "%aw = sext {L} %a to {B}\n", "%aw"
    for at in range(0, 32, size):
        up = 32 - size - at
        text += f"%x{at} = shl {{L}} %b, splat (i32 {up})\n%y{at} = shl {{L}} %c, splat (i32 {up})\n"
        text += f"%u{at} = {'ashr' if is_signed else 'lshr'} {{L}} %x{at}, splat (i32 {32 - size})\n"
        text += f"%v{at} = ashr {{L}} %y{at}, splat (i32 {32 - size})\n%p{at} = mul {{L}} %u{at}, %v{at}\n"
        product = f"%p{at}"
        if wide:
            text += f"%w{at} = sext {{L}} %p{at} to {{B}}\n"
            product = f"%w{at}"
        if saturate and not wide:
            text += f"%t{at} = add {{L}} {product}, " + (f"%t{at - size}\n" if at else "zeroinitializer\n")
        else:
            text += f"%t{at} = add {kind} {total}, {product}\n"
            total = f"%t{at}"
    last = f"%t{32 - size}"
    if wide:
        text += f"%lo = call {{B}} @llvm.smax.v{{n}}i64({{B}} {last}, {{B}} splat (i64 -2147483648))\n"
        text += "%hi = call {B} @llvm.smin.v{n}i64({B} %lo, {B} splat (i64 2147483647))\n"
        return text + "%d = trunc {B} %hi to {L}"
    if saturate:
        return text + f"%d = call {{L}} @llvm.sadd.sat.v{{n}}i32({{L}} %a, {{L}} {last})"
    return text + f"%d = add {{L}} {last}, zeroinitializer"


for _size, _signed, _kind in ((8, False, "u8i8"), (16, True, "i16i16")):
    for _saturate, _suffix in ((False, ""), (True, "_sat")):
        lanes(
            "i32",
            f"v.dot{_suffix}.{_kind}.{{v}}",
            _THREE,
            _dot_text(_size, _signed, _saturate),
            each(_dot(_size, _signed, _saturate)),
            "a plus the products of b's and c's parts" + (", saturated (signed)." if _saturate else "."),
            rare=True,
        )


# all lanes with all -----------------------------------------------------------------------------------


def _conflict(lane: int) -> Oracle:
    def oracle(width: int, a: int) -> int:
        values = split(a, lane, width)
        return join((sum((values[j] == x) << j for j in range(i)) for i, x in enumerate(values)), lane)

    return oracle


def _found(lane: int) -> Oracle:
    def oracle(width: int, a: int, b: int) -> int:
        others = set(split(b, lane, width))
        return join((-(x in others) for x in split(a, lane, width)), lane)

    return oracle


def _rotated(name: str, source: str, by: int, count: int) -> str:
    places = ", ".join(f"i32 {(i + by) % count}" for i in range(count))
    return f"%{name}{by} = shufflevector {{L}} {source}, {{L}} poison, <{{n}} x i32> <{places}>\n"


def _conflict_text(count: int) -> str:
    text, total = "", "zeroinitializer"
    for by in range(1, count):
        bits = ", ".join(f"{{e}} {1 << (i + by - count) if i + by >= count else 0}" for i in range(count))
        text += _rotated("s", "%a", by, count)
        text += f"%q{by} = icmp eq {{L}} %a, %s{by}\n%x{by} = sext {{bools}} %q{by} to {{L}}\n"
        text += f"%y{by} = and {{L}} %x{by}, <{bits}>\n%o{by} = or {{L}} {total}, %y{by}\n"
        total = f"%o{by}"
    return text + f"%d = or {{L}} {total}, zeroinitializer"


def _found_text(count: int) -> str:
    text, total = "", "zeroinitializer"
    for by in range(count):
        text += _rotated("s", "%b", by, count)
        text += f"%q{by} = icmp eq {{L}} %a, %s{by}\n%o{by} = or {{bools}} {total}, %q{by}\n"
        total = f"%o{by}"
    return text + f"%d = sext {{bools}} {total} to {{L}}"


for _t in BUILT:
    for _bits in (32, 64):
        for _name, _signature, _text, _oracle, _doc in (
            (
                "conflict",
                "{v} -> {v}",
                _conflict_text,
                _conflict,
                "For each lane, which lower lanes equal it (VPCONFLICT).",
            ),
            ("found", _TWO, _found_text, _found, "All ones where some lane of b equals a's, else zero."),
        ):
            lanes(
                f"i{_bits}",
                f"v.{_name}.{{e}}.{{v}}",
                _signature,
                _text(_t.bits // _bits),
                _oracle,
                _doc,
                parts=False,
                only=_t,
                rare=True,
            )


# sums of absolute differences -------------------------------------------------------------------------


def _dbsad(lane: int, a: list[int], b: list[int]) -> int:
    out = []
    for word in range(8):
        one, other = 4 * (word // 2), 8 * (word // 4) + word % 4
        out.append(sum(abs(a[one + t] - b[other + t]) for t in range(4)))
    return join(out, 16)


def _dbsad_text() -> str:
    first = [4 * (word // 2) + t for t in range(4) for word in range(8)]
    second = [8 * (word // 4) + word % 4 + t for t in range(4) for word in range(8)]
    text = ""
    for name, source, chosen in (("x", "a", first), ("y", "b", second)):
        text += f"%{name} = shufflevector <16 x i8> %{source}, <16 x i8> poison, <32 x i32> <"
        text += ", ".join(f"i32 {p}" for p in chosen) + ">\n"
    text += "%big = call <32 x i8> @llvm.umax.v32i8(<32 x i8> %x, <32 x i8> %y)\n"
    text += "%small = call <32 x i8> @llvm.umin.v32i8(<32 x i8> %x, <32 x i8> %y)\n"
    text += "%diff = sub <32 x i8> %big, %small\n%w = zext <32 x i8> %diff to <32 x i16>\n"
    for t in range(4):
        places = ", ".join(f"i32 {8 * t + word}" for word in range(8))
        text += f"%t{t} = shufflevector <32 x i16> %w, <32 x i16> poison, <8 x i32> <{places}>\n"
    text += "%s0 = add <8 x i16> %t0, %t1\n%s1 = add <8 x i16> %t2, %t3\n%s = add <8 x i16> %s0, %s1\n"
    return text + "$d = bitcast <8 x i16> %s to {V}"


lanes(
    "i8",
    "v.dbsad.{e}.{v}",
    _TWO,
    _dbsad_text(),
    parts(2, _dbsad),
    "Sums of four absolute differences, b's bytes at a sliding place (VDBPSADBW after its shuffle).",
    rare=True,
)
