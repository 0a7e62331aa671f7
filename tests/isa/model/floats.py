"""Packed and scalar floating point: arithmetic, comparisons, what AVX-512 adds, complex numbers, BF16.

Facts: Intel SDM volume 2, the operation section of each instruction; volume 1, chapter 14.5 for which of the
operands of a fused multiply-add is which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from iced_x86 import Instruction

from isa.model import special
from isa.model.machine import Form, Meaning, Run
from isa.model.shapes import Function, accumulating, concluded, define, lanes, scalar
from isa.model.softfloat import DOUBLE, HALF, SINGLE, Env, Format
from nexus.isa.x86 import registers as r

FORMATS = {"S": SINGLE, "D": DOUBLE, "H": HALF}
Made = Callable[[Format], Function]


def both(name: str, make: Made, sources: int, letters: str = "SDH", imm: bool = False) -> None:
    """The packed and the scalar forms of an operation in some formats."""
    for letter in letters:
        f = FORMATS[letter]
        widths = (f.bits,) * sources
        define(f"V{name}P{letter}", lanes(make(f), widths, f.bits, imm=imm, env=True))
        define(f"V{name}S{letter}", _lowest(make(f), sources, f.bits, imm))


def _lowest(function: Function, sources: int, bits: int, imm: bool) -> Callable[[Instruction], Meaning]:
    """Scalar forms have their sources last; what is not computed comes from operand 1."""
    numbers = range(3 - sources, 3)
    return scalar(function, (bits,) * sources, bits, sources=numbers, imm=imm)


both("ADD", lambda f: f.add, 2)
both("SUB", lambda f: f.sub, 2)
both("MUL", lambda f: f.mul, 2)
both("DIV", lambda f: f.div, 2)
both("MIN", lambda f: f.min, 2)
both("MAX", lambda f: f.max, 2)
both("SQRT", lambda f: f.sqrt, 1)
both("SCALEF", lambda f: partial(special.scalef, f), 2)
both("GETEXP", lambda f: partial(special.getexp, f), 1)
both("GETMANT", lambda f: partial(special.getmant, f), 1, imm=True)
both("RNDSCALE", lambda f: partial(special.rndscale, f), 1, imm=True)
both("REDUCE", lambda f: partial(special.reduce, f), 1, imm=True)
both("RANGE", lambda f: partial(special.range_, f), 2, "SD", imm=True)
both("ROUND", lambda f: lambda env, x, imm: special.rndscale(f, env, x, imm & 15), 1, "SD", imm=True)


# fused ------------------------------------------------------------------------------------------------

_ORDERS = {"132": (0, 2, 1), "213": (1, 0, 2), "231": (1, 2, 0)}
# name -> which term is negated: the product, the addend; for alternating ones of even and odd elements
_FUSED = {"MADD": (0, 0), "MSUB": (0, 1), "NMADD": (1, 0), "NMSUB": (1, 1)}


def _fused(f: Format, order: Sequence[int], product: int, addend: int) -> Function:
    negate, subtract = product and f.sign, addend and f.sign

    def fused(env: Env, *operands: int) -> int:
        a, b, c = (operands[n] for n in order)
        return f.fma(env, a, b, c, negate, subtract)

    return fused


def _alternating(f: Format, order: Sequence[int], odd_adds: bool) -> Callable[[Instruction], Meaning]:
    """Even elements subtract and odd ones add, or the other way round."""
    add, subtract = _fused(f, order, 0, 0), _fused(f, order, 0, 1)
    functions = (subtract, add) if odd_adds else (add, subtract)

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // f.bits
        reads = [form.vector(n, f.bits, count, count) for n in range(3)]
        write = form.result(0, f.bits, count)

        def run(state: Run) -> None:
            active = form.active(state, count)
            columns = zip(*[read(state) for read in reads], strict=True)
            write(state, [
                functions[i & 1](state.env, *column) if active >> i & 1 else 0
                for i, column in enumerate(columns)
            ])  # fmt: skip

        return concluded(form, run)

    return make


for _order, _places in _ORDERS.items():
    for _letter, _f in FORMATS.items():
        _three = (_f.bits,) * 3
        for _name, _signs in _FUSED.items():
            _function = _fused(_f, _places, *_signs)
            define(f"VF{_name}{_order}P{_letter}", accumulating(lanes, _function, _three, env=True))
            define(f"VF{_name}{_order}S{_letter}", accumulating(scalar, _function, _three, above=0))
        define(f"VFMADDSUB{_order}P{_letter}", _alternating(_f, _places, odd_adds=True))
        define(f"VFMSUBADD{_order}P{_letter}", _alternating(_f, _places, odd_adds=False))


# comparing ----------------------------------------------------------------------------------------------

# which of equal, less, greater, unordered are true, by imm[3:0]; and whether quiet NaNs raise IE, where
# imm[4] is clear
_TRUE = (
    (0,), (1,), (0, 1), (3,), (1, 2, 3), (0, 2, 3), (2, 3), (0, 1, 2),
    (0, 3), (1, 3), (0, 1, 3), (), (1, 2), (0, 2), (2,), (0, 1, 2, 3),
)  # fmt: skip
_SIGNALING = (0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0)


def _compared(f: Format, ones: int) -> Function:
    def compare(env: Env, a: int, b: int, imm: int) -> int:
        signals = bool(_SIGNALING[imm & 15]) != bool(imm & 16)
        return ones if f.relation(env, a, b, signals) in _TRUE[imm & 15] else 0

    return compare


for _letter, _f in FORMATS.items():
    _compare, _two = _compared(_f, (1 << _f.bits) - 1), (_f.bits,) * 2
    define(f"VCMPP{_letter}", lanes(_compare, _two, _f.bits, imm=True, env=True))
    define(f"VCMPS{_letter}", _lowest(_compare, 2, _f.bits, True))


def _flags_compared(f: Format, signals: bool) -> Callable[[Instruction], Meaning]:
    """VCOMISS and VUCOMISS: ZF, PF and CF of the relation, the other flags cleared."""
    flags = (r.FLAG_ZF, r.FLAG_CF, 0, r.FLAG_ZF | r.FLAG_PF | r.FLAG_CF)
    every = r.FLAG_OF | r.FLAG_SF | r.FLAG_ZF | r.FLAG_AF | r.FLAG_PF | r.FLAG_CF

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        one, other = form.scalar(0, f.bits), form.scalar(1, f.bits)

        def run(state: Run) -> None:
            relation = f.relation(state.env, one(state), other(state), signals)
            state.state.eflags = state.state.eflags & ~every | flags[relation]

        return concluded(form, run)

    return make


for _letter, _f in FORMATS.items():
    define(f"VCOMIS{_letter}", _flags_compared(_f, True))
    define(f"VUCOMIS{_letter}", _flags_compared(_f, False))


# classes, fixing, approximations -------------------------------------------------------------------------

for _letter, _f in FORMATS.items():
    _class = partial(special.fpclass, _f)
    define(f"VFPCLASSP{_letter}", lanes(_class, (_f.bits,), _f.bits, imm=True, env=True))
    define(f"VFPCLASSS{_letter}", scalar(_class, (_f.bits,), _f.bits, sources=(1,), imm=True))
for _letter in "SD":
    _f = FORMATS[_letter]
    _fix = partial(special.fixupimm, _f)
    define(f"VFIXUPIMMP{_letter}", accumulating(lanes, _fix, (_f.bits,) * 3, imm=True, env=True))
    define(f"VFIXUPIMMS{_letter}", accumulating(scalar, _fix, (_f.bits,) * 3, imm=True))


for _name, _letter, _ending in (("14", "S", "S"), ("14", "D", "D"), ("", "H", "H")):
    _f = FORMATS[_letter]
    for _kind, _function in (("RCP", special.reciprocal), ("RSQRT", special.reciprocal_root)):
        _approximation = partial(_function, _f)
        define(f"V{_kind}{_name}P{_ending}", lanes(_approximation, (_f.bits,), _f.bits, env=True))
        define(f"V{_kind}{_name}S{_ending}", _lowest(_approximation, 1, _f.bits, False))


# complex numbers, BF16 -----------------------------------------------------------------------------------


def _complex(conjugate: bool, adds: bool) -> Function:
    """Pairs of FP16, real part low: total + a * b, or a * b with the conjugate of b, rounded after each of
    the four steps."""
    f = HALF
    plus, minus = (f.sign, 0) if not conjugate else (0, f.sign)

    def multiply(env: Env, *operands: int) -> int:
        (ar, ai), (br, bi) = ((x & 0xFFFF, x >> 16) for x in operands[-2:])
        if adds:
            real = f.fma(env, ar, br, operands[0] & 0xFFFF)
            imaginary = f.fma(env, ai, br, operands[0] >> 16)
        else:
            real, imaginary = f.mul(env, ar, br), f.mul(env, ai, br)
        real = f.fma(env, ai, bi, real, plus)
        imaginary = f.fma(env, ar, bi, imaginary, minus)
        return imaginary << 16 | real

    return multiply


for _letter, _conjugate in (("", False), ("C", True)):
    _product, _sum = _complex(_conjugate, False), _complex(_conjugate, True)
    define(f"VF{_letter}MULCPH", lanes(_product, (32, 32), 32, env=True))
    define(f"VF{_letter}MADDCPH", accumulating(lanes, _sum, (32,) * 3, env=True))
    define(f"VF{_letter}MULCSH", scalar(_product, (32, 32), 32, sources=(1, 2)))
    define(f"VF{_letter}MADDCSH", scalar(_sum, (32,) * 3, 32, sources=(0, 1, 2)))


define("VDPBF16PS", accumulating(lanes, special.dot_bfloat, (32,) * 3))
