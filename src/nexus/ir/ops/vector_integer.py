"""Integer arithmetic, comparison and shifts on vector lanes."""

from __future__ import annotations

from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import row
from nexus.ir.ops.vector import BUILT, LANE_BITS, each, join, lanes, parts, split
from nexus.ir.state import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.vector import Oracle

_TWO = "{v} {v} -> {v}"


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def clamp_signed(bits: int, value: int) -> int:
    """Saturate to a signed lane."""
    return _clamp(value, -(1 << bits - 1), (1 << bits - 1) - 1)


def clamp_unsigned(bits: int, value: int) -> int:
    """Saturate to an unsigned lane."""
    return _clamp(value, 0, (1 << bits) - 1)


def _plain(kinds: str, name: str, template: str, function: Callable[[int, int, int], int], doc: str) -> None:
    lanes(kinds, f"v.{name}.{{e}}.{{v}}", _TWO, f"%d = {template}", each(function), doc)


_plain("i8 i16 i32 i64", "add", "add {L} %a, %b", lambda w, a, b: a + b, "Sum per lane.")
_plain("i8 i16 i32 i64", "sub", "sub {L} %a, %b", lambda w, a, b: a - b, "Difference per lane.")
_plain("i16 i32 i64", "mul", "mul {L} %a, %b", lambda w, a, b: a * b, "Low half of the product per lane.")

for _name, _llvm, _fix, _sum in (
    ("sadd_sat", "sadd.sat", clamp_signed, True),
    ("uadd_sat", "uadd.sat", clamp_unsigned, True),
    ("ssub_sat", "ssub.sat", clamp_signed, False),
    ("usub_sat", "usub.sat", clamp_unsigned, False),
):

    def _saturating(w: int, a: int, b: int, fix: Callable[[int, int], int] = _fix, add: bool = _sum) -> int:
        if fix is clamp_signed:
            a, b = signed(a, w), signed(b, w)
        return fix(w, a + b if add else a - b)

    _plain(
        "i8 i16",
        _name,
        f"call {{L}} @llvm.{_llvm}.v{{n}}{{e}}({{L}} %a, {{L}} %b)",
        _saturating,
        f"{'Sum' if _sum else 'Difference'} per lane, saturating "
        f"({'signed' if _name[0] == 's' else 'unsigned'}).",
    )

for _name, _signed, _best in (
    ("smin", True, min),
    ("smax", True, max),
    ("umin", False, min),
    ("umax", False, max),
):

    def _extreme(
        w: int, a: int, b: int, is_signed: bool = _signed, best: Callable[[int, int], int] = _best
    ) -> int:
        return best(signed(a, w), signed(b, w)) if is_signed else best(a, b)

    _plain(
        "i8 i16 i32 i64",
        _name,
        f"call {{L}} @llvm.{_name}.v{{n}}{{e}}({{L}} %a, {{L}} %b)",
        _extreme,
        f"{'Smaller' if _best is min else 'Larger'} per lane, {'signed' if _signed else 'unsigned'}.",
    )

_COMPARE = "%m = icmp {P} {L} %a, %b\n%d = sext {bools} %m to {L}"
lanes(
    "i8 i16 i32 i64",
    "v.eq.{e}.{v}",
    _TWO,
    _COMPARE.replace("{P}", "eq"),
    each(lambda w, a, b: -(a == b)),
    "All ones where the lanes are equal, else zero.",
)
lanes(
    "i8 i16 i32 i64",
    "v.sgt.{e}.{v}",
    _TWO,
    _COMPARE.replace("{P}", "sgt"),
    each(lambda w, a, b: -(signed(a, w) > signed(b, w))),
    "All ones where a > b (signed), else zero.",
)

for _name, _extend in (("smul_high", "sext"), ("umul_high", "zext")):

    def _high(w: int, a: int, b: int, is_signed: bool = _extend == "sext") -> int:
        return (signed(a, w) * signed(b, w) if is_signed else a * b) >> w

    lanes(
        "i16",
        f"v.{_name}.{{e}}.{{v}}",
        _TWO,
        f"%x = {_extend} {{L}} %a to {{B}}\n%y = {_extend} {{L}} %b to {{B}}\n%p = mul {{B}} %x, %y\n"
        "%s = lshr {B} %p, splat (i32 {b})\n%d = trunc {B} %s to {L}",
        each(_high),
        f"High half of the {'signed' if _extend == 'sext' else 'unsigned'} product per lane.",
    )

lanes(
    "i64",
    "v.umul_even.i32.{v}",
    _TWO,
    "%x = and {L} %a, splat (i64 4294967295)\n%y = and {L} %b, splat (i64 4294967295)\n%d = mul {L} %x, %y",
    each(lambda w, a, b: (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF)),
    "Unsigned 64-bit products of the even 32-bit lanes (PMULUDQ).",
)
_SIGN_LOW = "%{y}1 = shl {L} %{x}, splat (i64 32)\n%{y} = ashr {L} %{y}1, splat (i64 32)\n"
lanes(
    "i64",
    "v.smul_even.i32.{v}",
    _TWO,
    _SIGN_LOW.replace("{y}", "p").replace("{x}", "a")
    + _SIGN_LOW.replace("{y}", "q").replace("{x}", "b")
    + "%d = mul {L} %p, %q",
    each(lambda w, a, b: signed(a & 0xFFFFFFFF, 32) * signed(b & 0xFFFFFFFF, 32)),
    "Signed 64-bit products of the even 32-bit lanes (PMULDQ).",
)

# Two neighbouring narrow lanes live in one wide lane: the low one is sign-extended by two shifts.
_PAIRS = "%al = {lowext}\n%ah = {highext} {L} %a, splat ({e} {h})\n%b1 = shl {L} %b, splat ({e} {h})\n"
_PAIRS += "%bl = ashr {L} %b1, splat ({e} {h})\n%bh = ashr {L} %b, splat ({e} {h})\n"
_PAIRS += "%pl = mul {L} %al, %bl\n%ph = mul {L} %ah, %bh\n"


def _madd(w: int, a: int, b: int) -> int:
    (al, ah), (bl, bh) = split(a, 16, 32), split(b, 16, 32)
    return signed(al, 16) * signed(bl, 16) + signed(ah, 16) * signed(bh, 16)


def _maddubs(w: int, a: int, b: int) -> int:
    (al, ah), (bl, bh) = split(a, 8, 16), split(b, 8, 16)
    return clamp_signed(16, al * signed(bl, 8) + ah * signed(bh, 8))


lanes(
    "i32",
    "v.madd.i16.{v}",
    _TWO,
    "%a1 = shl {L} %a, splat ({e} {h})\n"
    + _PAIRS.replace("{lowext}", "ashr {L} %a1, splat ({e} {h})").replace("{highext}", "ashr")
    + "%d = add {L} %pl, %ph",
    each(_madd),
    "Signed products of 16-bit lanes, neighbours added to 32 bits (PMADDWD).",
)
lanes(
    "i16",
    "v.maddubs.i8.{v}",
    _TWO,
    _PAIRS.replace("{lowext}", "and {L} %a, splat ({e} 255)").replace("{highext}", "lshr")
    + "%d = call {L} @llvm.sadd.sat.v{n}{e}({L} %pl, {L} %ph)",
    each(_maddubs),
    "Products of unsigned a and signed b bytes, neighbours added to 16 bits, saturating (PMADDUBSW).",
)
lanes(
    "i16",
    "v.mulhrs.{e}.{v}",
    _TWO,
    "%x = sext {L} %a to {B}\n%y = sext {L} %b to {B}\n%p = mul {B} %x, %y\n"
    "%s = lshr {B} %p, splat (i32 14)\n"
    "%r = add {B} %s, splat (i32 1)\n%t = lshr {B} %r, splat (i32 1)\n%d = trunc {B} %t to {L}",
    each(lambda w, a, b: ((signed(a, w) * signed(b, w) >> 14) + 1) >> 1),
    "Rounded high product of fixed-point lanes (PMULHRSW).",
)
lanes(
    "i64",
    "v.sad.u8.{v}",
    _TWO,
    "%x = bitcast {V} $a to <{bytes} x i8>\n%y = bitcast {V} $b to <{bytes} x i8>\n"
    "%big = call <{bytes} x i8> @llvm.umax.v{bytes}i8(<{bytes} x i8> %x, <{bytes} x i8> %y)\n"
    "%small = call <{bytes} x i8> @llvm.umin.v{bytes}i8(<{bytes} x i8> %x, <{bytes} x i8> %y)\n"
    "%diff = sub <{bytes} x i8> %big, %small\n%q = bitcast <{bytes} x i8> %diff to {L}\n"
    "%even = and {L} %q, splat (i64 71777214294589695)\n%up = lshr {L} %q, splat (i64 8)\n"
    "%odd = and {L} %up, splat (i64 71777214294589695)\n%sum = add {L} %even, %odd\n"
    "%all = mul {L} %sum, splat (i64 281479271743489)\n%d = lshr {L} %all, splat (i64 48)",
    each(lambda w, a, b: sum(abs(x - y) for x, y in zip(split(a, 8, w), split(b, 8, w), strict=True))),
    "Sum of the absolute differences of 8 unsigned bytes, per 64-bit lane (PSADBW).",
)
lanes(
    "i8 i16",
    "v.avg.{e}.{v}",
    _TWO,
    "%x = zext {L} %a to {B}\n%y = zext {L} %b to {B}\n%s = add {B} %x, %y\n%r = add {B} %s, splat ({E2} 1)\n"
    "%h = lshr {B} %r, splat ({E2} 1)\n%d = trunc {B} %h to {L}",
    each(lambda w, a, b: (a + b + 1) >> 1),
    "Unsigned average per lane, rounded up.",
)
lanes(
    "i8 i16 i32 i64",
    "v.abs.{e}.{v}",
    "{v} -> {v}",
    "%d = call {L} @llvm.abs.v{n}{e}({L} %a, i1 false)",
    each(lambda w, a: abs(signed(a, w))),
    "Absolute value per lane; the most negative stays.",
)
lanes(
    "i8 i16 i32",
    "v.sign.{e}.{v}",
    _TWO,
    "%minus = sub {L} zeroinitializer, %a\n%neg = icmp slt {L} %b, zeroinitializer\n"
    "%zero = icmp eq {L} %b, zeroinitializer\n%s = select {bools} %neg, {L} %minus, {L} %a\n"
    "%d = select {bools} %zero, {L} zeroinitializer, {L} %s",
    each(lambda w, a, b: 0 if b == 0 else -a if signed(b, w) < 0 else a),
    "a, 0 or -a by the sign of b (PSIGN).",
)


def _pairwise(function: Callable[[int, int, int], int]) -> Callable[..., int]:
    def part(lane: int, a: list[int], b: list[int]) -> int:
        both = a + b
        return join((function(lane, both[i], both[i + 1]) for i in range(0, len(both), 2)), lane)

    return part


_HORIZONTAL = (
    "%x = shufflevector {L} %a, {L} %b, <{n} x i32> {even}\n"
    "%y = shufflevector {L} %a, {L} %b, <{n} x i32> {odd}\n"
)
for _kinds, _name, _op, _pair in (
    ("i16 i32", "hadd", "add {L} %x, %y", lambda w, a, b: a + b),
    ("i16 i32", "hsub", "sub {L} %x, %y", lambda w, a, b: a - b),
    (
        "i16",
        "hadd_sat",
        "call {L} @llvm.sadd.sat.v{n}{e}({L} %x, {L} %y)",
        lambda w, a, b: clamp_signed(w, signed(a, w) + signed(b, w)),
    ),
    (
        "i16",
        "hsub_sat",
        "call {L} @llvm.ssub.sat.v{n}{e}({L} %x, {L} %y)",
        lambda w, a, b: clamp_signed(w, signed(a, w) - signed(b, w)),
    ),
):
    lanes(
        _kinds,
        f"v.{_name}.{{e}}.{{v}}",
        _TWO,
        f"{_HORIZONTAL}%d = {_op}",
        parts(2, _pairwise(_pair)),
        "Neighbouring lanes combined: a's pairs, then b's.",
    )


def _same_count(function: Callable[[int, int, int], int]) -> Callable[[int], Oracle]:
    """An oracle that applies `function(lane bits, x, count)` to every lane."""

    def make(lane: int) -> Oracle:
        return lambda width, a, count: join((function(lane, x, count) for x in split(a, lane, width)), lane)

    return make


_COUNT = "%in = icmp ult i64 $b, {b}\n%n = select i1 %in, i64 $b, i64 0\n%k = {resize} i64 %n to {E}\n"
_SPLAT = "%one = insertelement {L} poison, {E} %k, i64 0\n"
_SPLAT += "%many = shufflevector {L} %one, {L} poison, <{n} x i32> zeroinitializer\n"
for _name, _llvm, _out in (("shl", "shl", "left"), ("shr", "lshr", "right, logical")):

    def _shift(w: int, a: int, b: int, left: bool = _name == "shl") -> int:
        return 0 if b >= w else a << b if left else a >> b

    for _kinds, _resize in (("i16 i32", "trunc"), ("i64", "add"), ("i128", "zext")):
        _text = _COUNT.replace(
            "{resize} i64 %n to {E}", "add i64 %n, 0" if _resize == "add" else f"{_resize} i64 %n to {{E}}"
        )
        lanes(
            _kinds,
            f"v.{_name}.{{e}}.{{v}}",
            "{v} i64 -> {v}",
            _text
            + _SPLAT
            + f"%s = {_llvm} {{L}} %a, %many\n%d = select i1 %in, {{L}} %s, {{L}} zeroinitializer",
            _same_count(_shift),
            f"Every lane shifted {_out} by the same count; 0 when the count reaches the lane.",
        )
for _kinds, _resize in (("i16 i32", "%k = trunc i64 %n to {E}\n"), ("i64", "%k = add i64 %n, 0\n")):
    lanes(
        _kinds,
        "v.sar.{e}.{v}",
        "{v} i64 -> {v}",
        "%n = call i64 @llvm.umin.i64(i64 $b, i64 {m})\n" + _resize + _SPLAT + "%d = ashr {L} %a, %many",
        _same_count(lambda lane, x, count: signed(x, lane) >> min(count, lane - 1)),
        "Every lane shifted right, arithmetic, by the same count, which saturates.",
        rare=_kinds == "i64",
    )

lanes(
    "i16",
    "v.minpos.{e}.{v}",
    "{v} -> {v}",
    "%d = call {L} @llvm.x86.sse41.phminposuw({L} %a)",
    parts(1, lambda lane, a: min(a) | a.index(min(a)) << 16),
    "The smallest unsigned lane, and above it its index (PHMINPOSUW).",
    wide=False,
)


def _mpsad(lane: int, a: list[int], b: list[int], imm: int) -> int:
    start, block = (imm >> 2 & 1) * 4, b[(imm & 3) * 4 :][:4]
    return join((sum(abs(a[start + i + j] - block[j]) for j in range(4)) for i in range(8)), 16)


lanes(
    "i8",
    "v.mpsad.{e}.{v}",
    _TWO,
    "%as1 = and i64 $imm, 4\n%as2 = shl i64 %as1, 3\n%as = zext i64 %as2 to {V}\n%a0 = lshr {V} $a, %as\n"
    "%bs1 = and i64 $imm, 3\n%bs2 = shl i64 %bs1, 5\n%bs = zext i64 %bs2 to {V}\n%b0 = lshr {V} $b, %bs\n"
    "%x = bitcast {V} %a0 to {L}\n%y = bitcast {V} %b0 to {L}\n"
    "%r = call <8 x i16> @llvm.x86.sse41.mpsadbw({L} %x, {L} %y, i8 0)\n$d = bitcast <8 x i16> %r to {V}",
    parts(2, _mpsad),
    "Eight sums of absolute differences of four bytes at a sliding place; imm chooses the places (MPSADBW).",
    wide=False,
    imm=True,
)

for _lane in ("i8", "i16", "f32", "f64"):
    _bits = LANE_BITS[_lane]
    for _t in BUILT:
        _n = _t.bits // _bits
        _sign = (
            f"%x = bitcast {_t.llvm} $a to <{_n} x i{_bits}>\n"
            f"%s = icmp slt <{_n} x i{_bits}> %x, zeroinitializer\n"
        )
        row(
            f"v.movemask.{_lane}.{_t}",
            f"{_t} -> i64",
            _sign
            + (
                "$d = bitcast <64 x i1> %s to i64"
                if _n == 64
                else f"%m = bitcast <{_n} x i1> %s to i{_n}\n$d = zext i{_n} %m to i64"
            ),
            lambda w, a, bits=_bits, width=_t.bits: sum(
                (x >> bits - 1) << i for i, x in enumerate(split(a, bits, width))
            ),
            "The sign bits of the lanes, gathered.",
        )

for _t in BUILT[:2]:
    row(
        f"flags.test.{_t}",
        f"{_t} {_t} ->",
        f"""
%both = and {_t.llvm} $a, $b
%z = icmp ne {_t.llvm} %both, 0
$new.nz = zext i1 %z to i64
%n = xor {_t.llvm} $a, -1
%rest = and {_t.llvm} %n, $b
%c = icmp eq {_t.llvm} %rest, 0
$new.cf = zext i1 %c to i64
$new.of = add i64 0, 0
$new.af = add i64 0, 0
$new.pf = add i64 1, 0
""",
        lambda w, state, a, b: {"nz": int(a & b != 0), "cf": int(~a & b == 0), "of": 0, "af": 0, "pf": 1},
        "ZF: no bit of b is set in a; CF: every bit of b is set in a; the other flags 0 (PTEST).",
        writes=FLAGS,
    )
