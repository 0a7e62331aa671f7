"""Binary floating point in whole numbers: IEEE 754 arithmetic as the SSE and AVX units do it.

A number is its bit pattern in an `int`; a `Format` knows how many bits are what. Every operation computes the
exact result as `mantissa * 2**exponent` and rounds once, in `Format.round`. An `Env` is what MXCSR says and
what comes back of it: the exceptions that were raised. All exceptions are masked here.

Facts: IEEE 754-2008; Intel SDM volume 1, chapters 4.8, 4.9 and 11.5 (responses, NaNs, flushing of denormals).
"""

from __future__ import annotations

from math import isqrt

INVALID, DENORMAL, DIVIDE, OVERFLOW, UNDERFLOW, PRECISION = 1, 2, 4, 8, 16, 32
NEAREST, DOWN, UP, ZERO = range(4)


class Env:
    """MXCSR for one instruction: `rounding` (0 nearest, 1 down, 2 up, 3 to zero), `daz`, `ftz`, and the
    `flags` raised so far in the order of MXCSR."""

    __slots__ = ("daz", "flags", "ftz", "rounding")

    def __init__(self, mxcsr: int = 0x1F80, rounding: int | None = None) -> None:
        self.rounding = mxcsr >> 13 & 3 if rounding is None else rounding
        self.daz = bool(mxcsr & 1 << 6)
        self.ftz = bool(mxcsr & 1 << 15)
        self.flags = 0


def rounded(mantissa: int, shift: int, negative: bool, rounding: int) -> tuple[int, bool]:
    """`mantissa / 2**shift` as a whole number, and whether something was lost."""
    if shift <= 0:
        return mantissa << -shift, False
    kept = mantissa >> shift
    rest = mantissa - (kept << shift)
    if not rest:
        return kept, False
    if rounding == NEAREST:
        half = 1 << shift - 1
        up = rest > half or (rest == half and kept & 1)
    else:
        up = rounding == (DOWN if negative else UP)
    return kept + bool(up), True


class Format:
    """A binary format of so many `bits` with so many bits of fraction. `flushes`: DAZ and FTZ mean it."""

    def __init__(self, bits: int, fraction_bits: int, flushes: bool = True) -> None:
        self.bits = bits
        self.fraction_bits = fraction_bits
        self.flushes = flushes
        self.hidden = 1 << fraction_bits
        self.fraction = self.hidden - 1
        self.sign = 1 << bits - 1
        self.magnitude = self.sign - 1
        self.infinity = self.sign - self.hidden
        self.quiet = self.hidden >> 1
        self.indefinite = self.sign | self.infinity | self.quiet
        self.bias = (1 << bits - 2 - fraction_bits) - 1
        self.least = 1 - self.bias  # the exponent of the smallest normal number
        self.unit = self.least - fraction_bits  # and of the smallest denormal one
        self.one = self.bias << fraction_bits

    # what a pattern is ------------------------------------------------------------------------------

    def is_nan(self, x: int) -> bool:
        return x & self.magnitude > self.infinity

    def is_signaling(self, x: int) -> bool:
        return x & self.magnitude > self.infinity and not x & self.quiet

    def is_infinite(self, x: int) -> bool:
        return x & self.magnitude == self.infinity

    def is_denormal(self, x: int) -> bool:
        return 0 < x & self.magnitude < self.hidden

    def parts(self, x: int) -> tuple[int, int]:
        """(mantissa, exponent) of the magnitude of a finite number."""
        magnitude = x & self.magnitude
        exponent = magnitude >> self.fraction_bits
        if exponent:
            return magnitude & self.fraction | self.hidden, exponent - 1 + self.unit
        return magnitude, self.unit

    def exact(self, x: int) -> tuple[int, int]:
        """The same with the sign in the mantissa."""
        mantissa, exponent = self.parts(x)
        return (-mantissa if x & self.sign else mantissa), exponent

    def flushed(self, env: Env, x: int) -> int:
        """An operand that is no NaN as the operation sees it: with DAZ denormals are zeros, else DE."""
        if 0 < x & self.magnitude < self.hidden:
            if env.daz and self.flushes:
                return x & self.sign
            env.flags |= DENORMAL
        return x

    def zeroed(self, env: Env, x: int) -> int:
        """The same for operations that do not tell of denormals."""
        if env.daz and self.flushes and 0 < x & self.magnitude < self.hidden:
            return x & self.sign
        return x

    def nan_of(self, env: Env, *operands: int) -> int | None:
        """The first NaN among the operands, quiet, or None if there is none; IE for signaling ones."""
        found = None
        for x in operands:
            if x & self.magnitude > self.infinity:
                if not x & self.quiet:
                    env.flags |= INVALID
                if found is None:
                    found = x | self.quiet
        return found

    def invalid(self, env: Env) -> int:
        env.flags |= INVALID
        return self.indefinite

    # rounding ---------------------------------------------------------------------------------------

    def round(self, env: Env, negative: bool, mantissa: int, exponent: int) -> int:
        """The pattern for `mantissa * 2**exponent` (not negative by itself), exceptions raised."""
        sign = self.sign if negative else 0
        if not mantissa:
            return sign
        top = exponent + mantissa.bit_length() - 1
        unit = max(top, self.least) - self.fraction_bits
        kept, lost = rounded(mantissa, unit - exponent, negative, env.rounding)
        if top < self.least and (lost or (env.ftz and self.flushes)):
            tiny = True
            if top == self.least - 1:  # it may be no more once it is rounded to all bits of a normal one
                wide, _ = rounded(mantissa, unit - 1 - exponent, negative, env.rounding)
                tiny = wide < self.hidden << 1
            if tiny:
                if env.ftz and self.flushes:
                    env.flags |= UNDERFLOW | PRECISION
                    return sign
                env.flags |= UNDERFLOW
        if lost:
            env.flags |= PRECISION
        pattern = (unit - self.unit << self.fraction_bits) + kept
        if pattern >= self.infinity:
            env.flags |= OVERFLOW | PRECISION
            to_infinity = env.rounding == NEAREST or env.rounding == (DOWN if negative else UP)
            pattern = self.infinity if to_infinity else self.infinity - 1
        return sign | pattern

    def _sum(self, env: Env, one: tuple[int, int], other: tuple[int, int], zero: int) -> int:
        """The sum of two exact numbers; `zero` if it is nothing."""
        low = min(one[1], other[1])
        total = (one[0] << one[1] - low) + (other[0] << other[1] - low)
        return self.round(env, total < 0, abs(total), low) if total else zero

    def _zero(self, env: Env, first: bool, second: bool) -> int:
        """The zero that two terms of these signs add up to."""
        negative = first if first == second else env.rounding == DOWN
        return self.sign if negative else 0

    # arithmetic -------------------------------------------------------------------------------------

    def add(self, env: Env, a: int, b: int, flip: int = 0) -> int:
        """a + b; with `flip` the sign bit, a - b."""
        nan = self.nan_of(env, a, b)
        if nan is not None:
            return nan
        if self.is_infinite(a) and self.is_infinite(b) and (a ^ b ^ flip) & self.sign:
            return self.invalid(env)
        a, b = self.flushed(env, a), self.flushed(env, b) ^ flip
        if self.is_infinite(a):
            return a
        if self.is_infinite(b):
            return b
        zero = self._zero(env, a >= self.sign, b >= self.sign)
        return self._sum(env, self.exact(a), self.exact(b), zero)

    def sub(self, env: Env, a: int, b: int) -> int:
        return self.add(env, a, b, self.sign)

    def mul(self, env: Env, a: int, b: int) -> int:
        nan = self.nan_of(env, a, b)
        if nan is not None:
            return nan
        flushed_a, flushed_b = self.zeroed(env, a), self.zeroed(env, b)
        infinite = self.is_infinite(a) or self.is_infinite(b)
        if infinite and not (flushed_a & self.magnitude and flushed_b & self.magnitude):
            return self.invalid(env)
        a, b = self.flushed(env, a), self.flushed(env, b)
        sign = (a ^ b) & self.sign
        if infinite:
            return sign | self.infinity
        (one, low), (other, lower) = self.parts(a), self.parts(b)
        return self.round(env, bool(sign), one * other, low + lower)

    def div(self, env: Env, a: int, b: int) -> int:
        nan = self.nan_of(env, a, b)
        if nan is not None:
            return nan
        x, y = self.zeroed(env, a), self.zeroed(env, b)
        if (self.is_infinite(x) and self.is_infinite(y)) or not (x & self.magnitude or y & self.magnitude):
            return self.invalid(env)
        sign = (x ^ y) & self.sign
        if not y & self.magnitude and not self.is_infinite(x):
            env.flags |= DIVIDE
            return sign | self.infinity
        a, b = self.flushed(env, a), self.flushed(env, b)
        if self.is_infinite(a):
            return sign | self.infinity
        if self.is_infinite(b):
            return sign
        (one, low), (other, lower) = self.parts(a), self.parts(b)
        shift = self.fraction_bits + 3 + max(0, other.bit_length() - one.bit_length())
        quotient, rest = divmod(one << shift, other)
        return self.round(env, bool(sign), quotient << 1 | bool(rest), low - lower - shift - 1)

    def sqrt(self, env: Env, a: int) -> int:
        nan = self.nan_of(env, a)
        if nan is not None:
            return nan
        x = self.zeroed(env, a)
        if not x & self.magnitude:
            return x
        if x & self.sign:
            return self.invalid(env)
        if self.is_infinite(x):
            return x
        mantissa, exponent = self.parts(self.flushed(env, x))
        shift = 2 * self.fraction_bits + 4
        shift += exponent - shift & 1
        root = isqrt(mantissa << shift)
        inexact = root * root != mantissa << shift
        return self.round(env, False, root << 1 | inexact, (exponent - shift) // 2 - 1)

    def fma(self, env: Env, a: int, b: int, c: int, product: int = 0, addend: int = 0) -> int:
        """a * b + c rounded once; `product` and `addend` are the sign bit where a term is to be negated."""
        nan = self.nan_of(env, a, b, c)
        x, y = self.zeroed(env, a), self.zeroed(env, b)
        infinite = self.is_infinite(x) or self.is_infinite(y)
        if nan is not None:
            return nan
        if infinite and not (x & self.magnitude and y & self.magnitude):
            return self.invalid(env)
        sign = (a ^ b ^ product) & self.sign
        if infinite and self.is_infinite(c) and (sign ^ c ^ addend) & self.sign:
            return self.invalid(env)
        a, b, c = self.flushed(env, a), self.flushed(env, b), self.flushed(env, c) ^ addend
        if infinite:
            return sign | self.infinity
        if self.is_infinite(c):
            return c
        (one, low), (other, lower) = self.parts(a), self.parts(b)
        term = -one * other if sign else one * other
        return self._sum(env, (term, low + lower), self.exact(c), self._zero(env, bool(sign), c >= self.sign))

    # comparing --------------------------------------------------------------------------------------

    def key(self, x: int) -> int:
        """Orders finite numbers and infinities; the two zeros are one."""
        return -(x & self.magnitude) if x & self.sign else x

    def min(self, env: Env, a: int, b: int) -> int:
        return self._lesser(env, a, b, -1)

    def max(self, env: Env, a: int, b: int) -> int:
        return self._lesser(env, a, b, 1)

    def _lesser(self, env: Env, a: int, b: int, direction: int) -> int:
        if self.is_nan(a) or self.is_nan(b):
            env.flags |= INVALID
            return b if self.is_nan(b) else self.zeroed(env, b)
        a, b = self.flushed(env, a), self.flushed(env, b)
        return a if direction * (self.key(a) - self.key(b)) > 0 else b

    def relation(self, env: Env, a: int, b: int, signals: bool) -> int:
        """0 equal, 1 less, 2 greater, 3 unordered; `signals`: quiet NaNs raise IE too."""
        if self.is_nan(a) or self.is_nan(b):
            if signals or self.is_signaling(a) or self.is_signaling(b):
                env.flags |= INVALID
            return 3
        one, other = self.key(self.flushed(env, a)), self.key(self.flushed(env, b))
        return 0 if one == other else 1 if one < other else 2

    # converting -------------------------------------------------------------------------------------

    def convert(self, env: Env, x: int, to: Format, tells: bool = True) -> int:
        """The same number in another format; `tells`: denormal operands raise DE."""
        sign = to.sign if x & self.sign else 0
        if self.is_nan(x):
            self.nan_of(env, x)
            shift = to.fraction_bits - self.fraction_bits
            fraction = x & self.fraction
            payload = fraction << shift if shift >= 0 else fraction >> -shift
            return sign | to.infinity | to.quiet | payload
        if self.is_infinite(x):
            return sign | to.infinity
        x = self.flushed(env, x) if tells else self.zeroed(env, x)
        mantissa, exponent = self.parts(x)
        return to.round(env, bool(sign), mantissa, exponent)

    def from_int(self, env: Env, value: int) -> int:
        return self.round(env, value < 0, abs(value), 0)

    def to_int(self, env: Env, x: int, bits: int, is_signed: bool, rounding: int | None = None) -> int:
        """A whole number of so many bits; what does not fit, is the indefinite one and IE."""
        indefinite = 1 << bits - 1 if is_signed else (1 << bits) - 1
        if x & self.magnitude >= self.infinity:
            env.flags |= INVALID
            return indefinite
        x = self.zeroed(env, x)
        mantissa, exponent = self.parts(x)
        negative = x >= self.sign
        mode = env.rounding if rounding is None else rounding
        value, lost = rounded(mantissa, -exponent, negative, mode)
        value = -value if negative else value
        low, high = (-(1 << bits - 1), 1 << bits - 1) if is_signed else (0, 1 << bits)
        if not low <= value < high:
            env.flags |= INVALID
            return indefinite
        if lost:
            env.flags |= PRECISION
        return value & (1 << bits) - 1

    def integral(self, env: Env, x: int, rounding: int, quietly: bool, scale: int = 0) -> int:
        """Rounded to a multiple of 2**-scale; `quietly`: without PE."""
        nan = self.nan_of(env, x)
        if nan is not None:
            return nan
        x = self.zeroed(env, x)
        if self.is_infinite(x) or not x & self.magnitude:
            return x
        mantissa, exponent = self.parts(x)
        negative = x >= self.sign
        value, lost = rounded(mantissa, -(exponent + scale), negative, rounding)
        if lost and not quietly:
            env.flags |= PRECISION
        return self.encode(negative, value, -scale) if lost else x

    def encode(self, negative: bool, mantissa: int, exponent: int) -> int:
        """The pattern of a number that the format has exactly."""
        env = Env()
        pattern = self.round(env, negative, mantissa, exponent)
        if env.flags & PRECISION:
            raise ValueError(f"{mantissa} * 2**{exponent} has no exact pattern of {self.bits} bits")
        return pattern


HALF, SINGLE, DOUBLE = Format(16, 10, flushes=False), Format(32, 23), Format(64, 52)
FORMATS = {16: HALF, 32: SINGLE, 64: DOUBLE}
