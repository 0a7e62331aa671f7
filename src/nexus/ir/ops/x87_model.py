"""x87 arithmetic on plain Python integers: the oracles of `x87.py`, under the default control word.

Values are those of `x87_state.py`: 80 bits, and from bit 96 on the status that the computation raised.
"""

from __future__ import annotations

from nexus.ir.ops import float_model as model
from nexus.ir.ops.float_model import (
    CHOP,
    DE,
    F80,
    FINITE,
    FORMAT_OF_BITS,
    IE,
    INF,
    NAN,
    UNSUPPORTED,
    ZE,
    ZERO,
    Number,
)
from nexus.ir.ops.scalar import signed
from nexus.ir.ops.x87_state import INHERITED, NO_QUOTIENT, STATUS, VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

C0, C2, C3 = 0x100, 0x400, 0x4000
BCD_INDEFINITE = 0xFFFF_C000_0000_0000_0000


def packed(result: tuple[int, int], *operands: int) -> int:
    """A result with its status, and what its operands had raised already."""
    value, status = result
    for operand in operands:
        status |= operand >> STATUS & INHERITED
    return value & VALUE | status << STATUS


def number(value: int) -> Number:
    return Number(F80, value & VALUE)


def binary(function: Callable[[int, int], tuple[int, int]]) -> Callable[[int, int, int], int]:
    """An oracle for a row with two x87 values."""
    return lambda w, a, b: packed(function(a & VALUE, b & VALUE), a, b)


def unary(function: Callable[[int], tuple[int, int]]) -> Callable[[int, int], int]:
    return lambda w, a: packed(function(a & VALUE), a)


def compare(a: int, b: int, quiet: bool) -> tuple[int, int]:
    """The condition codes of FCOM or FUCOM; the value means nothing."""
    x, y = number(a), number(b)
    order = model.compare(F80, a & VALUE, b & VALUE)
    status = {-1: C0, 0: C3, 1: 0, 2: C0 | C2 | C3}[order]
    if order != 2:
        return 0, status | (DE if x.denormal or y.denormal else 0)
    bad = UNSUPPORTED in (x.kind, y.kind) or x.signalling or y.signalling
    return 0, status | (IE if bad or not quiet else 0)


def scale(a: int, b: int) -> tuple[int, int]:
    """a * 2**trunc(b)."""
    x, y = number(a), number(b)
    found = model.special(F80, x, y, True)
    if found:
        return found
    denormal = DE if x.denormal or y.denormal else 0
    if y.kind == INF:
        if y.sign:
            return (F80.default_nan, IE) if x.kind == INF else (F80.zero(x.sign), denormal)
        return (F80.default_nan, IE) if x.kind == ZERO else (F80.infinity(x.sign), denormal)
    if x.kind != FINITE:
        return a & VALUE, denormal
    count, _, _ = (
        model.shift_round(y.sign, y.m, min(-y.e, 200), CHOP) if y.kind == FINITE else (0, False, False)
    )
    count = min(count, 1 << 16)
    value, status = model.encode(F80, x.sign, x.m, x.e + (-count if y.sign else count))
    return value, status | denormal


def remainder(a: int, b: int, nearest: bool) -> tuple[int, int]:
    """FPREM (quotient truncated) or FPREM1 (to nearest): at most 63 bits of exponent difference per step."""
    x, y = number(a), number(b)
    found = model.special(F80, x, y, True)
    if found is None and (x.kind == INF or y.kind == ZERO):
        found = F80.default_nan, IE
    if found:
        return found[0], found[1] | NO_QUOTIENT
    denormal = DE if x.denormal or y.denormal else 0
    if x.kind == ZERO or y.kind == INF:
        return model.encode(F80, x.sign, x.m, x.e)[0], denormal
    difference = (x.e + x.m.bit_length()) - (y.e + y.m.bit_length())
    e = min(x.e, y.e)
    dividend, divisor = x.m << x.e - e, y.m << y.e - e
    if difference >= 64:
        shift = difference - (32 + difference % 32)
        divisor <<= shift
        rest = dividend - dividend // divisor * divisor
        return model.encode(F80, x.sign, rest, e)[0], C2 | denormal
    quotient, rest = divmod(dividend, divisor)
    sign = x.sign
    if nearest and (2 * rest > divisor or (2 * rest == divisor and quotient & 1)):
        quotient, rest, sign = quotient + 1, divisor - rest, sign ^ 1
    codes = (
        (C0 if quotient & 4 else 0) | (C3 if quotient & 2 else 0) | (model.ROUNDED_UP if quotient & 1 else 0)
    )
    return (model.encode(F80, sign, rest, e)[0] if rest else F80.zero(x.sign)), codes | denormal


def extract(a: int, exponent: bool) -> tuple[int, int]:
    """One result of FXTRACT: the unbiased exponent, or the significand in [1, 2)."""
    x = number(a)
    found = model.special(F80, x, x, True)
    if found:
        return found
    if x.kind == INF:
        return (F80.infinity(0) if exponent else a & VALUE), 0
    if x.kind == ZERO:
        return (F80.infinity(1) if exponent else a & VALUE), ZE
    top = x.e + x.m.bit_length() - 1
    denormal = DE if x.denormal else 0
    if exponent:
        return model.from_integer(F80, top)[0], denormal
    return model.encode(F80, x.sign, x.m, 1 - x.m.bit_length())[0], denormal


def to_bcd(a: int) -> tuple[int, int]:
    """18 decimal digits and a sign byte; out of range the packed indefinite."""
    x = number(a)
    if x.kind == ZERO:
        return x.sign << 79, 0
    if x.kind == FINITE:
        value, inexact, up = (
            model.shift_round(x.sign, x.m, -x.e, model.NEAREST) if x.e < 64 else (1 << 64, False, False)
        )
        if value < 10**18:
            status = (model.PE if inexact else 0) | (model.ROUNDED_UP if up else 0)
            return int(str(value), 16) | x.sign << 79, status
    return BCD_INDEFINITE, IE


def from_bcd(a: int) -> tuple[int, int]:
    """Digits above 9 have no meaning in the manual: each counts as its value."""
    value = sum((a >> 4 * i & 15) * 10**i for i in range(18))
    return (F80.zero(a >> 79 & 1) if value == 0 else model.encode(F80, a >> 79 & 1, value, 0)[0]), 0


def stored(a: int, bits: int) -> int:
    """FST to memory: the float in the low bits."""
    value, status = model.convert(F80, FORMAT_OF_BITS[bits], a & VALUE)
    return packed((value, status), a)


def stored_integer(a: int, bits: int, mode: int) -> int:
    return packed(model.to_integer(F80, a & VALUE, bits, mode=mode), a)


def loaded(value: int, bits: int) -> int:
    """FLD of a float from memory."""
    return packed(model.convert(FORMAT_OF_BITS[bits], F80, value))


def loaded_integer(value: int, bits: int) -> int:
    return packed(model.from_integer(F80, signed(value, bits)))


def examine(a: int, empty: int) -> int:
    """The class of FXAM as condition codes; C1 is the sign."""
    x = number(a)
    codes = {
        UNSUPPORTED: 0,
        NAN: C0,
        FINITE: C2 | C3 if x.denormal else C2,
        INF: C0 | C2,
        ZERO: C3,
    }[x.kind]
    if empty:
        codes = C0 | C3
    return (codes | (model.ROUNDED_UP if x.sign else 0)) << STATUS
