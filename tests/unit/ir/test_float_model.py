"""The oracle's arithmetic against Python's own floats, and its rounding modes against exact fractions."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from fractions import Fraction

import pytest

from nexus.ir.ops import float_model as model
from nexus.ir.ops.float_model import CHOP, DOWN, F32, F64, F80, NEAREST, UP, Format, Number

EDGES64 = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    1e308,
    -1e308,
    5e-324,
    2.2250738585072014e-308,
    math.inf,
    -math.inf,
    3.0,
)


def bits64(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def float64(bits: int) -> float:
    return float(struct.unpack("<d", bits.to_bytes(8, "little"))[0])


def bits32(value: float) -> int:
    return int.from_bytes(struct.pack("<f", value), "little")


def samples(rng: random.Random, count: int) -> list[float]:
    return [
        rng.choice(EDGES64) if rng.random() < 0.3 else rng.uniform(-2, 2) * 2.0 ** rng.randint(-1060, 1000)
        for _ in range(count)
    ]


OPERATIONS: dict[str, tuple[Callable[..., tuple[int, int]], Callable[[float, float], float]]] = {
    "add": (model.add, lambda a, b: a + b),
    "sub": (lambda f, a, b: model.add(f, a, b, negate=True), lambda a, b: a - b),
    "mul": (model.multiply, lambda a, b: a * b),
    "div": (model.divide, lambda a, b: a / b),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_double_arithmetic_is_the_hosts(name: str) -> None:
    ours, python = OPERATIONS[name]
    rng = random.Random(name)
    for a, b in zip(samples(rng, 2000), samples(rng, 2000), strict=True):
        if name == "div" and b == 0:
            continue
        expected = python(a, b)
        result = ours(F64, bits64(a), bits64(b))[0]
        if math.isnan(expected):
            assert result == F64.default_nan
        else:
            assert result == bits64(expected), (a, b)


def test_square_root_and_narrowing_are_the_hosts() -> None:
    rng = random.Random(1)
    for value in samples(rng, 1000):
        if value >= 0:
            assert model.square_root(F64, bits64(value))[0] == bits64(math.sqrt(value))
        if abs(value) < 3e38:
            assert model.convert(F64, F32, bits64(value))[0] == bits32(value)
        assert model.convert(F80, F64, model.convert(F64, F80, bits64(value))[0])[0] == bits64(value)


@pytest.mark.parametrize("fmt", [F32, F64, F80])
@pytest.mark.parametrize("mode", [NEAREST, DOWN, UP, CHOP])
def test_rounding_is_the_closest_on_the_right_side(fmt: Format, mode: int) -> None:
    """Of 1/3, and its negative: the neighbours of the result enclose the exact value as the mode wants."""
    one, three = model.from_integer(fmt, 1)[0], model.from_integer(fmt, 3)[0]
    for sign in (0, 1):
        result, status = model.divide(fmt, one | sign << fmt.bits - 1, three, mode=mode)
        found = Number(fmt, result)
        value = Fraction(found.m) * Fraction(2) ** found.e * (-1 if sign else 1)
        error, unit = value - Fraction(-1 if sign else 1, 3), Fraction(2) ** found.e
        assert status & model.PE and abs(error) < unit
        if mode == NEAREST:
            assert abs(error) <= unit / 2
        else:
            assert (error > 0) == (mode == UP or (mode == CHOP and sign == 1))


@pytest.mark.parametrize(
    ("value", "mode", "result"),
    [(2.5, NEAREST, 2), (3.5, NEAREST, 4), (-2.5, DOWN, -3), (-2.5, UP, -2), (-2.5, CHOP, -2), (2.5, UP, 3)],
)
def test_integers(value: float, mode: int, result: int) -> None:
    assert model.to_integer(F64, bits64(value), 32, mode=mode)[0] == result & 0xFFFFFFFF
    assert float64(model.round_integral(F64, bits64(value), mode=mode)[0]) == result


def test_out_of_range_is_the_integer_indefinite() -> None:
    for value in (2.0**31, -(2.0**31) - 1, math.nan, math.inf):
        assert model.to_integer(F64, bits64(value), 32) == (1 << 31, model.IE)
    assert model.to_integer(F64, bits64(-(2.0**31)), 32) == (1 << 31, 0)


def test_exceptions() -> None:
    """Intel SDM volume 1, 4.9.1."""
    one, zero, huge = bits64(1.0), bits64(0.0), bits64(1e308)
    assert model.divide(F64, one, zero) == (bits64(math.inf), model.ZE)
    assert model.divide(F64, zero, zero) == (F64.default_nan, model.IE)
    assert model.multiply(F64, huge, huge)[1] & 0x3F == model.OE | model.PE
    assert model.multiply(F64, 1, bits64(0.3))[1] & 0x3F == model.UE | model.PE | model.DE
    assert model.multiply(F64, huge, huge, mode=CHOP)[0] == bits64(1.7976931348623157e308)
    signalling = 0x7FF0000000000001
    assert model.add(F64, signalling, one) == (signalling | 1 << 51, model.IE)


def test_comparison() -> None:
    order = [bits64(v) for v in (-math.inf, -1.0, 0.0, 5e-324, 1.0, math.inf)]
    for i, a in enumerate(order):
        for j, b in enumerate(order):
            assert model.compare(F64, a, b) == (i > j) - (i < j)
    assert model.compare(F64, bits64(0.0), bits64(-0.0)) == 0
    assert model.compare(F64, order[0], bits64(math.nan)) == 2
