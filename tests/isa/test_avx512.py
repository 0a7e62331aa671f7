"""AVX-512 by hand: masks, zeroing, broadcasts, rounding in the instruction, what a mask leaves out of memory,
and a value of each kind of instruction, from the manual (Intel SDM volume 2), IEEE 754 and Python's own
arithmetic. Random ones are in test_random.py."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from isa import harness
from nexus.ir.state import Exit
from nexus.isa.x86 import fuzz
from nexus.isa.x86 import registers as r
from nexus.isa.x86.compare import Result

END = fuzz.MEMORY + fuzz.MEMORY_SIZE
Run = Callable[..., Result]


def pack(kind: str, *values: float) -> bytes:
    """A vector: the values over and over."""
    data = struct.pack(f"<{len(values)}{kind}", *values)
    return data * (64 // len(data))


def on(engine: str) -> Run:
    """Run code with `z` (zmm registers), `k` (masks) and general registers."""

    def go(
        code: str, z: dict[int, bytes] | None = None, k: dict[int, int] | None = None, **gprs: int
    ) -> Result:
        case = harness.case(code, **gprs)
        for number, value in (z or {}).items():
            case.state.set_vector(number, value)
        for number, mask in (k or {}).items():
            case.state.set_k(number, mask)
        return harness.ENGINES[engine](case)

    return go


@pytest.fixture(params=harness.ENGINES)
def run(request: pytest.FixtureRequest) -> Run:
    return on(request.param)


@pytest.fixture(params=[name for name in harness.ENGINES if name != "oracle"])
def compiled(request: pytest.FixtureRequest) -> Run:
    """Not the oracle, which rounds to nearest."""
    return on(request.param)


ONES, TWOS, OLD = pack("I", 1), pack("I", 2), pack("I", 0xDEADBEEF)


# the encoding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "rest"), [("62f17549fec2", 0xDEADBEEF), ("62f175c9fec2", 0)])
def test_masked_lanes_are_kept_or_cleared(run: Run, code: str, rest: int) -> None:
    after = run(code, {0: OLD, 1: ONES, 2: TWOS}, {1: 0x5}).state  # vpaddd zmm0{k1},zmm1,zmm2 ; with {z}
    assert after.vector(0) == struct.pack("<16I", 3, rest, 3, *[rest] * 13)


def test_writing_256_bits_clears_the_upper_half(run: Run) -> None:
    after = run("c5f5fec2", {0: OLD, 1: ONES, 2: TWOS}).state  # vpaddd ymm0,ymm1,ymm2
    assert after.vector(0) == pack("I", 3)[:32] + bytes(32)


def test_a_number_in_memory_for_every_lane(run: Run) -> None:
    """vpaddd zmm17,zmm1,[rbx+8]{1to16}: the displacement in the code is 2, times 4."""
    after = run("62e17558fe4b02", {1: ONES}, rbx=0x12000, memory_12008=0x99_0000_0041).state
    assert after.vector(17) == pack("I", 0x42)


def test_displacements_count_whole_vectors(run: Run) -> None:
    after = run(
        "62f17c48104301", rbx=0x12000, memory_12040=0x1122334455667788
    ).state  # vmovups zmm0,[rbx+40h]
    assert after.vector(0)[:8] == bytes.fromhex("8877665544332211")


@pytest.mark.parametrize(("code", "sum"), [("62f1743858c2", 0x3F800000), ("62f1745858c2", 0x3F800001)])
def test_rounding_in_the_instruction(compiled: Run, code: str, sum: int) -> None:
    """1 + 2**-30 down and up, by vaddps with {rd-sae} and {ru-sae}: no exception is told."""
    after = compiled(code, {1: pack("f", 1.0), 2: pack("f", 2.0**-30)}).state
    assert after.vector(0) == pack("I", sum) and after.mxcsr == r.DEFAULT_MXCSR


def test_masked_lanes_raise_nothing(run: Run) -> None:
    """vdivps of 0 by 0 where the mask has no bit."""
    after = run(
        "62f174495ec2",
        {0: OLD, 1: bytes(60) + pack("f", 6.0)[:4], 2: bytes(60) + pack("f", 3.0)[:4]},
        {1: 1 << 15},
    )
    assert after.state.vector(0) == OLD[:60] + struct.pack("<f", 2.0)
    assert after.state.mxcsr == r.DEFAULT_MXCSR


def test_what_is_masked_is_not_accessed(run: Run) -> None:
    """Loads and stores that end 12 bytes, or 3, before the end of the memory."""
    assert run("62f17e496f03", {0: OLD}, {1: 0x7}, rbx=END - 12).outcome.exit == Exit.NONE
    assert run("62f17e496f03", {0: OLD}, {1: 0xF}, rbx=END - 12).outcome.exit == Exit.FAULT
    stored = run("62f17f497f03", {0: OLD}, {1: 0x5}, rbx=END - 3)  # vmovdqu8 [rbx]{k1},zmm0
    assert stored.outcome.exit == Exit.NONE and stored.memory[-3:] == bytes((0xEF, harness.MEMORY[-2], 0xAD))
    failed = run("62f17f497f03", {0: OLD}, {1: 0xD}, rbx=END - 3)
    assert failed.outcome.exit == Exit.FAULT and failed.outcome.address == END
    assert failed.memory[-3:] == harness.MEMORY[-3:]


# a value of each kind ----------------------------------------------------------------------------------


def test_comparisons_go_into_masks(run: Run) -> None:
    mixed = struct.pack("<16I", *range(16))
    after = run("62f375491ed201", {1: mixed, 2: pack("I", 4)}, {1: 0xFFF9, 2: -1 % 2**64}).state
    assert after.k(2) == 0b1001  # vpcmpltud k2{k1},zmm1,zmm2: 0 1 2 3 are below 4, 1 and 2 masked


def test_logic_of_three(run: Run) -> None:
    a, b, c = 0x0F0F3355, 0x33335500, 0x12345678
    after = run("62f3754825c296", {0: pack("I", a), 1: pack("I", b), 2: pack("I", c)}).state
    assert after.vector(0) == pack("I", a ^ b ^ c)  # 96h


def test_compressing_and_expanding(run: Run) -> None:
    lanes = struct.pack("<16I", *range(100, 116))
    stored = run(
        "62f27d498b03", {0: lanes}, {1: 0x8101}, rbx=END - 12
    )  # three lanes are all there is room for
    assert stored.outcome.exit == Exit.NONE and stored.memory[-12:] == struct.pack("<3I", 100, 108, 115)
    after = run("62f27dc989c1", {0: OLD, 1: lanes}, {1: 0x8101}).state
    assert after.vector(0) == struct.pack("<16I", 100, *[0] * 7, 101, *[0] * 6, 102)


def test_permutation_of_two(run: Run) -> None:
    order = struct.pack("<16I", *(31, 0, 16, 15, 33, *range(11)))  # five bits count
    one, other = struct.pack("<16I", *range(16)), struct.pack("<16I", *range(50, 66))
    after = run("62f2754876c2", {0: order, 1: one, 2: other}).state
    assert struct.unpack("<16I", after.vector(0)) == (65, 0, 50, 15, 1, *range(11))


def test_mask_registers(run: Run) -> None:
    flags = run("c5f898ca", k={1: 0xFF00, 2: 0x100FF}).state.eflags  # kortestw: all ones in 16 bits
    assert flags & (r.FLAG_CF | r.FLAG_ZF) == r.FLAG_CF
    assert run("c5f54bc2", k={1: 0xAB12, 2: 0xCD34}).state.k(0) == 0x1234  # kunpckbw
    assert run("c4e3f932c111", k={0: 7, 1: 0xFFFF}).state.k(0) == 0  # kshiftlw by 17


def test_scatter_and_gather_clear_their_mask(run: Run) -> None:
    places = struct.pack("<16i", *(8, 3, 8, *range(20, 33)))
    stored = run("62f27d49a0048b", {0: struct.pack("<16I", *range(1, 17)), 1: places}, {1: 0x7}, rbx=0x12000)
    at = 0x12000 - fuzz.MEMORY
    assert stored.state.k(1) == 0
    assert stored.memory[at + 12 : at + 16] == struct.pack("<I", 2)
    assert stored.memory[at + 32 : at + 36] == struct.pack("<I", 3)  # the later lane wins
    loaded = run("62f27d4990048b", {0: OLD, 1: places}, {1: 0x5}, rbx=0x12000, memory_12020=0x77).state
    assert loaded.vector(0)[:12] == struct.pack("<3I", 0x77, 0xDEADBEEF, 0x77) and loaded.k(1) == 0


def test_integers(run: Run) -> None:
    lanes = struct.pack("<16I", *(5, 7, 5, 5, *range(100, 112)))
    assert struct.unpack("<4I", run("62f27d48c4c1", {1: lanes}).state.vector(0)[:16]) == (0, 0, 1, 5)
    assert run("62f27d4844c1", {1: pack("I", 0, 1, 1 << 31, 0xFF)}).state.vector(0) == pack(
        "I", 32, 31, 0, 24
    )
    a, b = pack("B", 200, 1, 2, 3), pack("b", -100, 1, 1, 1)
    assert run("62f2754850c2", {0: ONES, 1: a, 2: b}).state.vector(0) == pack("i", 1 - 20000 + 6)  # vpdpbusd
    x, y = (1 << 52) - 1, (1 << 52) - 3
    after = run("62f2f548b4c2", {0: pack("Q", 5), 1: pack("Q", x | 7 << 60), 2: pack("Q", y)}).state
    assert after.vector(0) == pack("Q", 5 + x * y % (1 << 52))  # vpmadd52luq
    after = run("62f2f54883c2", {1: pack("Q", 0x3F04_0020_1810_0800), 2: pack("Q", 0x8123456789ABCDEF)}).state
    assert after.vector(0)[:8] == bytes((0xEF, 0xCD, 0xAB, 0x89, 0x67, 0xEF, 0xDE, 0xDF))  # vpmultishiftqb
    narrowed = run("62f27e4811c8", {0: OLD, 1: struct.pack("<16I", *range(248, 264))}).state.vector(0)
    assert narrowed == bytes(range(248, 256)) + b"\xff" * 8 + bytes(48)  # vpmovusdb
    both = run(
        "62f2774868d2", {1: struct.pack("<16I", *range(16)), 2: struct.pack("<16I", *range(10, 26))}
    ).state
    assert (both.k(2), both.k(3)) == (0xFC00, 0x003F)  # vp2intersectd


def test_conversions_to_and_from_unsigned(run: Run) -> None:
    after = run("62f17c4878c1", {1: pack("f", 4294967040.0, -1.0, 3.99, float("nan"))}).state  # vcvttps2udq
    assert after.vector(0) == pack("I", 4294967040, 0xFFFFFFFF, 3, 0xFFFFFFFF)
    numbers = (0, 1, 1 << 63, (1 << 64) - 1, (1 << 63) + 1025, 3, 1 << 53, (1 << 54) + 1)
    after = run("62f1fe487ac1", {1: pack("Q", *numbers)}).state  # vcvtuqq2pd
    assert after.vector(0) == pack("d", *(float(n) for n in numbers))


def test_exponents_significands_fractions(run: Run) -> None:
    numbers = pack("f", 10.0, -0.15625, 0.0, float("inf"))
    assert run("62f27d4842c1", {1: numbers}).state.vector(0) == pack("f", 3, -3, -float("inf"), float("inf"))
    assert run("62f37d4826c100", {1: numbers}).state.vector(0) == pack("f", 1.25, -1.25, 1.0, 1.0)
    after = run("62f37d4808c120", {1: pack("f", 1.1, 2.625, -0.1, 1e30)}).state  # vrndscaleps: to quarters
    assert after.vector(0) == pack("f", 1.0, 2.5, -0.0, 1e30)
    after = run("62f275482cc2", {1: pack("f", 1.5, 3.0, 0.0, 1.0), 2: pack("f", 4.9, -1.5, 9.0, 200.0)}).state
    assert after.vector(0) == pack("f", 24.0, 0.75, 0.0, float("inf"))  # vscalefps
    after = run(
        "62f37d4866d101", {1: pack("I", 0x7FC00000, 0x7F800001, 0, 1)}
    ).state  # vfpclassps: quiet NaNs
    assert after.k(2) == 0x1111


def test_half_precision(run: Run) -> None:
    after = run("62f5744858c2", {1: pack("e", 1.0, 65504.0), 2: pack("e", 2.0**-24, 65504.0)}).state
    assert after.vector(0) == pack("e", 1.0, float("inf"))  # vaddph
    after = run("62f5744859c2", {1: pack("e", 1.5, 2.0**-14), 2: pack("e", 3.0, 2.0**-10)}).state
    assert after.vector(0) == pack("e", 4.5, 2.0**-24)  # vmulph: the least there is
    # vfmadd213ph: 1 + 2**-10 squared is 1 + 2**-9 + 2**-20, which rounding twice would lose
    after = run(
        "62f67548a8c2", {0: pack("e", 1 + 2**-10), 1: pack("e", 1 + 2**-10), 2: pack("e", -1 - 2**-9)}
    ).state
    assert after.vector(0) == pack("e", 2.0**-20)


def test_bfloat16_is_rounded_to_even(run: Run) -> None:
    after = run("62f27e4872c1", {1: pack("I", 0x3F808000, 0x3F818000, 0x7F800001, 0x80000001)}).state
    assert after.vector(0) == struct.pack("<4H", 0x3F80, 0x3F82, 0x7FC0, 0x8000) * 4 + bytes(32)
