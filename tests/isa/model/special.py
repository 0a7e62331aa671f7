"""The floating-point operations that AVX-512 adds, on `softfloat`'s formats.

Facts: Intel SDM volume 2, the operation sections and tables of special cases of VGETEXP, VGETMANT, VSCALEF,
VRANGE, VREDUCE, VRNDSCALE, VFIXUPIMM, VFPCLASS, VRCP14, VRSQRT14 and of the instructions of FP16 and BF16.
"""

from __future__ import annotations

from math import isqrt

from isa.model.softfloat import DENORMAL, DIVIDE, INVALID, PRECISION, SINGLE, Env, Format, rounded

_HALF_PI = {32: 0x3FC90FDB, 64: 0x3FF921FB54442D18}


def getexp(f: Format, env: Env, x: int) -> int:
    """floor(log2 |x|) as a number."""
    nan = f.nan_of(env, x)
    if nan is not None:
        return nan
    if f.is_infinite(x):
        return f.infinity
    x = f.flushed(env, x)
    mantissa, exponent = f.parts(x)
    if not mantissa:
        return f.sign | f.infinity
    power = exponent + mantissa.bit_length() - 1
    return f.encode(power < 0, abs(power), 0)


def getmant(f: Format, env: Env, x: int, control: int) -> int:
    """The mantissa, in the interval of control[1:0], with the sign of control[3:2]."""
    nan = f.nan_of(env, x)
    if nan is not None:
        return nan
    sign = 0 if control & 4 else x & f.sign
    x = f.zeroed(env, x)
    if not x & f.magnitude:
        return sign | f.one
    if x & f.sign and control & 8:
        return f.invalid(env)
    if f.is_infinite(x):
        return sign | f.one
    if f.is_denormal(x):
        env.flags |= DENORMAL
    mantissa, exponent = f.parts(x)
    power = exponent + mantissa.bit_length() - 1
    mantissa <<= f.fraction_bits + 1 - mantissa.bit_length()
    half = (False, power & 1, True, bool(mantissa & f.quiet))[control & 3]
    return sign | f.one - (f.hidden if half else 0) | mantissa & f.fraction


def scalef(f: Format, env: Env, x: int, y: int) -> int:
    """x * 2**floor(y)."""
    if f.is_nan(x) and not f.is_signaling(x) and f.is_infinite(y):
        return 0 if y & f.sign else f.infinity
    nan = f.nan_of(env, x, y)
    if nan is not None:
        return nan
    a, b = f.zeroed(env, x), f.zeroed(env, y)
    sign = a & f.sign
    if f.is_infinite(b):
        if f.is_infinite(a):
            return f.invalid(env) if b & f.sign else a
        if not a & f.magnitude:
            return a if b & f.sign else f.invalid(env)
        f.flushed(env, x)
        return sign if b & f.sign else sign | f.infinity
    a = f.flushed(env, x)
    if f.is_infinite(a) or not a & f.magnitude:
        return a
    scale, power = f.exact(b)
    whole = scale << power if power >= 0 else scale >> -power
    limit = 4 * f.bias + 4 * f.fraction_bits
    mantissa, exponent = f.parts(a)
    return f.round(env, bool(sign), mantissa, exponent + max(-limit, min(limit, whole)))


def range_(f: Format, env: Env, a: int, b: int, imm: int) -> int:
    """Minimum or maximum (imm[0]), of the magnitudes (imm[1]), with a sign chosen by imm[3:2]."""
    for x in (a, b):
        if f.is_signaling(x):
            env.flags |= INVALID
            return x | f.quiet
    first, second = f.is_nan(a), f.is_nan(b)
    one = a if first else f.zeroed(env, a) if second else f.flushed(env, a)
    other = b if second else f.zeroed(env, b) if first else f.flushed(env, b)
    if second:
        chosen = one
    elif first:
        chosen = other
    else:
        x, y = f.key(one), f.key(other)
        if imm & 2:
            x, y = abs(x), abs(y)
        less, greater = (one, other) if x < y else (other, one)
        if x == y:  # what is alike but for its sign: the negative one is the smaller one
            less, greater = max(one, other), min(one, other)
        chosen = greater if imm & 1 else less
    sign = (one & f.sign, chosen & f.sign, 0, f.sign)[imm >> 2 & 3]
    return sign | chosen & f.magnitude


def _rounding(env: Env, imm: int) -> int:
    return env.rounding if imm & 4 else imm & 3


def rndscale(f: Format, env: Env, x: int, imm: int) -> int:
    """Rounded to so many bits of fraction (imm[7:4])."""
    return f.integral(env, x, _rounding(env, imm), bool(imm & 8), imm >> 4)


def reduce(f: Format, env: Env, x: int, imm: int) -> int:
    """x less its rounding to so many bits of fraction (imm[7:4])."""
    nan = f.nan_of(env, x)
    if nan is not None:
        return nan
    rounding = _rounding(env, imm)
    zero = f.sign if rounding == 1 else 0
    x = f.zeroed(env, x)
    if f.is_infinite(x):
        return 0
    scale = imm >> 4
    mantissa, exponent = f.parts(x)
    negative = x >= f.sign
    whole, lost = rounded(mantissa, -(exponent + scale), negative, rounding)
    if not lost:
        return zero
    low = min(exponent, -scale)
    rest = (mantissa << exponent - low) - (whole << -scale - low)
    if not imm & 8:
        env.flags |= PRECISION
    quiet = Env(rounding=rounding)
    return f.round(quiet, (rest < 0) != negative, abs(rest), low)


def _token(f: Format, x: int) -> int:
    if f.is_nan(x):
        return 1 if f.is_signaling(x) else 0
    if not x & f.magnitude:
        return 2
    if x == f.one:
        return 3
    if f.is_infinite(x):
        return 4 if x & f.sign else 5
    return 6 if x & f.sign else 7


# token -> the bit of the immediate that asks for the exception
_ZERO_FOR = {2: 0, 3: 2}
_INVALID_FOR = {2: 1, 3: 3, 1: 4, 4: 5, 6: 6, 5: 7}


def fixupimm(f: Format, env: Env, old: int, x: int, table: int, imm: int) -> int:
    """What the table has for the kind of number that x is."""
    x = f.zeroed(env, x)
    token = _token(f, x)
    if token in _ZERO_FOR and imm >> _ZERO_FOR[token] & 1:
        env.flags |= DIVIDE
    if token in _INVALID_FOR and imm >> _INVALID_FOR[token] & 1:
        env.flags |= INVALID
    quiet = x | f.infinity | f.quiet
    ninety = f.encode(False, 90, 0)
    return (
        old, x, quiet, f.indefinite,
        f.sign | f.infinity, f.infinity, x & f.sign | f.infinity, f.sign,
        0, f.sign | f.one, f.one, f.one - f.hidden,
        ninety, _HALF_PI[f.bits], f.infinity - 1, f.sign | f.infinity - 1,
    )[table >> 4 * token & 15]  # fmt: skip


def fpclass(f: Format, env: Env, x: int, imm: int) -> int:
    """1 if x is of one of the classes in imm."""
    x = f.zeroed(env, x)
    negative, magnitude = bool(x & f.sign), x & f.magnitude
    finite = magnitude < f.infinity
    classes = (
        f.is_nan(x) and not f.is_signaling(x),
        x == 0,
        x == f.sign,
        x == f.infinity,
        x == f.sign | f.infinity,
        f.is_denormal(x),
        negative and finite and magnitude > 0,
        f.is_signaling(x),
    )
    return int(any(there and imm >> n & 1 for n, there in enumerate(classes)))


def _approximate(f: Format, negative: bool, mantissa: int, exponent: int) -> int:
    """The nearest number; what the units give lies near it (`approximations.py`)."""
    env = Env()
    return f.round(env, negative, mantissa, exponent)


def reciprocal(f: Format, env: Env, x: int) -> int:
    """1 / x, to nearest; no exceptions, denormal results by FTZ."""
    if f.is_nan(x):
        return x | f.quiet
    x = f.zeroed(env, x)
    sign = x & f.sign
    if f.is_infinite(x):
        return sign
    mantissa, exponent = f.parts(x)
    if not mantissa:
        return sign | f.infinity
    shift = 2 * f.fraction_bits + 8
    out = _approximate(f, bool(sign), (1 << shift) // mantissa, -exponent - shift)
    if f.flushes and env.ftz and f.is_denormal(out):
        return sign
    return out


def reciprocal_root(f: Format, env: Env, x: int) -> int:
    """1 / sqrt(x), to nearest; no exceptions."""
    if f.is_nan(x):
        return x | f.quiet
    x = f.zeroed(env, x)
    mantissa, exponent = f.parts(x)
    if not x & f.magnitude:
        return x & f.sign | f.infinity
    if x & f.sign:
        return f.indefinite
    if f.is_infinite(x):
        return 0
    shift = 4 * f.fraction_bits + 16
    if exponent & 1:
        mantissa, exponent = mantissa << 1, exponent - 1
    root = isqrt((1 << shift) // mantissa)
    return _approximate(f, False, root, -exponent // 2 - shift // 2)


def to_bfloat(x: int) -> int:
    """A single as BF16, to nearest; no exceptions, denormals are zeros."""
    if SINGLE.is_nan(x):
        return x >> 16 | 1 << 6
    if SINGLE.is_denormal(x):
        x &= SINGLE.sign
    return x + 0x7FFF + (x >> 16 & 1) >> 16 if not SINGLE.is_infinite(x) else x >> 16


def dot_bfloat(total: int, a: int, b: int) -> int:
    """total + the odd products + the even products of two pairs of BF16, rounded after each."""
    env = Env(0x1F80 | 1 << 6 | 1 << 15)
    total = SINGLE.fma(env, a & 0xFFFF0000, b & 0xFFFF0000, total)
    return SINGLE.fma(env, a << 16 & 0xFFFF0000, b << 16 & 0xFFFF0000, total)
