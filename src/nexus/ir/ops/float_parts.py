"""Exponents, significands and classes of floating-point lanes (AVX-512), in integer arithmetic.

Exceptions that the arithmetic of the host does not raise are put into MXCSR by the rows themselves; whether
denormals count as zeros is read there.
"""

from __future__ import annotations

from nexus.ir.ops.float_model import F16, F32, F64, FINITE, INF, NAN, ZERO, Number
from nexus.ir.ops.vector import join, lanes, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nexus.ir.ops.float_model import Format
    from nexus.ir.ops.vector import Oracle

KINDS = {"f16": F16, "f32": F32, "f64": F64}
IE, DE, ZE = 1, 2, 4
_DAZ = 64


def constants(fmt: Format) -> dict[str, str]:
    """What templates write in angle brackets: numbers of a format's encoding."""
    field, top = fmt.field, fmt.top << fmt.field
    numbers = {
        "SIGN": -(1 << fmt.bits - 1),
        "ABS": (1 << fmt.bits - 1) - 1,
        "INF": top,
        "NINF": fmt.infinity(1) - (1 << fmt.bits),
        "NORMAL": 1 << field,
        "FRACTION": (1 << field) - 1,
        "FIELD": field,
        "QUIET": fmt.quiet,
        "DEFAULT": fmt.default_nan - (1 << fmt.bits),
        "ONE": fmt.bias << field,
        "BIAS": fmt.bias,
        "LEAST": fmt.bias - 1 + field,
        "TOP": fmt.bits - 1,
        "SHIFT": fmt.bits - 1 - field,
    }
    return {f"<{name}>": f"splat ({{e}} {number})" for name, number in numbers.items()}


# of the lanes %{p}: sign, magnitude and kind
_CLASSES = """
%sign{p} = and {L} %{p}, <SIGN>
%abs{p} = and {L} %{p}, <ABS>
%nan{p} = icmp ugt {L} %abs{p}, <INF>
%inf{p} = icmp eq {L} %abs{p}, <INF>
%noquiet{p} = and {L} %{p}, <QUIET>
%signalling{p} = icmp eq {L} %noquiet{p}, zeroinitializer
%snan{p} = and {bools} %nan{p}, %signalling{p}
%low{p} = icmp ult {L} %abs{p}, <NORMAL>
%null{p} = icmp eq {L} %abs{p}, zeroinitializer
%flushed{p} = select i1 %daz, {bools} %low{p}, {bools} zeroinitializer
%zero{p} = or {bools} %null{p}, %flushed{p}
%nonzero{p} = xor {bools} %zero{p}, splat (i1 true)
%tiny{p} = and {bools} %low{p}, %nonzero{p}
%negative{p} = icmp slt {L} %{p}, zeroinitializer
%quiet{p} = or {L} %{p}, <QUIET>
"""
# %exponent and %fraction of the finite lanes %{p}, as if they were normal
_NORMALISED = """
%leading{p} = call {L} @llvm.ctlz.v{n}{e}({L} %abs{p}, i1 false)
%place{p} = sub {L} <TOP>, %leading{p}
%e1{p} = sub {L} %place{p}, <LEAST>
%field{p} = lshr {L} %abs{p}, <FIELD>
%e2{p} = sub {L} %field{p}, <BIAS>
%exponent{p} = select {bools} %low{p}, {L} %e1{p}, {L} %e2{p}
%up0{p} = sub {L} %leading{p}, <SHIFT>
%up{p} = select {bools} %tiny{p}, {L} %up0{p}, {L} zeroinitializer
%lifted{p} = shl {L} %abs{p}, %up{p}
%fraction{p} = and {L} %lifted{p}, <FRACTION>
"""


def classes(letter: str, fmt: Format, normalised: bool = False) -> str:
    """The text that describes the lanes of an operand."""
    text = _CLASSES + (_NORMALISED if normalised else "")
    return text.replace("{p}", letter)


def start(fmt: Format) -> str:
    """`%daz`; half precision takes denormals as they are."""
    if fmt is F16:
        return "%daz = icmp ne i64 0, 0\n"
    return f"%dazs = and i64 $mxcsr, {_DAZ}\n%daz = icmp ne i64 %dazs, 0\n"


def raised(*what: tuple[str, int]) -> str:
    """MXCSR with a bit for each vector of i1 that has one set."""
    text, total = "", "$mxcsr"
    for n, (lanes_of, bit) in enumerate(what):
        text += f"%lanes{n} = bitcast {{bools}} {lanes_of} to i{{n}}\n%set{n} = icmp ne i{{n}} %lanes{n}, 0\n"
        text += f"%bit{n} = select i1 %set{n}, i64 {bit}, i64 0\n%flags{n} = or i64 {total}, %bit{n}\n"
        total = f"%flags{n}"
    return text + f"$new.mxcsr = add i64 {total}, 0"


def float_rows(
    kinds: str,
    name: str,
    signature: str,
    text: Callable[[Format], str],
    function: Callable[..., tuple[int, int]],
    doc: str,
    rounds: bool = False,
    **kw: Any,
) -> None:
    """A row per format and vector: `text(format)` in integer lanes, with `constants`; the oracle applies
    `function(format, lanes of the operands, other operands)`, which returns a lane and the flags; with
    `rounds` it gets MXCSR's rounding as `mode`."""
    for kind in kinds.split():
        fmt = KINDS[kind]
        filled = text(fmt)
        for key, value in constants(fmt).items():
            filled = filled.replace(key, value)
        count = signature.split("->")[0].split().count("{v}")
        lanes(
            f"i{fmt.bits}",
            f"v.{name}.{kind}.{{v}}",
            signature,
            filled,
            _oracle(fmt, count, function, rounds),
            doc,
            parts=False,
            reads=("mxcsr",),
            writes=("mxcsr",),
            avx=fmt is F16,
            **kw,
            rare=True,
        )


def _oracle(
    fmt: Format, count: int, function: Callable[..., tuple[int, int]], rounds: bool
) -> Callable[[int], Oracle]:
    def make(lane: int) -> Oracle:
        def oracle(width: int, state: dict[str, int], *operands: int) -> tuple[int, dict[str, int]]:
            columns = zip(*(split(v, lane, width) for v in operands[:count]), strict=True)
            mxcsr = state["mxcsr"]
            mode = {"mode": mxcsr >> 13 & 3} if rounds else {}
            done = [function(fmt, *column, *operands[count:], **mode) for column in columns]
            for _, status in done:
                mxcsr |= status
            return join((result for result, _ in done), lane), {"mxcsr": mxcsr}

        return oracle

    return make


def exponent(number: Number, fmt: Format) -> int:
    """floor(log2) of a finite number."""
    return number.e + number.m.bit_length() - 1


def nan_or_none(fmt: Format, number: Number) -> tuple[int, int] | None:
    """The NaN made quiet, if it is one."""
    return (number.bits | fmt.quiet, IE * number.signalling) if number.kind == NAN else None


# the exponent ------------------------------------------------------------------------------------------


def _getexp(fmt: Format, x: int) -> tuple[int, int]:
    from nexus.ir.ops.float_model import from_integer

    number = Number(fmt, x)
    found = nan_or_none(fmt, number)
    if found:
        return found
    if number.kind != FINITE:
        return fmt.infinity(int(number.kind == ZERO)), 0
    return from_integer(fmt, exponent(number, fmt))[0], DE * number.denormal


def _getexp_text(fmt: Format) -> str:
    text = start(fmt) + classes("a", fmt, normalised=True)
    if fmt is F64:
        text += "%short = trunc {L} %exponenta to <{n} x i32>\n"
        text += "%number = sitofp <{n} x i32> %short to <{n} x double>\n"
    elif fmt is F32:
        text += "%number = sitofp {L} %exponenta to <{n} x float>\n"
    else:
        text += (
            "%long = sext {L} %exponenta to <{n} x i32>\n%wide = sitofp <{n} x i32> %long to <{n} x float>\n"
        )
        text += "%number = fptrunc <{n} x float> %wide to <{n} x half>\n"
    kind = {16: "half", 32: "float", 64: "double"}[fmt.bits]
    text += f"%r0 = bitcast <{{n}} x {kind}> %number to {{L}}\n"
    text += (
        "%r1 = select {bools} %zeroa, {L} <NINF>, {L} %r0\n%r2 = select {bools} %infa, {L} <INF>, {L} %r1\n"
    )
    return text + "%d = select {bools} %nana, {L} %quieta, {L} %r2\n" + raised(("%snana", IE), ("%tinya", DE))


float_rows(
    "f16 f32 f64",
    "getexp",
    "{v} -> {v}",
    _getexp_text,
    _getexp,
    "The exponent as a number (VGETEXP); minus infinity for zero.",
)

# the significand ---------------------------------------------------------------------------------------


def _getmant(fmt: Format, x: int, imm: int) -> tuple[int, int]:
    number = Number(fmt, x)
    found = nan_or_none(fmt, number)
    if found:
        return found
    sign = 0 if imm & 4 else number.sign
    if number.sign and imm & 8 and number.kind != ZERO:
        return fmt.default_nan, IE
    if number.kind != FINITE:
        return fmt.pack(sign, fmt.bias, 0), 0
    fraction = number.m << fmt.precision - number.m.bit_length() & (1 << fmt.field) - 1
    half = (False, exponent(number, fmt) & 1 == 1, True, bool(fraction >> fmt.field - 1))[imm & 3]
    return fmt.pack(sign, fmt.bias - half, fraction), DE * number.denormal


def _getmant_text(fmt: Format) -> str:
    text = start(fmt) + classes("a", fmt, normalised=True)
    text += "%i1 = and i64 $imm, 1\n%i2 = and i64 $imm, 2\n%i4 = and i64 $imm, 4\n%i8 = and i64 $imm, 8\n"
    text += "%b1 = icmp ne i64 %i1, 0\n%b2 = icmp ne i64 %i2, 0\n%b4 = icmp ne i64 %i4, 0\n"
    text += "%b8 = icmp ne i64 %i8, 0\n"
    text += "%odd0 = and {L} %exponenta, splat ({e} 1)\n%odd = icmp ne {L} %odd0, zeroinitializer\n"
    text += "%half0 = and {L} %fractiona, <QUIET>\n%half = icmp ne {L} %half0, zeroinitializer\n"
    text += "%x0 = select i1 %b1, {bools} %odd, {bools} zeroinitializer\n"
    text += "%x1 = select i1 %b1, {bools} %half, {bools} splat (i1 true)\n"
    text += "%less = select i1 %b2, {bools} %x1, {bools} %x0\n"
    text += "%lower = sub {L} <ONE>, <NORMAL>\n%exp = select {bools} %less, {L} %lower, {L} <ONE>\n"
    text += "%sign = select i1 %b4, {L} zeroinitializer, {L} %signa\n%whole = or {L} %exp, %fractiona\n"
    text += "%simple = or {bools} %zeroa, %infa\n%m = select {bools} %simple, {L} <ONE>, {L} %whole\n"
    text += "%r = or {L} %m, %sign\n%w1 = and {bools} %negativea, %nonzeroa\n"
    text += "%w2 = select i1 %b8, {bools} %w1, {bools} zeroinitializer\n"
    text += "%number = xor {bools} %nana, splat (i1 true)\n"
    text += "%wrong = and {bools} %w2, %number\n%q = select {bools} %wrong, {L} <DEFAULT>, {L} %r\n"
    text += "%d = select {bools} %nana, {L} %quieta, {L} %q\n%invalid = or {bools} %wrong, %snana\n"
    text += "%right = xor {bools} %wrong, splat (i1 true)\n%denormal = and {bools} %tinya, %right\n"
    return text + raised(("%invalid", IE), ("%denormal", DE))


float_rows(
    "f16 f32 f64",
    "getmant",
    "{v} -> {v}",
    _getmant_text,
    _getmant,
    "The significand in the interval, and with the sign, that imm says (VGETMANT).",
    imm=True,
)

# the class ---------------------------------------------------------------------------------------------


def _fpclass(fmt: Format, x: int, imm: int) -> tuple[int, int]:
    number = Number(fmt, x)
    if number.kind == NAN:
        place = 7 if number.signalling else 0
    elif number.kind == ZERO:
        place = 2 if number.sign else 1
    elif number.kind == INF:
        place = 4 if number.sign else 3
    else:
        places = (32 if number.denormal else 0) | (64 if number.sign else 0)
        return -(imm & places != 0), 0
    return -(imm >> place & 1), 0


def _fpclass_text(fmt: Format) -> str:
    text = start(fmt) + classes("a", fmt) + "%positivea = xor {bools} %negativea, splat (i1 true)\n"
    text += "%qnan0 = xor {bools} %snana, splat (i1 true)\n%qnan = and {bools} %nana, %qnan0\n"
    for name, one, other in (
        ("pzero", "zero", "positive"),
        ("nzero", "zero", "negative"),
        ("pinf", "inf", "positive"),
        ("ninf", "inf", "negative"),
    ):
        text += f"%{name} = and {{bools}} %{one}a, %{other}a\n"
    text += "%other = or {bools} %nana, %infa\n%none = or {bools} %other, %zeroa\n"
    text += "%some = xor {bools} %none, splat (i1 true)\n%neg = and {bools} %negativea, %some\n"
    total = "zeroinitializer"
    names = ("qnan", "pzero", "nzero", "pinf", "ninf", "tinya", "neg", "snana")
    for n, name in enumerate(names):
        text += f"%k{n} = and i64 $imm, {1 << n}\n%w{n} = icmp ne i64 %k{n}, 0\n"
        text += f"%t{n} = select i1 %w{n}, {{bools}} %{name}, {{bools}} zeroinitializer\n"
        text += f"%o{n} = or {{bools}} {total}, %t{n}\n"
        total = f"%o{n}"
    return text + f"%d = sext {{bools}} {total} to {{L}}\n$new.mxcsr = add i64 $mxcsr, 0"


float_rows(
    "f16 f32 f64",
    "fpclass",
    "{v} -> {v}",
    _fpclass_text,
    _fpclass,
    "All ones where the number is of one of the classes in imm (VFPCLASS).",
    imm=True,
)
