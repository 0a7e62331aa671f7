"""Shifts through the carry, double shifts, and the flags of all shifts and rotates.

Counts are already masked to 0..31 (0..63 for 64 bits). A flags row comes twice: plain (the count is known
not to be 0, no flag is read for that) and `.cl` (a count of 0 leaves every flag as it is).

What the manual leaves undefined: OF of a shift by more than 1 is what the formula for 1 says of the final
result; AF is 0.
"""

from collections.abc import Callable

from nexus.ir.ops.flags import _ADD, _AF, _RESULT, _SUB, add_flags, sub_flags
from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import family
from nexus.ir.types import I16, I32, I64, INTEGERS, Type

Flags = dict[str, int]

INC = ("of", "nz", "pf", "af")


def _without_carry(flags: Flags) -> Flags:
    return {name: flags[name] for name in INC}


family(
    INTEGERS,
    "flags.inc.{t}",
    "{t} ->",
    ("%r = add {T} $a, 1\n" + _ADD + _RESULT + _AF).replace("$b", "1"),
    lambda w, state, a: _without_carry(add_flags(w, a, 1)),
    "The flags of a + 1; CF stays.",
    writes=INC,
)
family(
    INTEGERS,
    "flags.dec.{t}",
    "{t} ->",
    ("%r = sub {T} $a, 1\n" + _SUB + _RESULT + _AF).replace("$b", "1"),
    lambda w, state, a: _without_carry(sub_flags(w, a, 1)),
    "The flags of a - 1; CF stays.",
    writes=INC,
)


def _flags_pair(
    types: tuple[Type, ...],
    name: str,
    operands: int,
    template: str,
    oracle: Callable[..., Flags],
    doc: str,
    writes: tuple[str, ...],
    reads: tuple[str, ...] = (),
) -> None:
    """Add flags.`name` and flags.`name`.cl. The last of the operands is the count."""
    signature = "{t} " * operands + "->"
    family(types, f"flags.{name}.{{t}}", signature, template, oracle, doc, reads=reads, writes=writes)
    kept = f"%none = icmp eq {{T}} ${'abc'[operands - 1]}, 0\n" + template
    for flag in writes:
        kept = kept.replace(f"$new.{flag} =", f"%new_{flag} =")
        kept += f"\n$new.{flag} = select i1 %none, i64 ${flag}, i64 %new_{flag}"
    family(
        types,
        f"flags.{name}.cl.{{t}}",
        signature,
        kept,
        lambda w, state, *args: (
            oracle(w, state, *args) if args[-1] else {flag: state[flag] for flag in writes}
        ),
        doc + " A count of 0 changes none.",
        reads=tuple(dict.fromkeys((*reads, *writes))),
        writes=writes,
    )


def _result(w: int, result: int) -> Flags:
    return {"nz": signed(result, w) & (1 << 64) - 1, "pf": result & 255}


def _shifted(w: int, result: int) -> Flags:
    return {**_result(w, result), "af": 0}


def _top(w: int, value: int) -> int:
    return value >> (w - 1) & 1


SHIFT = ("cf", "of", "nz", "pf", "af")
ROTATE = ("cf", "of")
_SHIFTED = _RESULT + "$new.af = add i64 0, 0\n"
# %s is the value shifted by one less than the count (in 64 bits), so the last bit out is still there
_BEFORE = "%n64 = {zext $b}\n%less = sub i64 %n64, 1\n%before = and i64 %less, 63\n"
_BEFORE += "%wide = {EXT $a}\n%s = OP i64 %wide, %before\n"
_TOP = "%top = lshr {T} %r, {m}\n%top64 = {zext %top}\n"


def _shift_family(name: str, op: str, tail: str, oracle: Callable[..., Flags], doc: str) -> None:
    for t in INTEGERS:
        extend = "zext" if op != "ashr" else "sext"
        text = _BEFORE.replace("{EXT $a}", f"{{{extend} $a}}").replace("OP", op) + tail + _SHIFTED
        text = text.replace(
            "{trunc %full}", "add i64 %full, 0" if t is I64 else f"trunc i64 %full to {t.llvm}"
        )
        _flags_pair((t,), name, 2, text, oracle, doc, SHIFT)


def _shl(w: int, state: Flags, a: int, n: int) -> Flags:
    result, carry = a << n & (1 << w) - 1, a << n >> w & 1
    return {"cf": carry, "of": _top(w, result) ^ carry, **_shifted(w, result)}


def _shr(w: int, state: Flags, a: int, n: int) -> Flags:
    result = a >> n
    return {"cf": a >> (n - 1) & 1, "of": _top(w, result ^ result << 1), **_shifted(w, result)}


def _sar(w: int, state: Flags, a: int, n: int) -> Flags:
    value = signed(a, w)
    return {"cf": value >> (n - 1) & 1, "of": 0, **_shifted(w, value >> n & (1 << w) - 1)}


_shift_family(
    "shl",
    "shl",
    "%out = lshr i64 %s, {m}\n%carry = and i64 %out, 1\n%full = shl i64 %s, 1\n%r = {trunc %full}\n"
    + _TOP
    + "$new.cf = add i64 %carry, 0\n$new.of = xor i64 %top64, %carry\n",
    _shl,
    "The flags of a shifted left.",
)
_shift_family(
    "shr",
    "lshr",
    "%carry = and i64 %s, 1\n%full = lshr i64 %s, 1\n%r = {trunc %full}\n%twice = shl {T} %r, 1\n"
    "%change = xor {T} %r, %twice\n"
    "%over = lshr {T} %change, {m}\n$new.of = {zext %over}\n$new.cf = add i64 %carry, 0\n",
    _shr,
    "The flags of a shifted right.",
)
_shift_family(
    "sar",
    "ashr",
    "%carry = and i64 %s, 1\n%full = ashr i64 %s, 1\n%r = {trunc %full}\n$new.cf = add i64 %carry, 0\n"
    "$new.of = add i64 0, 0\n",
    _sar,
    "The flags of a shifted right arithmetically.",
)

# rotates: the first operand is the result ------------------------------------------------------------

_ROL = "%r = add {T} $a, 0\n%low = and {T} %r, 1\n%carry = {zext %low}\n" + _TOP
_ROL += "$new.cf = add i64 %carry, 0\n$new.of = xor i64 %top64, %carry\n"
_SECOND = "%up = shl {T} %r, 1\n%next = lshr {T} %up, {m}\n%next64 = {zext %next}\n"
_SECOND += "$new.of = xor i64 %top64, %next64\n"
_ROR = "%r = add {T} $a, 0\n" + _TOP + "$new.cf = add i64 %top64, 0\n" + _SECOND
_flags_pair(
    INTEGERS,
    "rol",
    2,
    _ROL,
    lambda w, state, r, n: {"cf": r & 1, "of": _top(w, r) ^ r & 1},
    "CF and OF after a rotate left with this result.",
    ROTATE,
)
_flags_pair(
    INTEGERS,
    "ror",
    2,
    _ROR,
    lambda w, state, r, n: {"cf": _top(w, r), "of": _top(w, r ^ r << 1)},
    "CF and OF after a rotate right with this result.",
    ROTATE,
)

# rotates through the carry: w + 1 bits -----------------------------------------------------------------


def _rcl(w: int, state: Flags, a: int, n: int) -> int:
    n, value = n % (w + 1), state["cf"] << w | a
    return (value << n | value >> (w + 1 - n)) & (2 << w) - 1


def _rcr(w: int, state: Flags, a: int, n: int) -> int:
    return _rcl(w, state, a, w + 1 - n % (w + 1))


_RING = """
%size = add {T} {w}, 1
%count = urem {T} $b, %size
%n = zext {T} %count to i128
%back = sub i128 %size128, %n
%body = zext {T} $a to i128
%carry_in = zext i64 $cf to i128
%over = shl i128 %carry_in, {w}
%ring = or i128 %over, %body
%there = OP1 i128 %ring, %n
%around = OP2 i128 %ring, %back
%both = or i128 %there, %around
%r = trunc i128 %both to {T}
%out128 = lshr i128 %both, {w}
%out64 = trunc i128 %out128 to i64
%carry = and i64 %out64, 1
""".replace("%size128", "SIZE")
for _t in INTEGERS:
    for _name, _op1, _op2, _value in (("rcl", "shl", "lshr", _rcl), ("rcr", "lshr", "shl", _rcr)):
        _ring = _RING.replace("OP1", _op1).replace("OP2", _op2).replace("SIZE", str(_t.bits + 1))
        family(
            (_t,),
            f"{_name}.{{t}}",
            "{t} {t} -> {t}",
            _ring + "$d = add {T} %r, 0",
            lambda w, state, a, n, value=_value: (value(w, state, a, n) & (1 << w) - 1, {}),
            f"{_name.upper()}: rotate the operand and CF, w + 1 bits, by the count.",
            reads=("cf",),
        )
        _of = _TOP + ("$new.of = xor i64 %top64, %carry\n" if _name == "rcl" else _SECOND)

        def _ring_flags(
            w: int,
            state: Flags,
            a: int,
            n: int,
            value: Callable[..., int] = _value,
            left: bool = _name == "rcl",
        ) -> Flags:
            ring = value(w, state, a, n)
            return {"cf": ring >> w, "of": _top(w, ring) ^ (ring >> w if left else _top(w, ring << 1))}

        _flags_pair(
            (_t,),
            _name,
            2,
            _ring + "$new.cf = add i64 %carry, 0\n" + _of,
            _ring_flags,
            f"CF and OF of {_name.upper()}.",
            ROTATE,
            ("cf",),
        )

# double shifts -------------------------------------------------------------------------------------------


def _double_left(w: int, a: int, b: int, n: int) -> tuple[int, int]:
    """(result, last bit out). A 16-bit count above 16 (undefined) goes on with b again, as AMD does."""
    joined = (a << 2 * w | b << w | (b if w == 16 else 0)) << n
    return joined >> 2 * w & (1 << w) - 1, joined >> 3 * w & 1


def _double_right(w: int, a: int, b: int, n: int) -> tuple[int, int]:
    joined = (b << 2 * w if w == 16 else 0) | b << w | a
    return joined >> n & (1 << w) - 1, joined << 1 >> n & 1


def _double_flags(double: Callable[[int, int, int, int], tuple[int, int]]) -> Callable[..., Flags]:
    def oracle(w: int, state: Flags, a: int, b: int, n: int) -> Flags:
        result, carry = double(w, a, b, n)
        return {"cf": carry, "of": _top(w, result ^ a), **_shifted(w, result)}

    return oracle


for _t in (I16, I32, I64):
    _w, _T = _t.bits, _t.llvm
    _third = 128 - 3 * _w if _w == 16 else 127
    _mask = -1 if _w == 16 else 0  # b once more only for 16 bits
    _start = f"%first = zext {_T} $a to i128\n%second = zext {_T} $b to i128\n%n = zext {_T} $c to i128\n"
    _less = "%less = sub i128 %n, 1\n%before = and i128 %less, 127\n"
    _left = f"""{_start}%up = shl i128 %first, {128 - _w}
%mid = shl i128 %second, {128 - 2 * _w}
%again0 = shl i128 %second, {_third}
%again = and i128 %again0, {_mask}
%two = or i128 %up, %mid
%joined = or i128 %two, %again
%moved = shl i128 %joined, %n
%place = lshr i128 %moved, {128 - _w}
%r = trunc i128 %place to {_T}
"""
    _out_left = _less + "%almost = shl i128 %joined, %before\n%last = lshr i128 %almost, 127\n"
    _right = f"""{_start}%mid = shl i128 %second, {_w}
%again0 = shl i128 %second, {2 * _w if _w == 16 else 127}
%again = and i128 %again0, {_mask}
%two = or i128 %first, %mid
%joined = or i128 %two, %again
%moved = lshr i128 %joined, %n
%r = trunc i128 %moved to {_T}
"""
    _out_right = _less + "%last = lshr i128 %joined, %before\n"
    _sign = f"%change = xor {_T} %r, $a\n%sign = lshr {_T} %change, {{m}}\n$new.of = {{zext %sign}}\n"
    for _name, _text, _out, _double in (
        ("shld", _left, _out_left, _double_left),
        ("shrd", _right, _out_right, _double_right),
    ):
        family(
            (_t,),
            f"{_name}.{{t}}",
            "{t} {t} {t} -> {t}",
            _text + "$d = add {T} %r, 0",
            lambda w, a, b, n, double=_double: double(w, a, b, n)[0],
            f"{_name.upper()}: the first operand shifted by the third, filled from the second.",
        )
        _flags_pair(
            (_t,),
            _name,
            3,
            _text
            + _out
            + "%last64 = trunc i128 %last to i64\n$new.cf = and i64 %last64, 1\n"
            + _sign
            + _SHIFTED,
            _double_flags(_double),
            f"The flags of {_name.upper()}.",
            SHIFT,
        )
