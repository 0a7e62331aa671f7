"""The model of vector instructions is right wherever that can be seen, and knows all it has to.

Its VEX forms are held against the host's processor; half precision against Python's own; what only AVX-512
has against the tables of special cases in the Intel SDM, volume 2.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable

import pytest
from iced_x86 import Decoder, Encoder, EncodingKind, Instruction, OpCodeInfo

from isa import harness, model
from isa.model import approximations, special
from isa.model.shapes import TABLE
from isa.model.softfloat import (
    DENORMAL,
    DIVIDE,
    DOUBLE,
    HALF,
    INVALID,
    OVERFLOW,
    PRECISION,
    SINGLE,
    Env,
    Format,
)
from nexus.isa.x86 import compare, features, fuzz

ON_SILICON = ("AVX", "AVX2", "FMA", "F16C", "VAES", "VPCLMULQDQ", "AES+AVX", "AVX+PCLMULQDQ")
REFUSED = ("AVX512ER", "AVX512PF", "AVX512_4FMAPS", "AVX512_4VNNIW")  # Xeon Phi's


@pytest.mark.parametrize("group", ON_SILICON)
def test_agrees_with_the_host(group: str) -> None:
    def usable(instruction: Instruction) -> bool:
        return harness.on_host(instruction) and model.knows(instruction)

    failures = []
    cases = list(fuzz.random_cases(group, 1500, seed=6, usable=usable))
    for case in cases:
        wrong = compare.differences(case, harness.run_host(case), model.result(case, harness.MEMORY))
        if wrong:
            failures.append(compare.describe(case, wrong))
    assert cases and not failures, "\n".join(failures[:5]) + f"\n{len(failures)} in all"


def _under_evex(case: fuzz.Case) -> fuzz.Case | None:
    """The same instruction on the same state in its EVEX encoding, if it has one with the same operands."""
    raw = case.instruction
    vex = raw.op_code()
    kinds = [vex.op_kind(n) for n in range(vex.op_count)]
    for code in features.codes_of(raw.mnemonic):
        info = OpCodeInfo(code)
        same = [info.op_kind(n) for n in range(info.op_count)] == kinds and (info.is_lig or info.l == vex.l)
        if info.encoding != EncodingKind.EVEX or not same:
            continue
        other = raw.copy()
        other.code = code
        encoder = Encoder(64)
        encoder.encode(other, fuzz.AT)
        data = encoder.take_buffer()
        return fuzz.Case(data, Decoder(64, data, ip=fuzz.AT).decode(), case.state)
    return None


@pytest.mark.parametrize("group", ON_SILICON)
def test_evex_forms_do_what_the_host_does_under_vex(group: str) -> None:
    """Without a mask, on 128 and 256 bits."""
    compared, failures = 0, []
    for case in fuzz.random_cases(group, 1000, seed=8, usable=harness.on_host):
        wide = _under_evex(case)
        if wide is None or not model.knows(wide.instruction):
            continue
        compared += 1
        wide.patches = case.patches
        expected = harness.run_host(case)
        if expected.outcome.exit == 0:
            expected.outcome.pc = fuzz.AT + len(wide.code)
        wrong = compare.differences(wide, expected, model.result(wide, harness.MEMORY))
        if wrong:
            failures.append(compare.describe(wide, wrong))
    assert compared > 50 and not failures, "\n".join(failures[:5]) + f"\n{len(failures)} of {compared}"


def test_has_every_instruction_of_avx512() -> None:
    missing = []
    for number, name in features.names().items():
        for code in features.codes_of(number):
            group = features.group_of(code)
            wanted = "AVX512" in group or OpCodeInfo(code).encoding == EncodingKind.EVEX
            if wanted and group not in REFUSED and number not in TABLE:
                missing.append(f"{group} {name}")
    assert not missing


def _half(x: int) -> float:
    return float(struct.unpack("<e", x.to_bytes(2, "little"))[0])


def _nearest_half(x: float) -> int:
    try:
        return int.from_bytes(struct.pack("<e", x), "little")
    except OverflowError:
        return 0x7C00 if x > 0 else 0xFC00


OPERATIONS: dict[str, tuple[Callable[[Env, int, int], int], Callable[[float, float], float]]] = {
    "add": (HALF.add, lambda a, b: a + b),
    "sub": (HALF.sub, lambda a, b: a - b),
    "mul": (HALF.mul, lambda a, b: a * b),
    "div": (HALF.div, lambda a, b: a / b if b else math.copysign(math.inf, a) * math.copysign(1, b)),
    "sqrt": (lambda env, a, b: HALF.sqrt(env, a & 0x7FFF), lambda a, b: math.sqrt(abs(a))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_half_precision_is_pythons(name: str) -> None:
    """Double precision has more than twice the bits, so that rounding its results once more is exact."""
    ours, pythons = OPERATIONS[name]
    rng = random.Random(name)
    for _ in range(4000):
        a, b = rng.getrandbits(16), rng.getrandbits(16)
        with_nan = HALF.is_nan(a) or HALF.is_nan(b)
        if with_nan or (name == "div" and not (a & 0x7FFF or b & 0x7FFF)):
            continue
        expected = pythons(_half(a), _half(b))
        got = ours(Env(), a, b)
        if math.isnan(expected):
            assert got == HALF.indefinite
        else:
            assert got == _nearest_half(expected), (hex(a), hex(b))


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_unsigned_numbers_are_pythons(bits: int) -> None:
    """Conversions from and to whole numbers without a sign, which no VEX form has. Python rounds to even."""
    rng = random.Random(bits)
    for _ in range(2000):
        number = rng.getrandbits(bits) >> rng.randrange(bits)
        assert DOUBLE.from_int(Env(), number) == int.from_bytes(struct.pack("<d", float(number)), "little")
        pattern = (
            DOUBLE.one + (rng.randrange(-3, bits + 2) << 52) + rng.getrandbits(52) | rng.getrandbits(1) << 63
        )
        value = struct.unpack("<d", pattern.to_bytes(8, "little"))[0]
        whole, env = round(value), Env()
        got = DOUBLE.to_int(env, pattern, bits, False)
        if 0 <= whole < 1 << bits:
            assert (got, env.flags) == (whole, 0 if whole == value else PRECISION)
        else:
            assert (got, env.flags) == ((1 << bits) - 1, INVALID)


ONE, TWO, INF = (SINGLE.one, SINGLE.one + SINGLE.hidden, SINGLE.infinity)
QNAN, SNAN, MINUS = 0x7FC00001, 0x7F800001, SINGLE.sign

# function, arguments, result, exceptions; tables of special cases, volume 2
SPECIAL: list[tuple[Callable[..., int], tuple[int, ...], int, int]] = [
    (special.getexp, (0x41000000,), 0x40400000, 0),
    (special.getexp, (1,), 0xC3150000, DENORMAL),  # 2**-149
    (special.getexp, (0,), MINUS | INF, 0),
    (special.getexp, (MINUS | INF,), INF, 0),
    (special.getexp, (SNAN,), SNAN | 0x400000, INVALID),
    (special.getmant, (0x40C00000, 0), 0x3FC00000, 0),  # 6 -> 1.5
    (special.getmant, (0x41400000, 1), 0x3F400000, 0),  # 12 = 1.5 * 2**3 -> 0.75
    (special.getmant, (0x40C00000, 2), 0x3F400000, 0),
    (special.getmant, (0x40A00000, 3), 0x3FA00000, 0),  # 5 -> 1.25, below 1.5
    (special.getmant, (0x40E00000, 3), 0x3F600000, 0),  # 7 -> 0.875
    (special.getmant, (MINUS, 0), MINUS | ONE, 0),
    (special.getmant, (MINUS, 4), ONE, 0),
    (special.getmant, (MINUS | INF, 8), SINGLE.indefinite, INVALID),
    (special.getmant, (MINUS | TWO, 8), SINGLE.indefinite, INVALID),
    (special.scalef, (ONE, TWO), 0x40800000, 0),
    (special.scalef, (ONE, 0xBF000000), 0x3F000000, 0),  # floor(-0.5)
    (special.scalef, (ONE, 0x44000000), INF, OVERFLOW | PRECISION),
    (special.scalef, (QNAN, INF), INF, 0),
    (special.scalef, (QNAN, MINUS | INF), 0, 0),
    (special.scalef, (INF, MINUS | INF), SINGLE.indefinite, INVALID),
    (special.scalef, (0, INF), SINGLE.indefinite, INVALID),
    (special.scalef, (MINUS | ONE, MINUS | INF), MINUS, 0),
    (special.range_, (MINUS, 0, 4), MINUS, 0),
    (special.range_, (0, MINUS, 5), 0, 0),
    (special.range_, (MINUS | TWO, TWO, 6), MINUS | TWO, 0),
    (special.range_, (TWO, MINUS | TWO, 7), TWO, 0),
    (special.range_, (MINUS | ONE, TWO, 1), MINUS | TWO, 0),  # the sign of the first
    (special.range_, (ONE, QNAN, 12), MINUS | ONE, 0),
    (special.range_, (QNAN, SNAN, 8), SNAN | 0x400000, INVALID),
    (special.reduce, (0x40600000, 0), 0xBF000000, PRECISION),  # 3.5 - 4
    (special.reduce, (0x40600000, 8 | 3), 0x3F000000, 0),
    (special.reduce, (TWO, 1), MINUS, 0),
    (special.reduce, (INF, 0), 0, 0),
    (special.rndscale, (0x3FA66666, 0x10 | 8), 0x3FC00000, 0),  # 1.3 -> 1.5 in halves
    (special.fixupimm, (5, INF, 9 << 20, 0), MINUS | ONE, 0),
    (special.fixupimm, (5, 0, 5 << 8, 3), INF, DIVIDE | INVALID),
    (special.fixupimm, (5, ONE, 0, 0), 5, 0),
    (special.fixupimm, (5, MINUS | TWO, 0xC << 24, 0x40), 0x42B40000, INVALID),
    (special.fpclass, (MINUS, 4), 1, 0),
    (special.fpclass, (SNAN, 1), 0, 0),
    (special.fpclass, (MINUS | 1, 0x40), 1, 0),
]  # fmt: skip


def _named(row: tuple[Callable[..., int], tuple[int, ...], int, int]) -> str:
    return "-".join([row[0].__name__, *(f"{x:x}" for x in row[1])])


@pytest.mark.parametrize("row", SPECIAL, ids=_named)
def test_special_cases(row: tuple[Callable[..., int], tuple[int, ...], int, int]) -> None:
    function, arguments, expected, exceptions = row
    env = Env()
    assert (function(SINGLE, env, *arguments), env.flags) == (expected, exceptions)


@pytest.mark.parametrize("f", [HALF, SINGLE, DOUBLE], ids=["half", "single", "double"])
def test_approximations_are_near(f: Format) -> None:
    """The model's own reciprocals are nearest; one that is off by more than the manual allows is refused."""
    rng = random.Random(f.bits)
    for _ in range(500):
        x = f.one + rng.randrange(-3, 4) * f.hidden + rng.randrange(f.hidden)
        inverse = special.reciprocal(f, Env(), x)
        mantissa, exponent = f.parts(inverse)
        other, power = f.parts(x)
        error = abs(mantissa * other - (1 << -(exponent + power)))
        assert error <= other
        assert approximations.close(f, inverse, inverse + 1)
        assert not approximations.close(f, inverse, inverse + max(2, f.hidden >> 12))


def test_masked_elements_are_not_touched() -> None:
    """vmovdqu8 xmm1{k1},[rbx] at the end of the memory, with as many mask bits as there are bytes."""
    case = harness.case("62f17f096f0b", rbx=fuzz.MEMORY + fuzz.MEMORY_SIZE - 3)
    case.state.set_k(1, 0b111)
    case.state.set_xmm(1, b"\x55" * 16)
    result = model.result(case, harness.MEMORY)
    assert result.outcome.exit == 0
    assert result.state.xmm(1) == harness.MEMORY[-3:] + b"\x55" * 13
    case.state.set_k(1, 0b1111)
    fault = model.result(case, harness.MEMORY)
    assert (fault.outcome.address, fault.state.k(1)) == (fuzz.MEMORY + fuzz.MEMORY_SIZE, 0b1111)


def test_scatter_stops_where_it_faults() -> None:
    """vpscatterdd [rbx+zmm2]{k1},zmm1: elements below the one that faults are stored, their bits cleared."""
    case = harness.case("62f27d49a00c13", rbx=fuzz.MEMORY)
    indices = [16, 32, fuzz.MEMORY_SIZE, 48] + [64] * 12
    case.state.set_vector(2, struct.pack("<16I", *indices))
    case.state.set_vector(1, struct.pack("<16I", *range(1, 17)))
    case.state.set_k(1, 0xFF0D)
    result = model.result(case, harness.MEMORY)
    assert result.outcome.address == fuzz.MEMORY + fuzz.MEMORY_SIZE and result.outcome.write
    assert result.state.k(1) == 0xFF0C and result.memory[16:20] == b"\1\0\0\0"
    assert result.memory[20:] == harness.MEMORY[20:]
