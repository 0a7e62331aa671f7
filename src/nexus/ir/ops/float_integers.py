"""Conversions between floats and integers that SSE has not: unsigned ones, and vectors of 64-bit integers.

Lane by lane with the host's scalar instructions, so that rounding and exceptions are its own. An unsigned
integer that does not exist is all ones, and raises "invalid" only: such a lane is converted from a NaN.
"""

from __future__ import annotations

from nexus.ir.ops import float_model as model
from nexus.ir.ops.float_model import CHOP, FINITE, FORMAT_OF_BITS, NEAREST, ZERO, Number
from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import row
from nexus.ir.ops.vector import BUILT, LLVM_LANES, holding, join, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.types import Type

_BITS = {"f32": 32, "f64": 64, "i16": 16, "u16": 16, "i32": 32, "i64": 64, "u32": 32, "u64": 64}
_LETTER = {"f32": "s", "f64": "d"}
_NAN = {"f32": "0x7FF8000000000000", "f64": "0x7FF8000000000000"}
_POWER = {
    15: "0x40E0000000000000",
    16: "0x40F0000000000000",
    31: "0x41E0000000000000",
    32: "0x41F0000000000000",
    63: "0x43E0000000000000",
    64: "0x43F0000000000000",
}
"""Powers of two as LLVM writes floats and doubles."""


def to_unsigned(bits: int, x: int, width: int, mode: int) -> int:
    """A float as an unsigned integer; all ones if there is none."""
    number = Number(FORMAT_OF_BITS[bits], x)
    if number.kind == ZERO:
        return 0
    if number.kind == FINITE:
        value, _, _ = model.shift_round(number.sign, number.m, -number.e, mode)
        if not value or (not number.sign and value < 1 << width):
            return value
    return (1 << width) - 1


def _to_integer(source: str, target: str, mode: int) -> Callable[[int], int]:
    width, fmt = _BITS[target], FORMAT_OF_BITS[_BITS[source]]
    if target[0] == "u":
        return lambda x: to_unsigned(fmt.bits, x, width, mode)
    return lambda x: model.to_integer(fmt, x, width, mode=mode)[0]


def _lane_to_integer(name: str, value: str, source: str, truncate: bool) -> str:
    """`name`: an i64 from an LLVM float."""
    text = f"{'vcvtt' if truncate else 'vcvt'}s{_LETTER[source]}2siq $1, $0"
    return f'{name} = call i64 asm "{text}", "=r,x"({LLVM_LANES[source]} {value})\n'


def _checked(source: str, target: str, count: int, truncate: bool) -> str:
    """From `%y`: `%z`, which can be converted to i64, `%in`, whether that is the result, and `%big`, whether
    it has been halved."""
    kind, width = f"<{count} x {LLVM_LANES[source]}>", _BITS[target]
    bools = f"<{count} x i1>"
    rounding = "trunc" if truncate else "nearbyint"
    text = f"%r = call {kind} @llvm.{rounding}.v{count}{source}({kind} %y)\n"
    element = LLVM_LANES[source]
    signed_one = target[0] == "i"
    least = "zeroinitializer"
    if signed_one:
        least = f"splat ({element} 0x{int(_POWER[width - 1], 16) | 1 << 63:X})"
    text += f"%c1 = fcmp oge {kind} %r, {least}\n"
    text += f"%c2 = fcmp olt {kind} %r, splat ({element} {_POWER[width - signed_one]})\n"
    text += f"%in = and {bools} %c1, %c2\n"
    text += f"%s = select {bools} %in, {kind} %y, {kind} splat ({element} {_NAN[source]})\n"
    if width == 32:
        return (
            text + f"%big = and {bools} %in, zeroinitializer\n%z = select {bools} %in, {kind} %s, {kind} %s\n"
        )
    # half of it by integer arithmetic: a choice between numbers LLVM might make after computing with both
    bits = _BITS[source]
    whole, step = f"<{count} x i{bits}>", 1 << (23 if source == "f32" else 52)
    text += f"%c3 = fcmp oge {kind} %r, splat ({element} {_POWER[63]})\n%big = and {bools} %in, %c3\n"
    text += f"%u = bitcast {kind} %s to {whole}\n%less = sub {whole} %u, splat (i{bits} {step})\n"
    text += f"%v = select {bools} %big, {whole} %less, {whole} %u\n"
    return text + f"%z = bitcast {whole} %v to {kind}\n"


def _to_integer_text(vector: Type, source: str, target: str, truncate: bool) -> str:
    bits, out = _BITS[source], _BITS[target]
    count = vector.bits // max(bits, out)
    take, give = holding(count * bits), holding(count * out)
    there, lanes = take.bits // bits, max(count, 128 // bits)  # the lanes beyond are 0 and raise nothing
    kind = f"<{there} x {LLVM_LANES[source]}>"
    places = ", ".join(f"i32 {i if i < count else there}" for i in range(lanes))
    text = f"%x = bitcast {take.llvm} $a to {kind}\n"
    text += f"%y = shufflevector {kind} %x, {kind} zeroinitializer, <{lanes} x i32> <{places}>\n"
    unsigned = target[0] == "u" or out == 16
    if unsigned:
        text += _checked(source, target, lanes, truncate)
    results = give.bits // out
    done = "zeroinitializer"
    value = "%z" if unsigned else "%y"
    for n in range(count):
        text += f"%e{n} = extractelement <{lanes} x {LLVM_LANES[source]}> {value}, i64 {n}\n"
        text += _lane_to_integer(f"%i{n}", f"%e{n}", source, truncate)
        last = f"%i{n}"
        if unsigned:
            text += f"%in{n} = extractelement <{lanes} x i1> %in, i64 {n}\n"
            if out == 64:
                text += f"%big{n} = extractelement <{lanes} x i1> %big, i64 {n}\n"
                text += f"%up{n} = shl i64 %i{n}, 1\n"
                text += f"%j{n} = select i1 %big{n}, i64 %up{n}, i64 %i{n}\n"
                last = f"%j{n}"
            none = -1 if target[0] == "u" else -(1 << out - 1)
            text += f"%k{n} = select i1 %in{n}, i64 {last}, i64 {none}\n"
            last = f"%k{n}"
        if out < 64:
            text += f"%t{n} = trunc i64 {last} to i{out}\n"
            last = f"%t{n}"
        text += f"%d{n} = insertelement <{results} x i{out}> {done}, i{out} {last}, i64 {n}\n"
        done = f"%d{n}"
    return text + f"$d = bitcast <{results} x i{out}> {done} to {give.llvm}"


def _lane_to_float(n: str, source: str, target: str) -> str:
    """`%f<n>`: an LLVM float from the i64 `%w<n>`; an unsigned one is halved if it is too large, its lowest
    bit kept for rounding, and the result doubled."""
    kind = LLVM_LANES[target]

    def one(name: str, value: str) -> str:
        asm = f'asm "vcvtsi2s{_LETTER[target]}q $1, $2, $0", "=x,r,x"'
        return f"{name} = call {kind} {asm}(i64 {value}, {kind} 0.0)\n"

    if source != "u64":
        return one(f"%f{n}", f"%w{n}")
    text = f"%h{n} = lshr i64 %w{n}, 1\n%l{n} = and i64 %w{n}, 1\n%o{n} = or i64 %h{n}, %l{n}\n"
    text += f"%n{n} = icmp slt i64 %w{n}, 0\n%q{n} = select i1 %n{n}, i64 %o{n}, i64 %w{n}\n"
    text += one(f"%g{n}", f"%q{n}") + f"%z{n} = fadd {kind} %g{n}, %g{n}\n"
    return text + f"%f{n} = select i1 %n{n}, {kind} %z{n}, {kind} %g{n}\n"


def _widened(n: str, source: str) -> str:
    if _BITS[source] == 64:
        return f"%w{n} = add i64 %v{n}, 0\n"
    return f"%w{n} = {'zext' if source[0] == 'u' else 'sext'} i32 %v{n} to i64\n"


def _to_float_text(vector: Type, source: str, target: str) -> str:
    bits, out = _BITS[source], _BITS[target]
    count = vector.bits // max(bits, out)
    take, give = holding(count * bits), holding(count * out)
    results, kind = give.bits // out, LLVM_LANES[target]
    text, done = f"%x = bitcast {take.llvm} $a to <{take.bits // bits} x i{bits}>\n", "zeroinitializer"
    for n in range(count):
        text += f"%v{n} = extractelement <{take.bits // bits} x i{bits}> %x, i64 {n}\n"
        text += _widened(str(n), source) + _lane_to_float(str(n), source, target)
        text += f"%d{n} = insertelement <{results} x {kind}> {done}, {kind} %f{n}, i64 {n}\n"
        done = f"%d{n}"
    return text + f"$d = bitcast <{results} x {kind}> {done} to {give.llvm}"


def _value(source: str, x: int) -> int:
    return x if source[0] == "u" else signed(x, _BITS[source])


def _vector_rows(source: str, target: str, name: str, truncate: bool, doc: str) -> None:
    bits, out = _BITS[source], _BITS[target]
    for vector in BUILT:
        count = vector.bits // max(bits, out)
        convert = _to_integer(source, target, CHOP if truncate else NEAREST) if source[0] == "f" else None

        def oracle(
            width: int, a: int, count: int = count, convert: Callable[[int], int] | None = convert
        ) -> int:
            values = split(a, bits, count * bits)
            if convert is not None:
                return join((convert(x) for x in values), out)
            fmt = FORMAT_OF_BITS[out]
            return join((model.from_integer(fmt, _value(source, x))[0] for x in values), out)

        def text(vector: Type = vector) -> str:
            if source[0] == "f":
                return _to_integer_text(vector, source, target, truncate)
            return _to_float_text(vector, source, target)

        row(
            f"v.{name}.{source}.{target}.{vector}",
            f"{holding(count * bits)} -> {holding(count * out)}",
            text,
            oracle,
            doc,
            bits=vector.bits,
            avx=True,
            rare=True,
        )


for _float, _integers in (("f32", "u32 i64 u64 i16 u16"), ("f64", "u32 i64 u64")):
    for _integer in _integers.split():
        for _name, _truncate in (("cvt", False), ("cvtt", True)):
            _how = "truncated" if _truncate else "rounded by MXCSR"
            _vector_rows(_float, _integer, _name, _truncate, f"Floats to {_integer}, {_how}; zero above.")
        if _BITS[_integer] > 16:
            _vector_rows(_integer, _float, "cvt", False, f"{_integer} to floats; zero above.")

# one lane, and a general register ----------------------------------------------------------------------


def _scalar_text(source: str, target: str, truncate: bool) -> str:
    kind, count = LLVM_LANES[source], 128 // _BITS[source]
    text = f"%x = bitcast i128 $a to <{count} x {kind}>\n"
    places = ", ".join(f"i32 {i if i == 0 else count}" for i in range(count))
    text += f"%y = shufflevector <{count} x {kind}> %x, <{count} x {kind}> zeroinitializer, "
    text += f"<{count} x i32> <{places}>\n" + _checked(source, target, count, truncate)
    text += f"%e = extractelement <{count} x {kind}> %z, i64 0\n" + _lane_to_integer(
        "%i", "%e", source, truncate
    )
    text += f"%in0 = extractelement <{count} x i1> %in, i64 0\n"
    text += f"%big0 = extractelement <{count} x i1> %big, i64 0\n"
    if _BITS[target] == 32:
        return text + "%k = select i1 %in0, i64 %i, i64 -1\n$d = trunc i64 %k to i32"
    text += "%up = shl i64 %i, 1\n%j = select i1 %big0, i64 %up, i64 %i\n"
    return text + "$d = select i1 %in0, i64 %j, i64 -1"


def _later(kind: str, integer: str, truncate: bool) -> Callable[[], str]:
    return lambda: _scalar_text(kind, integer, truncate)


def _lowest(convert: Callable[[int], int], mask: int) -> Callable[[int, int], int]:
    return lambda w, a: convert(a & mask)


def _scalar_rows(kind: str, integer: str) -> None:
    bits, width = _BITS[kind], _BITS[integer]
    mask = (1 << bits) - 1
    for name, truncate in (("cvt", False), ("cvtt", True)):
        convert = _to_integer(kind, integer, CHOP if truncate else NEAREST)
        row(
            f"v.{name}.{kind}x1.{integer}",
            f"v128 -> i{width}",
            _later(kind, integer, truncate),
            _lowest(convert, mask),
            f"The lowest lane as an unsigned integer, {'truncated' if truncate else 'rounded by MXCSR'}.",
            avx=True,
            rare=True,
        )
    lanes, element = 128 // bits, LLVM_LANES[kind]
    text = f"%x = bitcast i128 $a to <{lanes} x {element}>\n%v = add i{width} $b, 0\n"
    text += _widened("", integer) + _lane_to_float("", integer, kind)
    text += f"%r = insertelement <{lanes} x {element}> %x, {element} %f, i64 0\n"
    row(
        f"v.cvt.{integer}.{kind}x1",
        f"v128 i{width} -> v128",
        text + f"$d = bitcast <{lanes} x {element}> %r to i128",
        lambda w, a, b: a & ~mask | model.from_integer(FORMAT_OF_BITS[bits], b)[0],
        "a with its lowest lane replaced by the converted unsigned integer.",
        avx=True,
        rare=True,
    )


for _float in ("f32", "f64"):
    for _integer in ("u32", "u64"):
        _scalar_rows(_float, _integer)
