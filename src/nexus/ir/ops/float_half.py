"""What half precision and bfloat16 take beside the rows of wider formats (AVX-512)."""

from __future__ import annotations

from nexus.ir.ops.float_model import F32, F64, FINITE, NAN, ZERO, Number
from nexus.ir.ops.float_parts import DE, classes, constants, float_rows, raised, start
from nexus.ir.ops.table import row
from nexus.ir.ops.vector import BUILT, LONG_ENOUGH, join, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.float_model import Format
    from nexus.ir.types import Type

# denormals ---------------------------------------------------------------------------------------------


def _denormals(fmt: Format, *lanes: int) -> tuple[int, int]:
    numbers = [Number(fmt, x) for x in lanes]
    nan = any(n.kind == NAN for n in numbers)
    return 0, DE * (not nan and any(n.denormal for n in numbers))


def _denormals_text(fmt: Format) -> str:
    text = start(fmt) + "".join(classes(letter, fmt) for letter in "abc")
    text += "%t0 = or {bools} %tinya, %tinyb\n%t1 = or {bools} %t0, %tinyc\n%n0 = or {bools} %nana, %nanb\n"
    text += "%n1 = or {bools} %n0, %nanc\n%n2 = xor {bools} %n1, splat (i1 true)\n"
    text += "%some = and {bools} %t1, %n2\n"
    return text + "%d = bitcast {L} %a to {L}\n" + raised(("%some", DE))


float_rows(
    "f16 f64",
    "denormals",
    "{v} {v} {v} -> {v}",
    _denormals_text,
    lambda fmt, a, b, c: (a, _denormals(fmt, a, b, c)[1]),
    "a; MXCSR tells of denormals in lanes of which none is a NaN.",
)


def _later(make: Callable[[Type], str], vector: Type) -> Callable[[], str]:
    return lambda: make(vector)


# rounding to odd ---------------------------------------------------------------------------------------

_HUGE, _LITTLE = 0x71000000, 0x0D000000  # 2**99 and 2**-101: more and less than halves can be


def _odd(x: int) -> int:
    number = Number(F64, x)
    sign = number.sign << 31
    if number.kind == NAN:
        return sign | 0x7F800000 | x >> 29 & 0x7FFFFF | (0x400000 if number.signalling else 0)
    if number.kind == ZERO:
        return sign
    if number.kind != FINITE:
        return sign | 0x7F800000
    power = number.e + number.m.bit_length() - 1
    if power > 99:
        return sign | _HUGE
    if power < -101:
        return sign | _LITTLE
    return sign | (power + 127 << 23) | x >> 29 & 0x7FFFFF | (x & 0x1FFFFFFF != 0)


def _odd_text(vector: Type) -> str:
    n = vector.bits // 64
    wide, small, room = f"<{n} x i64>", f"<{n} x i32>", LONG_ENOUGH[vector]
    text = f"%a = bitcast {vector.llvm} $a to {wide}\n" + classes("a", F64) + "%daz = add i1 false, false\n"
    text = "%daz = icmp ne i64 0, 0\n" + text.replace("%daz = add i1 false, false\n", "")
    for key, value in constants(F64).items():
        text = text.replace(key, value)
    text = (
        text.replace("{L}", wide)
        .replace("{bools}", f"<{n} x i1>")
        .replace("{e}", "i64")
        .replace("{n}", str(n))
    )
    text += f"%sign32 = lshr {wide} %signa, splat (i64 32)\n%field = lshr {wide} %absa, splat (i64 29)\n"
    text += f"%moved = sub {wide} %field, splat (i64 {(1023 - 127) << 23})\n"
    text += f"%rest = and {wide} %absa, splat (i64 536870911)\n"
    text += f"%inexact = icmp ne {wide} %rest, zeroinitializer\n"
    text += f"%sticky = zext <{n} x i1> %inexact to {wide}\n%r0 = or {wide} %moved, %sticky\n"
    text += f"%big = icmp uge {wide} %absa, splat (i64 {1023 + 100 << 52})\n"
    text += f"%small = icmp ult {wide} %absa, splat (i64 {1023 - 101 << 52})\n"
    text += f"%r1 = select <{n} x i1> %big, {wide} splat (i64 {_HUGE}), {wide} %r0\n"
    text += f"%r2 = select <{n} x i1> %small, {wide} splat (i64 {_LITTLE}), {wide} %r1\n"
    text += f"%r3 = select <{n} x i1> %nulla, {wide} zeroinitializer, {wide} %r2\n"
    text += f"%r4 = select <{n} x i1> %infa, {wide} splat (i64 {0x7F800000}), {wide} %r3\n"
    text += f"%payload = and {wide} %field, splat (i64 8388607)\n"
    text += f"%nan0 = or {wide} %payload, splat (i64 {0x7FC00000})\n"
    text += f"%r5 = select <{n} x i1> %nana, {wide} %nan0, {wide} %r4\n%r6 = or {wide} %r5, %sign32\n"
    text += f"%r = trunc {wide} %r6 to {small}\n"
    there = room.bits // 32
    places = ", ".join(f"i32 {min(i, n)}" for i in range(there))
    text += f"%z = shufflevector {small} %r, {small} zeroinitializer, <{there} x i32> <{places}>\n"
    return text + f"$d = bitcast <{there} x i32> %z to {room.llvm}"


for _t in BUILT:
    row(
        f"v.narrow_odd.f64.f32.{_t}",
        f"{_t} -> {LONG_ENOUGH[_t]}",
        _later(_odd_text, _t),
        lambda w, a: join((_odd(x) for x in split(a, 64, w)), 32),
        "Doubles to floats, an inexact one to the odd neighbour, up to 2**99 and down to 2**-101.",
        bits=_t.bits,
        rare=True,
    )

# bfloat16 ----------------------------------------------------------------------------------------------


def _bfloat(x: int) -> int:
    number = Number(F32, x)
    if number.kind == NAN:
        return x >> 16 | 0x40
    if number.kind == ZERO or number.denormal:
        return x >> 16 & 0x8000
    if number.kind != FINITE:
        return x >> 16
    return x + 0x7FFF + (x >> 16 & 1) >> 16


def _bfloat_text(vector: Type) -> str:
    n, room = vector.bits // 32, LONG_ENOUGH[vector]
    kind, small, bools = f"<{n} x i32>", f"<{n} x i16>", f"<{n} x i1>"
    text = f"%x = bitcast {vector.llvm} $a to {kind}\n%abs = and {kind} %x, splat (i32 2147483647)\n"
    text += f"%nan = icmp ugt {kind} %abs, splat (i32 {0x7F800000})\n"
    text += f"%inf = icmp eq {kind} %abs, splat (i32 {0x7F800000})\n"
    text += f"%low = icmp ult {kind} %abs, splat (i32 {1 << 23})\n"
    text += f"%sign = and {kind} %x, splat (i32 -2147483648)\n"
    text += f"%up = lshr {kind} %x, splat (i32 16)\n%odd = and {kind} %up, splat (i32 1)\n"
    text += f"%s0 = add {kind} %x, splat (i32 32767)\n%s1 = add {kind} %s0, %odd\n"
    text += f"%q = or {kind} %x, splat (i32 4194304)\n%r0 = select {bools} %low, {kind} %sign, {kind} %s1\n"
    text += f"%r1 = select {bools} %inf, {kind} %x, {kind} %r0\n"
    text += f"%r2 = select {bools} %nan, {kind} %q, {kind} %r1\n"
    text += f"%r3 = lshr {kind} %r2, splat (i32 16)\n%r = trunc {kind} %r3 to {small}\n"
    there = room.bits // 16
    places = ", ".join(f"i32 {min(i, n)}" for i in range(there))
    text += f"%z = shufflevector {small} %r, {small} zeroinitializer, <{there} x i32> <{places}>\n"
    return text + f"$d = bitcast <{there} x i16> %z to {room.llvm}"


for _t in BUILT:
    row(
        f"v.bfloat.f32.{_t}",
        f"{_t} -> {LONG_ENOUGH[_t]}",
        _later(_bfloat_text, _t),
        lambda w, a: join((_bfloat(x) for x in split(a, 32, w)), 16),
        "Floats to bfloat16, to nearest even; denormals are zeros. Raises nothing.",
        bits=_t.bits,
        rare=True,
    )
