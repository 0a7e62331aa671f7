"""Binary floating point on plain Python integers: the oracle behind the float and x87 rows.

Operands are bit patterns. Every operation computes an exact value m * 2**e (with one sticky bit where it is
not finite) and rounds once, in any of the four modes, to any of the three formats of x86; it returns the
result's bits and the status bits that the hardware would set (masked responses: IEEE 754 results, x86's
choice of NaN).
"""

from __future__ import annotations

from math import isqrt

NEAREST, DOWN, UP, CHOP = range(4)  # the RC field of MXCSR and of the x87 control word
IE, DE, ZE, OE, UE, PE = 1, 2, 4, 8, 16, 32  # status bits, equal in MXCSR and in the x87 status word
ROUNDED_UP = 0x200  # C1 of the x87 status word

NAN, INF, ZERO, FINITE, UNSUPPORTED = range(5)


class Format:
    """`precision` counts the integer bit; `explicit` says whether the encoding stores it (80-bit x87)."""

    __slots__ = ("bias", "bits", "explicit", "exponent_bits", "precision", "top")

    def __init__(self, bits: int, precision: int, explicit: bool = False) -> None:
        self.bits = bits
        self.precision = precision
        self.explicit = explicit
        self.exponent_bits = bits - precision - (1 if explicit else 0)
        self.bias = (1 << self.exponent_bits - 1) - 1
        self.top = (1 << self.exponent_bits) - 1

    @property
    def field(self) -> int:
        """Width of the stored significand."""
        return self.precision if self.explicit else self.precision - 1

    @property
    def quiet(self) -> int:
        """The bit that tells a quiet NaN from a signalling one."""
        return 1 << self.precision - 2

    @property
    def default_nan(self) -> int:
        """The "real indefinite" QNaN."""
        return self.pack(1, self.top, self.quiet | (1 << 63 if self.explicit else 0))

    def pack(self, sign: int, exponent: int, significand: int) -> int:
        return (sign << self.exponent_bits | exponent) << self.field | significand

    def infinity(self, sign: int) -> int:
        return self.pack(sign, self.top, 1 << 63 if self.explicit else 0)

    def zero(self, sign: int) -> int:
        return self.pack(sign, 0, 0)


F16 = Format(16, 11)
F32 = Format(32, 24)
F64 = Format(64, 53)
F80 = Format(80, 64, explicit=True)
FORMAT_OF_BITS = {16: F16, 32: F32, 64: F64, 80: F80}


class Number:
    """A decoded operand: `kind`, `sign`, and for finite ones the value m * 2**e; `denormal` as the encoding
    says."""

    __slots__ = ("bits", "denormal", "e", "kind", "m", "sign", "signalling")

    def __init__(self, fmt: Format, bits: int) -> None:
        significand = bits & (1 << fmt.field) - 1
        exponent = bits >> fmt.field & fmt.top
        self.bits = bits
        self.sign = bits >> fmt.bits - 1 & 1
        self.m = self.e = 0
        self.denormal = self.signalling = False
        integer = 1 << fmt.precision - 1
        if exponent == fmt.top:
            fraction = significand & integer - 1
            if fmt.explicit and not significand & integer:
                self.kind = UNSUPPORTED
            else:
                self.kind = NAN if fraction else INF
                self.signalling = bool(fraction) and not significand & fmt.quiet
        elif exponent == 0:
            self.kind = FINITE if significand else ZERO
            self.denormal = significand != 0
            self.m, self.e = significand, 1 - fmt.bias - (fmt.precision - 1)
        else:
            if fmt.explicit and not significand & integer:
                self.kind = UNSUPPORTED
                return
            self.kind = FINITE
            self.m, self.e = significand | integer, exponent - fmt.bias - (fmt.precision - 1)


def shift_round(sign: int, m: int, drop: int, mode: int) -> tuple[int, bool, bool]:
    """m / 2**drop rounded to an integer: (it, inexact, rounded away from zero)."""
    if drop <= 0:
        return m << -drop, False, False
    kept, rest, half = m >> drop, m & (1 << drop) - 1, 1 << drop - 1
    if mode == NEAREST:
        up = rest > half or (rest == half and kept & 1 == 1)
    else:
        up = rest != 0 and mode == (DOWN if sign else UP)
    return kept + up, rest != 0, up


def encode(
    fmt: Format, sign: int, m: int, e: int, mode: int = NEAREST, precision: int = 0
) -> tuple[int, int]:
    """Round (-1)**sign * m * 2**e into a format; `precision` narrows it as the x87 control word can."""
    if m == 0:
        return fmt.zero(sign), 0
    p = precision or fmt.precision
    least = 1 - fmt.bias
    lead = e + m.bit_length() - 1
    unbounded, _, _ = shift_round(sign, m, lead - (p - 1) - e, mode)
    tiny = lead + (unbounded.bit_length() > p) < least
    place = max(lead, least) - (p - 1)
    kept, inexact, up = shift_round(sign, m, place - e, mode)
    status = (PE if inexact else 0) | (ROUNDED_UP if up else 0) | (UE if inexact and tiny else 0)
    if kept.bit_length() > p:
        kept, place = kept >> 1, place + 1
    kept <<= fmt.precision - p
    place -= fmt.precision - p
    exponent = place + fmt.precision - 1 + fmt.bias
    if exponent >= fmt.top:
        away = mode == NEAREST or mode == (DOWN if sign else UP)
        if away:
            return fmt.infinity(sign), OE | PE | ROUNDED_UP
        largest = ((1 << p) - 1) << fmt.precision - p
        return fmt.pack(sign, fmt.top - 1, largest & (1 << fmt.field) - 1), OE | PE
    if not kept >> fmt.precision - 1:
        exponent = 0
    return fmt.pack(sign, exponent, kept & (1 << fmt.field) - 1), status


def first_nan(fmt: Format, a: Number, b: Number) -> int:
    """SSE: the first operand that is a NaN, made quiet."""
    return (a if a.kind == NAN else b).bits | fmt.quiet


def larger_nan(fmt: Format, a: Number, b: Number) -> int:
    """x87: the NaN with the larger significand, the positive one if they are equal, made quiet; of a
    signalling and a quiet NaN the quiet one."""
    if a.kind != NAN or b.kind != NAN:
        return first_nan(fmt, a, b)
    if a.signalling != b.signalling:
        return (b if a.signalling else a).bits | fmt.quiet
    mask = (1 << fmt.field) - 1
    key_a, key_b = (a.bits & mask, -a.sign), (b.bits & mask, -b.sign)
    return (a if key_a >= key_b else b).bits | fmt.quiet


def special(fmt: Format, a: Number, b: Number, x87: bool) -> tuple[int, int] | None:
    """The result if an operand is a NaN or unsupported, else None."""
    if UNSUPPORTED in (a.kind, b.kind):
        return fmt.default_nan, IE
    if NAN in (a.kind, b.kind):
        chosen = (larger_nan if x87 else first_nan)(fmt, a, b)
        return chosen, IE if a.signalling or b.signalling else 0
    return None


def _exact_sum(a: Number, b: Number, negate: bool) -> tuple[int, int]:
    e = min(a.e, b.e)
    x = (a.m << a.e - e) * (-1 if a.sign else 1)
    y = (b.m << b.e - e) * (-1 if b.sign ^ negate else 1)
    return x + y, e


def add(
    fmt: Format,
    x: int,
    y: int,
    *,
    negate: bool = False,
    mode: int = NEAREST,
    precision: int = 0,
    x87: bool = False,
) -> tuple[int, int]:
    """x + y, or x - y."""
    a, b = Number(fmt, x), Number(fmt, y)
    found = special(fmt, a, b, x87)
    if found:
        return found
    second = b.sign ^ negate
    if INF in (a.kind, b.kind):
        if a.kind == b.kind and a.sign != second:
            return fmt.default_nan, IE
        return fmt.infinity(a.sign if a.kind == INF else second), _denormal(a, b)
    total, e = _exact_sum(a, b, negate)
    if total == 0:
        same = a.sign == second and a.kind == b.kind == ZERO
        return fmt.zero(a.sign if same else int(mode == DOWN)), _denormal(a, b)
    result, status = encode(fmt, int(total < 0), abs(total), e, mode, precision)
    return result, status | _denormal(a, b)


def _denormal(*numbers: Number) -> int:
    return DE if any(n.denormal for n in numbers) else 0


def multiply(
    fmt: Format, x: int, y: int, *, mode: int = NEAREST, precision: int = 0, x87: bool = False
) -> tuple[int, int]:
    a, b = Number(fmt, x), Number(fmt, y)
    found = special(fmt, a, b, x87)
    if found:
        return found
    sign = a.sign ^ b.sign
    if INF in (a.kind, b.kind):
        return (fmt.default_nan, IE) if ZERO in (a.kind, b.kind) else (fmt.infinity(sign), _denormal(a, b))
    result, status = encode(fmt, sign, a.m * b.m, a.e + b.e, mode, precision)
    return result, status | _denormal(a, b)


def fused(
    fmt: Format, x: int, y: int, z: int, *, minus: bool = False, subtract: bool = False, mode: int = NEAREST
) -> tuple[int, int]:
    """x * y + z rounded once; `minus` negates the product, `subtract` z. Of several NaNs the first one."""
    a, b, c = Number(fmt, x), Number(fmt, y), Number(fmt, z)
    invalid = {a.kind, b.kind} == {INF, ZERO}
    nans = [n for n in (a, b, c) if n.kind == NAN]
    if nans:
        status = IE if invalid or any(n.signalling for n in nans) else 0
        return nans[0].bits | fmt.quiet, status
    if invalid:
        return fmt.default_nan, IE
    product, addend = a.sign ^ b.sign ^ minus, c.sign ^ subtract
    denormal = _denormal(a, b, c)
    if INF in (a.kind, b.kind):
        if c.kind == INF and addend != product:
            return fmt.default_nan, IE
        return fmt.infinity(product), denormal
    if c.kind == INF:
        return fmt.infinity(addend), denormal
    exact = Number(fmt, 0)
    exact.sign, exact.m, exact.e = product, a.m * b.m, a.e + b.e
    total, e = _exact_sum(exact, c, subtract)
    if total == 0:
        zeros = exact.m == 0 and c.m == 0
        return fmt.zero(product if zeros and product == addend else int(mode == DOWN)), denormal
    result, status = encode(fmt, int(total < 0), abs(total), e, mode)
    return result, status | denormal


def divide(
    fmt: Format, x: int, y: int, *, mode: int = NEAREST, precision: int = 0, x87: bool = False
) -> tuple[int, int]:
    a, b = Number(fmt, x), Number(fmt, y)
    found = special(fmt, a, b, x87)
    if found:
        return found
    sign = a.sign ^ b.sign
    if a.kind == INF or b.kind == INF:
        if a.kind == b.kind:
            return fmt.default_nan, IE
        return (fmt.infinity(sign) if a.kind == INF else fmt.zero(sign)), _denormal(a, b)
    if b.kind == ZERO:
        if a.kind == ZERO:
            return fmt.default_nan, IE
        return fmt.infinity(sign), ZE
    if a.kind == ZERO:
        return fmt.zero(sign), _denormal(b)
    shift = 2 * fmt.precision + b.m.bit_length()
    quotient, rest = divmod(a.m << shift, b.m)
    result, status = encode(fmt, sign, quotient << 1 | (rest != 0), a.e - b.e - shift - 1, mode, precision)
    return result, status | _denormal(a, b)


def square_root(fmt: Format, x: int, *, mode: int = NEAREST, precision: int = 0) -> tuple[int, int]:
    a = Number(fmt, x)
    found = special(fmt, a, a, False)
    if found:
        return found
    if a.kind == ZERO:
        return x, 0
    if a.sign:
        return fmt.default_nan, IE
    if a.kind == INF:
        return x, 0
    shift = 4 * fmt.precision + (a.e & 1)
    scaled = a.m << shift
    root = isqrt(scaled)
    result, status = encode(
        fmt, 0, root << 1 | (root * root != scaled), (a.e - shift) // 2 - 1, mode, precision
    )
    return result, status | _denormal(a)


def convert(source: Format, target: Format, x: int, *, mode: int = NEAREST) -> tuple[int, int]:
    """Between formats; only widening raises DE; a NaN keeps the upper bits of its payload and becomes
    quiet."""
    a = Number(source, x)
    if a.kind == UNSUPPORTED:
        return target.default_nan, IE
    if a.kind == NAN:
        fraction = x & (1 << source.precision - 1) - 1
        change = target.precision - source.precision
        fraction = fraction << change if change >= 0 else fraction >> -change
        integer = 1 << 63 if target.explicit else 0
        return target.pack(a.sign, target.top, fraction | target.quiet | integer), IE if a.signalling else 0
    if a.kind == INF:
        return target.infinity(a.sign), 0
    result, status = encode(target, a.sign, a.m, a.e, mode)
    return result, status | (_denormal(a) if target.precision > source.precision else 0)


def to_integer(fmt: Format, x: int, bits: int, *, mode: int = NEAREST) -> tuple[int, int]:
    """A signed integer of `bits`, unsigned pattern; out of range or NaN gives the "integer indefinite"."""
    a = Number(fmt, x)
    if a.kind == ZERO:
        return 0, 0
    if a.kind == FINITE:
        value, inexact, up = shift_round(a.sign, a.m, -a.e, mode)
        value = -value if a.sign else value
        if -(1 << bits - 1) <= value < 1 << bits - 1:
            return value & (1 << bits) - 1, (PE if inexact else 0) | (ROUNDED_UP if up else 0)
    return 1 << bits - 1, IE


def from_integer(fmt: Format, value: int, *, mode: int = NEAREST) -> tuple[int, int]:
    """A signed Python integer into a format."""
    return encode(fmt, int(value < 0), abs(value), 0, mode)


def round_integral(fmt: Format, x: int, *, mode: int = NEAREST) -> tuple[int, int]:
    """To an integer value in the same format."""
    a = Number(fmt, x)
    found = special(fmt, a, a, False)
    if found:
        return found
    if a.kind != FINITE:
        return x, 0
    if a.e >= 0:
        return x, _denormal(a)
    value, inexact, up = shift_round(a.sign, a.m, -a.e, mode)
    status = (PE if inexact else 0) | (ROUNDED_UP if up else 0) | _denormal(a)
    return encode(fmt, a.sign, value, 0)[0], status


def compare(fmt: Format, x: int, y: int) -> int:
    """-1, 0 or 1 as x is below, equal to or above y; 2 if they are unordered."""
    a, b = Number(fmt, x), Number(fmt, y)
    if {a.kind, b.kind} & {NAN, UNSUPPORTED}:
        return 2
    if INF in (a.kind, b.kind):
        left = (0 if a.kind != INF else -1 if a.sign else 1, 0 if b.kind != INF else -1 if b.sign else 1)
        return (left[0] > left[1]) - (left[0] < left[1])
    total, _ = _exact_sum(a, b, True)
    return (total > 0) - (total < 0)
