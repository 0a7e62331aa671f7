"""The instructions of the mask registers, and moves between masks and vectors.

Facts: Intel SDM volume 2, the operation section of each instruction.
"""

from __future__ import annotations

from collections.abc import Callable

from iced_x86 import Instruction

from isa.model.machine import Form, Meaning, Run
from isa.model.shapes import Maker, define
from nexus.isa.x86 import registers as r

WIDTHS = {"B": 8, "W": 16, "D": 32, "Q": 64}
_CLEARED = r.FLAG_OF | r.FLAG_SF | r.FLAG_ZF | r.FLAG_AF | r.FLAG_PF | r.FLAG_CF


def _computed(function: Callable[..., int], bits: int, sources: int) -> Maker:
    """The function of the low bits of the sources, zero above."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        reads = [form.integer(n, bits) for n in range(1, 1 + sources)]
        put = form.integer_result(0, bits)
        return lambda run: put(run, function(*[read(run) for read in reads]))

    return make


def _shifted(bits: int, up: bool) -> Maker:
    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        read, put, count = form.integer(1, bits), form.integer_result(0, bits), form.imm
        if count >= bits:
            return lambda run: put(run, 0)
        return lambda run: put(run, read(run) << count if up else read(run) >> count)

    return make


def _tested(zero: Callable[[int, int], int], carry: Callable[[int, int], int], bits: int) -> Maker:
    """ZF where `zero` gives nothing, CF where `carry` gives nothing; the other flags are cleared."""
    every = (1 << bits) - 1

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        one, other = form.integer(0, bits), form.integer(1, bits)

        def run(state: Run) -> None:
            a, b = one(state), other(state)
            flags = 0 if zero(a, b) & every else r.FLAG_ZF
            flags |= 0 if carry(a, b) & every else r.FLAG_CF
            state.state.eflags = state.state.eflags & ~_CLEARED | flags

        return run

    return make


def _unpacked(bits: int) -> Maker:
    half = bits // 2
    low = (1 << half) - 1
    return _computed(lambda a, b: (a & low) << half | b & low, bits, 2)


def _signs(bits: int) -> Maker:
    """A mask of the top bits of elements."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // bits
        read, put = form.vector(1, bits, count), form.integer_result(0, 64)
        return lambda run: put(run, sum((x >> bits - 1) << i for i, x in enumerate(read(run))))

    return make


def _spread(bits: int) -> Maker:
    """Elements of all ones or all zeros by the bits of a mask."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count, every = form.bytes * 8 // bits, (1 << bits) - 1
        read, write = form.integer(1, 64), form.result(0, bits, count)
        return lambda run: write(run, [every if read(run) >> i & 1 else 0 for i in range(count)])

    return make


def _mask_everywhere(mask_bits: int, bits: int) -> Maker:
    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // bits
        read, write = form.integer(1, mask_bits), form.result(0, bits, count)
        return lambda run: write(run, [read(run)] * count)

    return make


for _letter, _bits in WIDTHS.items():
    define("KMOV" + _letter, _computed(lambda a: a, _bits, 1))
    define("KNOT" + _letter, _computed(lambda a: ~a, _bits, 1))
    define("KADD" + _letter, _computed(lambda a, b: a + b, _bits, 2))
    define("KAND" + _letter, _computed(lambda a, b: a & b, _bits, 2))
    define("KANDN" + _letter, _computed(lambda a, b: ~a & b, _bits, 2))
    define("KOR" + _letter, _computed(lambda a, b: a | b, _bits, 2))
    define("KXOR" + _letter, _computed(lambda a, b: a ^ b, _bits, 2))
    define("KXNOR" + _letter, _computed(lambda a, b: ~(a ^ b), _bits, 2))
    define("KSHIFTL" + _letter, _shifted(_bits, True))
    define("KSHIFTR" + _letter, _shifted(_bits, False))
    define("KORTEST" + _letter, _tested(lambda a, b: a | b, lambda a, b: ~(a | b), _bits))
    define("KTEST" + _letter, _tested(lambda a, b: a & b, lambda a, b: ~a & b, _bits))
    define(f"VPMOV{_letter}2M", _signs(_bits))
    define(f"VPMOVM2{_letter}", _spread(_bits))
define("KUNPCKBW", _unpacked(16))
define("KUNPCKWD", _unpacked(32))
define("KUNPCKDQ", _unpacked(64))
define("VPBROADCASTMB2Q", _mask_everywhere(8, 64))
define("VPBROADCASTMW2D", _mask_everywhere(16, 32))
