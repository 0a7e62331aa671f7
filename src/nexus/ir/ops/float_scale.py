"""Scaling, ranges, rounding to fractions and fixing up of floating-point lanes (AVX-512)."""

from __future__ import annotations

from math import floor

from nexus.ir.ops import float_model as model
from nexus.ir.ops.float_model import F16, F32, F64, FINITE, INF, NAN, ZERO, Number
from nexus.ir.ops.float_parts import (
    DE,
    IE,
    ZE,
    classes,
    constants,
    float_rows,
    raised,
    start,
)
from nexus.ir.ops.vector import each, lanes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.float_model import Format
    from nexus.ir.ops.vector import Oracle

_LLVM = {16: "half", 32: "float", 64: "double"}
_TWO = "{v} {v} -> {v}"

# a * 2**floor(b) ---------------------------------------------------------------------------------------


def _scalef(fmt: Format, x: int, y: int, mode: int) -> tuple[int, int]:
    a, b = Number(fmt, x), Number(fmt, y)
    status = IE * (a.signalling or b.signalling) | DE * (a.denormal and b.kind != NAN)
    if a.kind == NAN:
        if not a.signalling and b.kind == INF:
            return (fmt.zero(0) if b.sign else fmt.infinity(0)), status
        return a.bits | fmt.quiet, status
    if b.kind == NAN:
        return b.bits | fmt.quiet, status
    if b.kind == INF:
        if a.kind == (INF if b.sign else ZERO):
            return fmt.default_nan, status | IE
        return (fmt.zero(a.sign) if b.sign else fmt.infinity(a.sign)), status
    if a.kind != FINITE:
        return x, status
    power = floor((-b.m if b.sign else b.m) * 2.0**b.e) if b.e < 10 else (-5000 if b.sign else 5000)
    result, more = model.encode(fmt, a.sign, a.m, a.e + max(-5000, min(5000, power)), mode)
    return result, status | more & 63


def _scalef_text(fmt: Format) -> str:
    number = f"<{{n}} x {_LLVM[fmt.bits]}>"
    bound = 4 * fmt.bias - 10 if fmt is F16 else 2 * fmt.bias - 8
    text = start(fmt) + classes("a", fmt, normalised=True) + classes("b", fmt)
    # the power: beyond 2**13 it makes no difference; a NaN gives 0
    text += f"%huge0 = icmp uge {{L}} %absb, splat ({{e}} {fmt.bias + 13 << fmt.field})\n"
    text += "%minus = icmp slt {L} %b, zeroinitializer\n"
    text += "%far = select {bools} %minus, {L} splat ({e} -8192), {L} splat ({e} 8192)\n"
    text += "%near = select {bools} %huge0, {L} zeroinitializer, {L} %b\n"
    text += f"%fb = bitcast {{L}} %near to {number}\n"
    if fmt is F64:
        text += "%fl = call <{n} x double> @llvm.floor.v{n}f64(<{n} x double> %fb)\n"
        text += "%short = fptosi <{n} x double> %fl to <{n} x i32>\n%n0 = sext <{n} x i32> %short to {L}\n"
    elif fmt is F32:
        text += "%fl = call <{n} x float> @llvm.floor.v{n}f32(<{n} x float> %fb)\n"
        text += "%n0 = fptosi <{n} x float> %fl to {L}\n"
    else:
        text += "%wb = fpext <{n} x half> %fb to <{n} x float>\n"
        text += "%fl = call <{n} x float> @llvm.floor.v{n}f32(<{n} x float> %wb)\n"
        text += "%long = fptosi <{n} x float> %fl to <{n} x i32>\n%n0 = trunc <{n} x i32> %long to {L}\n"
    text += "%power = select {bools} %huge0, {L} %far, {L} %n0\n%sum = add {L} %exponenta, %power\n"
    text += f"%e3 = call {{L}} @llvm.smax.v{{n}}{{e}}({{L}} %sum, {{L}} splat ({{e}} {-bound}))\n"
    text += f"%e5 = call {{L}} @llvm.smin.v{{n}}{{e}}({{L}} %e3, {{L}} splat ({{e}} {bound}))\n"
    # in two steps, of which only the second can be inexact
    text += "%specials0 = or {bools} %nana, %infa\n%specials1 = or {bools} %nanb, %infb\n"
    text += "%specials2 = or {bools} %specials0, %specials1\n%special = or {bools} %specials2, %zeroa\n"
    # decided here: a choice between numbers LLVM might make after computing with both
    text += "%e4 = select {bools} %special, {L} zeroinitializer, {L} %e5\n"
    if fmt is F16:
        text += _in_singles()
    else:
        text += "%first = ashr {L} %e4, splat ({e} 1)\n%second = sub {L} %e4, %first\n"
        text += "%p0 = add {L} %first, <BIAS>\n%p1 = shl {L} %p0, <FIELD>\n%p2 = or {L} %p1, %fractiona\n"
        text += "%p = or {L} %p2, %signa\n"
        text += "%q0 = add {L} %second, <BIAS>\n%q = shl {L} %q0, <FIELD>\n"
        text += f"%fp = bitcast {{L}} %p to {number}\n%fq = bitcast {{L}} %q to {number}\n"
        text += f"%product = fmul {number} %fp, %fq\n%r0 = bitcast {number} %product to {{L}}\n"
    text += "%same = or {bools} %infa, %zeroa\n%r1 = select {bools} %same, {L} %a, {L} %r0\n"
    text += "%zeros = select {bools} %zeroa, {L} %signa, {L} %r1\n"
    # b is infinite
    text += "%w0 = select {bools} %negativeb, {bools} %infa, {bools} %zeroa\n%w = and {bools} %w0, %infb\n"
    text += "%i0 = or {L} %signa, <INF>\n%i1 = select {bools} %negativeb, {L} %signa, {L} %i0\n"
    text += (
        "%i2 = select {bools} %w, {L} <DEFAULT>, {L} %i1\n%r2 = select {bools} %infb, {L} %i2, {L} %zeros\n"
    )
    text += "%r3 = select {bools} %nanb, {L} %quietb, {L} %r2\n"
    text += "%j = select {bools} %negativeb, {L} zeroinitializer, {L} <INF>\n"
    text += "%silent0 = xor {bools} %snana, splat (i1 true)\n%silent = and {bools} %silent0, %infb\n"
    text += "%k = select {bools} %silent, {L} %j, {L} %quieta\n%d = select {bools} %nana, {L} %k, {L} %r3\n"
    text += "%v0 = or {bools} %snana, %snanb\n%number = xor {bools} %nana, splat (i1 true)\n"
    text += "%w2 = and {bools} %w, %number\n%invalid = or {bools} %v0, %w2\n"
    text += "%nob = xor {bools} %nanb, splat (i1 true)\n%denormal = and {bools} %tinya, %nob\n"
    return text + raised(("%invalid", IE), ("%denormal", DE))


def _in_singles() -> str:
    """Half precision: exactly in single precision, then made narrower."""
    wide = "<{n} x i32>"
    text = f"%ex = sext {{L}} %e4 to {wide}\n%fr = zext {{L}} %fractiona to {wide}\n"
    text += f"%sg = zext {{L}} %signa to {wide}\n"
    text += f"%p0 = add {wide} %ex, splat (i32 127)\n%p1 = shl {wide} %p0, splat (i32 23)\n"
    text += f"%p2 = shl {wide} %fr, splat (i32 13)\n%p3 = shl {wide} %sg, splat (i32 16)\n"
    text += f"%p4 = or {wide} %p1, %p2\n%p = or {wide} %p4, %p3\n"
    text += "%fp = bitcast <{n} x i32> %p to <{n} x float>\n"
    text += "%product = fptrunc <{n} x float> %fp to <{n} x half>\n"
    return text + "%r0 = bitcast <{n} x half> %product to {L}\n"


float_rows(
    "f16 f32 f64",
    "scalef",
    _TWO,
    _scalef_text,
    _scalef,
    "a times two to the power of floor(b) (VSCALEF).",
    rounds=True,
)

# ranges ------------------------------------------------------------------------------------------------


def _range(fmt: Format, x: int, y: int, imm: int) -> tuple[int, int]:
    a, b = Number(fmt, x), Number(fmt, y)
    for number in (a, b):
        if number.signalling:
            return number.bits | fmt.quiet, IE
    status = DE * (a.denormal or b.denormal)
    sign = 1 << fmt.bits - 1

    def key(bits: int) -> tuple[int, int]:
        size = bits & sign - 1
        whole = -size - 1 if bits & sign else size
        return (size if imm & 2 else whole), whole

    if b.kind == NAN:
        chosen = x
    elif a.kind == NAN:
        chosen = y
    else:
        chosen = (max if imm & 1 else min)(x, y, key=key)
    size = chosen & sign - 1
    return (x & sign | size, chosen, size, size | sign)[imm >> 2 & 3], status


def _range_text(fmt: Format) -> str:
    text = start(fmt) + classes("a", fmt) + classes("b", fmt)
    for n in (1, 2, 4, 8):
        text += f"%i{n} = and i64 $imm, {n}\n%b{n} = icmp ne i64 %i{n}, 0\n"
    for p in "ab":
        text += f"%v{p} = select {{bools}} %zero{p}, {{L}} %sign{p}, {{L}} %{p}\n"  # a denormal may be zero
        text += f"%m{p} = and {{L}} %v{p}, <ABS>\n%s{p} = ashr {{L}} %v{p}, <TOP>\n"
        text += f"%t{p} = and {{L}} %s{p}, <ABS>\n%k{p} = xor {{L}} %v{p}, %t{p}\n"
    text += "%below = icmp slt {L} %ka, %kb\n%less = icmp ult {L} %ma, %mb\n%same = icmp eq {L} %ma, %mb\n"
    text += "%tie = and {bools} %same, %below\n%near = or {bools} %less, %tie\n"
    text += "%first0 = select i1 %b2, {bools} %near, {bools} %below\n"
    text += "%other = xor {bools} %first0, splat (i1 true)\n"
    text += "%first = select i1 %b1, {bools} %other, {bools} %first0\n"
    text += "%c0 = select {bools} %first, {L} %va, {L} %vb\n%c1 = select {bools} %nana, {L} %vb, {L} %c0\n"
    text += "%c = select {bools} %nanb, {L} %va, {L} %c1\n%size = and {L} %c, <ABS>\n"
    text += "%r0 = or {L} %size, %signa\n%r1 = or {L} %size, <SIGN>\n"
    text += "%r2 = select i1 %b4, {L} %c, {L} %r0\n%r3 = select i1 %b4, {L} %r1, {L} %size\n"
    text += "%r = select i1 %b8, {L} %r3, {L} %r2\n%q0 = select {bools} %snanb, {L} %quietb, {L} %r\n"
    text += "%d = select {bools} %snana, {L} %quieta, {L} %q0\n%invalid = or {bools} %snana, %snanb\n"
    text += "%valid = xor {bools} %invalid, splat (i1 true)\n%tiny = or {bools} %tinya, %tinyb\n"
    text += "%denormal = and {bools} %tiny, %valid\n"
    return text + raised(("%invalid", IE), ("%denormal", DE))


float_rows(
    "f32 f64",
    "range",
    _TWO,
    _range_text,
    _range,
    "The smaller or larger of two, or of their magnitudes, with the sign that imm says (VRANGE).",
    imm=True,
)

# rounding to 2**-M -------------------------------------------------------------------------------------


def _raised_by(fmt: Format, x: int, imm: int) -> tuple[int, int]:
    number, more = Number(fmt, x), imm >> 4
    size = x & (1 << fmt.bits - 1) - 1
    if size >= fmt.bias + fmt.field - more << fmt.field:
        return (x if number.kind == NAN else 0), 0
    if number.denormal:
        return number.sign << fmt.bits - 1 | 1 << fmt.field, 0
    return (x if number.kind == ZERO else x + (more << fmt.field)), 0


def _raised_text(fmt: Format) -> str:
    text = start(fmt) + classes("a", fmt) + "%m64 = lshr i64 $imm, 4\n%m32 = and i64 %m64, 15\n"
    text += "%m = add i64 %m32, 0\n" if fmt is F64 else "%m = trunc i64 %m32 to {e}\n"
    text += "%m1 = insertelement {L} poison, {e} %m, i64 0\n"
    text += (
        "%ms = shufflevector {L} %m1, {L} poison, <{n} x i32> zeroinitializer\n%mf = shl {L} %ms, <FIELD>\n"
    )
    text += f"%least = sub {{L}} splat ({{e}} {fmt.bias + fmt.field << fmt.field}), %mf\n"
    text += "%big = icmp uge {L} %absa, %least\n%r0 = add {L} %a, %mf\n%r1 = or {L} %signa, <NORMAL>\n"
    text += (
        "%r2 = select {bools} %tinya, {L} %r1, {L} %r0\n%r3 = select {bools} %zeroa, {L} %signa, {L} %r2\n"
    )
    text += "%r4 = select {bools} %big, {L} zeroinitializer, {L} %r3\n"
    text += "%d = select {bools} %nana, {L} %a, {L} %r4\n"
    return text + "$new.mxcsr = add i64 $mxcsr, 0"


float_rows(
    "f32 f64",
    "fraction_up",
    "{v} -> {v}",
    _raised_text,
    _raised_by,
    "a times 2**(imm >> 4), to be rounded to an integral value; 0 where a has no such fraction.",
    imm=True,
)


def _lowered(fmt: Format) -> str:
    text = "%m64 = lshr i64 $imm, 4\n%m32 = and i64 %m64, 15\n"
    text += "%m = add i64 %m32, 0\n" if fmt is F64 else "%m = trunc i64 %m32 to {e}\n"
    text += "%m1 = insertelement {L} poison, {e} %m, i64 0\n"
    text += (
        "%ms = shufflevector {L} %m1, {L} poison, <{n} x i32> zeroinitializer\n%mf = shl {L} %ms, <FIELD>\n"
    )
    text += f"%least = sub {{L}} splat ({{e}} {fmt.bias + fmt.field << fmt.field}), %mf\n"
    text += "%abs = and {L} %a, <ABS>\n%big = icmp uge {L} %abs, %least\n%nan = icmp ugt {L} %abs, <INF>\n"
    text += "%size = and {L} %b, <ABS>\n%none = icmp eq {L} %size, zeroinitializer\n%r0 = sub {L} %b, %mf\n"
    text += "%r1 = select {bools} %none, {L} %b, {L} %r0\n%r2 = select {bools} %big, {L} %a, {L} %r1\n"
    return text + "%q = or {L} %a, <QUIET>\n%d = select {bools} %nan, {L} %q, {L} %r2"


def _lowered_by(fmt: Format, x: int, y: int, imm: int) -> int:
    more, mask = imm >> 4, (1 << fmt.bits - 1) - 1
    if Number(fmt, x).kind == NAN:
        return x | fmt.quiet
    if x & mask >= fmt.bias + fmt.field - more << fmt.field:
        return x
    return y - (more << fmt.field) if y & mask else y


def _lowered_oracle(fmt: Format) -> Callable[[int], Oracle]:
    def make(lane: int) -> Oracle:
        return lambda width, a, b, imm: each(lambda w, x, y: _lowered_by(fmt, x, y, imm))(lane)(width, a, b)

    return make


for _kind, _fmt in (("f16", F16), ("f32", F32), ("f64", F64)):
    _text, _finite = (
        _lowered(_fmt),
        "%abs = and {L} %a, <ABS>\n%m = icmp ne {L} %abs, <INF>\n%d = sext {bools} %m to {L}",
    )
    for _key, _value in constants(_fmt).items():
        _text, _finite = _text.replace(_key, _value), _finite.replace(_key, _value)
    if _fmt is not F16:
        lanes(
            f"i{_fmt.bits}",
            f"v.fraction_down.{_kind}.{{v}}",
            _TWO,
            _text,
            _lowered_oracle(_fmt),
            "The integral b times 2**-(imm >> 4); a itself, quiet, where `fraction_up` gave none.",
            parts=False,
            imm=True,
            rare=True,
        )
    lanes(
        f"i{_fmt.bits}",
        f"v.not_infinite.{_kind}.{{v}}",
        "{v} -> {v}",
        _finite,
        each(lambda w, x, fmt=_fmt: -(Number(fmt, x).kind != INF)),
        "All ones but where a is infinite.",
        parts=False,
        rare=True,
    )

# fixing up ---------------------------------------------------------------------------------------------

_QNAN, _SNAN, _IS_ZERO, _IS_ONE, _NINF, _PINF, _NEGATIVE, _POSITIVE = range(8)
# bit of imm -> kind of operand that raises, and what
_RAISING = (
    (_IS_ZERO, ZE), (_IS_ZERO, IE), (_IS_ONE, ZE), (_IS_ONE, IE), (_SNAN, IE), (_NINF, IE), (_NEGATIVE, IE),
    (_PINF, IE),
)  # fmt: skip


def _responses(fmt: Format) -> dict[int, int]:
    """Those that are constants."""
    one, sign = fmt.bias << fmt.field, 1 << fmt.bits - 1
    largest = (fmt.top << fmt.field) - 1
    ninety = fmt.bias + 6 << fmt.field | 0b01101 << fmt.field - 5  # 1.40625 * 2**6
    half_pi = {32: 0x3FC90FDB, 64: 0x3FF921FB54442D18}[fmt.bits]
    half = fmt.bias - 1 << fmt.field
    return {
        3: fmt.default_nan, 4: fmt.infinity(1), 5: fmt.infinity(0), 7: sign, 8: 0, 9: one | sign, 10: one,
        11: half, 12: ninety, 13: half_pi, 14: largest, 15: largest | sign,
    }  # fmt: skip


def _fixup(fmt: Format, x: int, y: int, table: int, imm: int) -> tuple[int, int]:
    number = Number(fmt, y)
    if number.kind == NAN:
        token = _SNAN if number.signalling else _QNAN
    elif number.kind == ZERO:
        token = _IS_ZERO
    elif number.kind == INF:
        token = _NINF if number.sign else _PINF
    else:
        token = _IS_ONE if y == fmt.bias << fmt.field else _NEGATIVE if number.sign else _POSITIVE
    response = table >> 4 * token & 15
    status = 0
    for bit, (kind, flag) in enumerate(_RAISING):
        if imm >> bit & 1 and kind == token:
            status |= flag
    if response == 0:
        return x, status
    if response == 1:
        return y, status
    if response == 2:
        return y | fmt.infinity(0) | fmt.quiet, status
    if response == 6:
        return fmt.infinity(number.sign), status
    return _responses(fmt)[response], status


def _fixup_text(fmt: Format) -> str:
    text = start(fmt) + classes("b", fmt)
    text += "%vb = select {bools} %zerob, {L} %signb, {L} %b\n"  # a denormal may be zero
    text += "%isone = icmp eq {L} %b, <ONE>\n"
    text += "%t0 = select {bools} %negativeb, {L} splat ({e} 6), {L} splat ({e} 7)\n"
    text += "%t1 = select {bools} %isone, {L} splat ({e} 3), {L} %t0\n"
    text += "%t2 = select {bools} %negativeb, {L} splat ({e} 4), {L} splat ({e} 5)\n"
    text += "%t3 = select {bools} %infb, {L} %t2, {L} %t1\n"
    text += "%t4 = select {bools} %zerob, {L} splat ({e} 2), {L} %t3\n"
    text += "%t5 = select {bools} %snanb, {L} splat ({e} 1), {L} zeroinitializer\n"
    text += "%token = select {bools} %nanb, {L} %t5, {L} %t4\n"
    text += (
        "%at = shl {L} %token, splat ({e} 2)\n%s = lshr {L} %c, %at\n%response = and {L} %s, splat ({e} 15)\n"
    )
    text += "%qn0 = or {L} %vb, <INF>\n%qn = or {L} %qn0, <QUIET>\n%si = or {L} %signb, <INF>\n"
    choices = {1: "%vb", 2: "%qn", 6: "%si"}
    choices |= {
        n: f"splat ({{e}} {value - (value >> fmt.bits - 1 << fmt.bits)})"
        for n, value in _responses(fmt).items()
    }
    result = "%a"
    for n, choice in choices.items():
        text += f"%is{n} = icmp eq {{L}} %response, splat ({{e}} {n})\n"
        text += f"%r{n} = select {{bools}} %is{n}, {{L}} {choice}, {{L}} {result}\n"
        result = f"%r{n}"
    text += f"%d = or {{L}} {result}, zeroinitializer\n"
    flags = []
    for bit, (kind, flag) in enumerate(_RAISING):
        text += f"%k{bit} = and i64 $imm, {1 << bit}\n%w{bit} = icmp ne i64 %k{bit}, 0\n"
        text += f"%x{bit} = icmp eq {{L}} %token, splat ({{e}} {kind})\n"
        text += f"%y{bit} = select i1 %w{bit}, {{bools}} %x{bit}, {{bools}} zeroinitializer\n"
        flags.append((f"%y{bit}", flag))
    return text + raised(*flags)


float_rows(
    "f32 f64",
    "fixup",
    "{v} {v} {v} -> {v}",
    _fixup_text,
    _fixup,
    "a, b or a constant, as c's table says for a number of b's kind (VFIXUPIMM).",
    imm=True,
)

# 1 / a and 1 / sqrt(a) ---------------------------------------------------------------------------------

for _kind, _fmt in (("f32", F32), ("f64", F64)):

    def _inverse(w: int, a: int, fmt: Format = _fmt) -> int:
        return model.divide(fmt, fmt.bias << fmt.field, a)[0]

    lanes(
        _kind,
        "v.inverse.{e}.{v}",
        "{v} -> {v}",
        "%d = fdiv {L} splat ({E} 1.0), %a",
        each(_inverse),
        "1 / a, rounded.",
        rare=True,
    )

    def _inverse_root(w: int, a: int, fmt: Format = _fmt) -> int:
        wide = model.convert(fmt, F64, a)[0] if fmt is F32 else a
        root = model.square_root(F64, wide)[0]
        found = model.divide(F64, F64.bias << F64.field, root)[0]
        return model.convert(F64, fmt, found)[0] if fmt is F32 else found

    _root = "<{n} x double>"
    _wide = (
        "%x = fpext {L} %a to <{n} x double>\n"
        if _kind == "f32"
        else "%x = fadd {L} %a, splat (double -0.0)\n"
    )
    lanes(
        _kind,
        "v.inverse_root.{e}.{v}",
        "{v} -> {v}",
        _wide
        + f"%s = call {_root} @llvm.sqrt.v{{n}}f64({_root} %x)\n%q = fdiv {_root} splat (double 1.0), %s\n"
        + (
            "%d = fptrunc <{n} x double> %q to {L}"
            if _kind == "f32"
            else "%d = fadd {L} %q, splat (double -0.0)"
        ),
        each(_inverse_root),
        "1 / sqrt(a), of a double-precision root and quotient.",
        parts=False,
        rare=True,
    )
