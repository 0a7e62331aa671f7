"""The mask registers of AVX-512: their own instructions. Of a register wider than the instruction the rest is
cleared."""

from __future__ import annotations

from nexus.ir.types import I64, INTEGER_OF_BITS, Type
from nexus.ir.values import Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_operands import control
from nexus.isa.x86.table import Semantics, register

_WIDTHS = {"B": INTEGER_OF_BITS[8], "W": INTEGER_OF_BITS[16], "D": INTEGER_OF_BITS[32], "Q": I64}


def _move(type: Type) -> Semantics:
    def move(i: Ins) -> None:
        value = i.read(1, type)
        i.write(0, value.resize(i.type(0)) if i.is_general(0) else value)

    return move


def _two(type: Type, name: str) -> Semantics:
    def combine(i: Ins) -> None:
        a, b = i.read(1, type), i.read(2, type)
        result = {
            "AND": lambda: a & b,
            "ANDN": lambda: ~a & b,
            "OR": lambda: a | b,
            "XNOR": lambda: ~(a ^ b),
            "XOR": lambda: a ^ b,
            "ADD": lambda: a + b,
        }[name]()
        i.write(0, result)

    return combine


def _not(type: Type) -> Semantics:
    def invert(i: Ins) -> None:
        i.write(0, ~i.read(1, type))

    return invert


def _shift(type: Type, left: bool) -> Semantics:
    def shift(i: Ins) -> None:
        value, count = i.read(1, type), control(i)
        if count >= type.bits:
            i.write(0, i.const(type, 0))
        else:
            i.write(0, value << count if left else value >> count)

    return shift


def _unpack(half: int) -> Semantics:
    """The second operand's low half above that of the third."""

    def join(i: Ins) -> None:
        type, part = INTEGER_OF_BITS[2 * half], INTEGER_OF_BITS[half]
        i.write(0, i.read(1, type) << half | i.read(2, part).zext(type))

    return join


def _flags(i: Ins, zero: Value, carry: Value) -> None:
    """ZF and CF; the others are 0."""
    i.set_flag(r.CF, carry)
    i.block.put(r.NZ, (zero ^ 1).zext(I64))
    i.block.put(r.PF, i.const(I64, 1))
    i.set_flag(r.OF, 0)
    i.set_flag(r.AF, 0)


def _ortest(type: Type) -> Semantics:
    def test(i: Ins) -> None:
        both = i.read(0, type) | i.read(1, type)
        _flags(i, both.eq(0), both.eq(-1))

    return test


def _test(type: Type) -> Semantics:
    def test(i: Ins) -> None:
        a, b = i.read(0, type), i.read(1, type)
        _flags(i, (a & b).eq(0), (~a & b).eq(0))

    return test


for _letter, _type in _WIDTHS.items():
    register("KMOV" + _letter, _move(_type))
    register("KNOT" + _letter, _not(_type))
    register("KORTEST" + _letter, _ortest(_type))
    register("KTEST" + _letter, _test(_type))
    register("KSHIFTL" + _letter, _shift(_type, left=True))
    register("KSHIFTR" + _letter, _shift(_type, left=False))
    for _name in ("AND", "ANDN", "OR", "XNOR", "XOR", "ADD"):
        register(f"K{_name}{_letter}", _two(_type, _name))
for _name, _half in (("BW", 8), ("WD", 16), ("DQ", 32)):
    register("KUNPCK" + _name, _unpack(_half))
