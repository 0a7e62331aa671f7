"""Packed whole numbers, element by element: arithmetic, logic, shifts, comparisons, bit counts.

Facts: Intel SDM volume 2, the operation section of each instruction.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial

from iced_x86 import Instruction, Register

from isa.model.machine import K0, Elements, Form, Meaning, Run
from isa.model.shapes import accumulating, define, lanes, saturate, signed, whole

WIDTHS = {"B": 8, "W": 16, "D": 32, "Q": 64}
Binary = Callable[[int, int], int]


def of_signed(function: Binary, bits: int) -> Binary:
    return lambda a, b: function(signed(a, bits), signed(b, bits))


def cut(function: Callable[..., int], bits: int) -> Callable[..., int]:
    every = (1 << bits) - 1
    return lambda *elements: function(*elements) & every


def binary(names: str, letters: str, make: Callable[[int], Binary]) -> None:
    """`names` has `*` for the letter of the width; `make` gives the function for a width."""
    for letter in letters:
        bits = WIDTHS[letter]
        maker = lanes(cut(make(bits), bits), (bits, bits), bits)
        for name in names.split():
            define(name.replace("*", letter), maker)


def unary(
    name: str, letters: str, make: Callable[[int], Callable[[int], int]], suppressed: bool = True
) -> None:
    for letter in letters:
        bits = WIDTHS[letter]
        define(name.replace("*", letter), lanes(make(bits), (bits,), bits, suppressed=suppressed))


# arithmetic and logic
binary("VPADD*", "BWDQ", lambda bits: operator.add)
binary("VPSUB*", "BWDQ", lambda bits: operator.sub)
binary("VPADDS*", "BW", lambda bits: lambda a, b: saturate(signed(a, bits) + signed(b, bits), bits, True))
binary("VPSUBS*", "BW", lambda bits: lambda a, b: saturate(signed(a, bits) - signed(b, bits), bits, True))
binary("VPADDUS*", "BW", lambda bits: lambda a, b: min(a + b, (1 << bits) - 1))
binary("VPSUBUS*", "BW", lambda bits: lambda a, b: max(a - b, 0))
binary("VPAVG*", "BW", lambda bits: lambda a, b: a + b + 1 >> 1)
binary("VPMAXU*", "BWDQ", lambda bits: max)
binary("VPMINU*", "BWDQ", lambda bits: min)
binary("VPMAXS*", "BWDQ", lambda bits: of_signed(max, bits))
binary("VPMINS*", "BWDQ", lambda bits: of_signed(min, bits))
binary("VPMULL*", "WDQ", lambda bits: operator.mul)
binary("VPMULHU*", "W", lambda bits: lambda a, b: a * b >> 16)
binary("VPMULH*", "W", lambda bits: lambda a, b: signed(a, 16) * signed(b, 16) >> 16)
binary("VPMULHRS*", "W", lambda bits: lambda a, b: (signed(a, 16) * signed(b, 16) >> 14) + 1 >> 1)
binary("VPMULDQ", "Q", lambda bits: lambda a, b: signed(a & 0xFFFFFFFF, 32) * signed(b & 0xFFFFFFFF, 32))
binary("VPMULUDQ", "Q", lambda bits: lambda a, b: (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF))
binary("VPAND*", "DQ", lambda bits: operator.and_)
binary("VPANDN*", "DQ", lambda bits: lambda a, b: ~a & b)
binary("VPOR*", "DQ", lambda bits: operator.or_)
binary("VPXOR*", "DQ", lambda bits: operator.xor)
for _letter, _double in (("D", "Q"), ("S", "D")):  # VANDPD is of quadwords, VANDPS of doublewords
    binary("VANDP" + _letter, _double, lambda bits: operator.and_)
    binary("VANDNP" + _letter, _double, lambda bits: lambda a, b: ~a & b)
    binary("VORP" + _letter, _double, lambda bits: operator.or_)
    binary("VXORP" + _letter, _double, lambda bits: operator.xor)
binary("VPAND", "Q", lambda bits: operator.and_)  # the VEX forms, which have no masks
binary("VPANDN", "Q", lambda bits: lambda a, b: ~a & b)
binary("VPOR", "Q", lambda bits: operator.or_)
binary("VPXOR", "Q", lambda bits: operator.xor)
unary("VPABS*", "BWDQ", lambda bits: lambda a: abs(signed(a, bits)))
unary("VPLZCNT*", "DQ", lambda bits: lambda a: bits - a.bit_length())
unary("VPOPCNT*", "BWDQ", lambda bits: int.bit_count)


# comparisons ---------------------------------------------------------------------------------------

_RELATIONS: tuple[Binary, ...] = (
    operator.eq, operator.lt, operator.le, lambda a, b: 0,
    operator.ne, operator.ge, operator.gt, lambda a, b: 1,
)  # fmt: skip


def _compared(bits: int, is_signed: bool) -> Callable[[int, int, int], int]:
    def compare(a: int, b: int, imm: int) -> int:
        if is_signed:
            a, b = signed(a, bits), signed(b, bits)
        return _RELATIONS[imm & 7](a, b)

    return compare


for _letter, _bits in WIDTHS.items():
    _every = (1 << _bits) - 1
    define(f"VPCMPU{_letter}", lanes(_compared(_bits, False), (_bits, _bits), _bits, imm=True))
    define(f"VPCMP{_letter}", lanes(_compared(_bits, True), (_bits, _bits), _bits, imm=True))
    binary("VPCMPEQ*", _letter, lambda bits: lambda a, b: -(a == b))
    binary("VPCMPGT*", _letter, lambda bits: lambda a, b: -(signed(a, bits) > signed(b, bits)))
    binary("VPTESTM*", _letter, lambda bits: lambda a, b: bool(a & b))
    binary("VPTESTNM*", _letter, lambda bits: lambda a, b: not a & b)


# shifts --------------------------------------------------------------------------------------------


def left(a: int, count: int, bits: int) -> int:
    return a << count & (1 << bits) - 1 if count < bits else 0


def right(a: int, count: int, bits: int) -> int:
    return a >> min(count, bits)


def arithmetic(a: int, count: int, bits: int) -> int:
    return signed(a, bits) >> min(count, bits) & (1 << bits) - 1


def rotated_left(a: int, count: int, bits: int) -> int:
    count %= bits
    return (a << count | a >> bits - count) & (1 << bits) - 1


def rotated_right(a: int, count: int, bits: int) -> int:
    return rotated_left(a, -count, bits)


Shift = Callable[[int, int, int], int]


def _by_each(shift: Shift, bits: int) -> Binary:
    return lambda a, count: shift(a, count, bits)


def _by_one(shift: Shift, bits: int) -> Callable[[Elements, Elements], Elements]:
    """All elements by the quadword in the second operand."""
    return lambda a, counts: [shift(x, min(counts[0], 255), bits) for x in a]


def _shift_maker(shift: Shift, bits: int) -> Callable[[Instruction], Meaning]:
    """By an immediate, or by the low quadword of a register or of 128 bits of memory."""
    at_once = lanes(_by_each(shift, bits), (bits,), bits, imm=True)

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        if len(form.operands) == 2:
            return at_once(raw)
        count = form.bytes * 8 // bits
        read, by = form.vector(1, bits, count), form.vector(2, 64, 2)
        write, call = form.result(0, bits, count), _by_one(shift, bits)
        return lambda run: write(run, call(read(run), by(run)))

    return make


for _name, _shift, _letters in (
    ("VPSLL", left, "WDQ"),
    ("VPSRL", right, "WDQ"),
    ("VPSRA", arithmetic, "WDQ"),
):
    for _letter in _letters:
        _bits = WIDTHS[_letter]
        define(_name + _letter, _shift_maker(_shift, _bits))
        define(f"{_name}V{_letter}", lanes(_by_each(_shift, _bits), (_bits, _bits), _bits))
for _name, _shift in (("VPROL", rotated_left), ("VPROR", rotated_right)):
    for _letter in "DQ":
        _bits = WIDTHS[_letter]
        define(_name + _letter, lanes(_by_each(_shift, _bits), (_bits,), _bits, imm=True))
        define(f"{_name}V{_letter}", lanes(_by_each(_shift, _bits), (_bits, _bits), _bits))


def _joined_left(high: int, low: int, count: int, bits: int) -> int:
    return (high << bits | low) << count % bits >> bits & (1 << bits) - 1


def _joined_right(low: int, high: int, count: int, bits: int) -> int:
    return (high << bits | low) >> count % bits & (1 << bits) - 1


for _name, _joined in (("VPSHLD", _joined_left), ("VPSHRD", _joined_right)):
    for _letter in "WDQ":
        _bits = WIDTHS[_letter]
        _each = partial(_joined, bits=_bits)
        define(_name + _letter, lanes(_each, (_bits, _bits), _bits, imm=True))
        define(f"{_name}V{_letter}", accumulating(lanes, _each, (_bits,) * 3))


# logic of three, sums of products -------------------------------------------------------------------


def _ternary(bits: int) -> Callable[[int, int, int, int], int]:
    every = (1 << bits) - 1

    def logic(a: int, b: int, c: int, imm: int) -> int:
        out = 0
        for row in range(8):
            if imm >> row & 1:
                out |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        return out & every

    return logic


for _letter in "DQ":
    _bits = WIDTHS[_letter]
    define("VPTERNLOG" + _letter, accumulating(lanes, _ternary(_bits), (_bits,) * 3, imm=True))


def _bytes(value: int, count: int) -> list[int]:
    return [value >> 8 * n & 0xFF for n in range(count)]


def _dot(total: int, products: int, saturated: bool) -> int:
    total = signed(total, 32) + products
    return saturate(total, 32, True) if saturated else total & 0xFFFFFFFF


def _dot_bytes(total: int, a: int, b: int, saturated: bool) -> int:
    pairs = zip(_bytes(a, 4), _bytes(b, 4), strict=True)
    return _dot(total, sum(x * signed(y, 8) for x, y in pairs), saturated)


def _dot_words(total: int, a: int, b: int, saturated: bool) -> int:
    low = signed(a & 0xFFFF, 16) * signed(b & 0xFFFF, 16)
    return _dot(total, low + signed(a >> 16, 16) * signed(b >> 16, 16), saturated)


for _name, _products in (("VPDPBUSD", _dot_bytes), ("VPDPWSSD", _dot_words)):
    define(_name, accumulating(lanes, partial(_products, saturated=False), (32,) * 3))
    define(_name + "S", accumulating(lanes, partial(_products, saturated=True), (32,) * 3))

_52 = (1 << 52) - 1


def _low52(total: int, a: int, b: int) -> int:
    return total + ((a & _52) * (b & _52) & _52) & (1 << 64) - 1


def _high52(total: int, a: int, b: int) -> int:
    return total + ((a & _52) * (b & _52) >> 52) & (1 << 64) - 1


define("VPMADD52LUQ", accumulating(lanes, _low52, (64,) * 3))
define("VPMADD52HUQ", accumulating(lanes, _high52, (64,) * 3))


def _multiply_add_words(a: int, b: int) -> int:
    return _dot_words(0, a, b, False)


def _multiply_add_bytes(a: int, b: int) -> int:
    low = (a & 0xFF) * signed(b & 0xFF, 8) + (a >> 8) * signed(b >> 8, 8)
    return saturate(low, 16, True)


define("VPMADDWD", lanes(_multiply_add_words, (32, 32), 32, suppressed=False))
define("VPMADDUBSW", lanes(_multiply_add_bytes, (16, 16), 16, suppressed=False))


def _distance(a: int, b: int) -> int:
    return sum(abs(x - y) for x, y in zip(_bytes(a, 8), _bytes(b, 8), strict=True))


define("VPSADBW", lanes(_distance, (64, 64), 64, suppressed=False))


def _distances(a: list[int], b: list[int], imm: int) -> list[int]:
    """VDBPSADBW on 128 bits: distances of four bytes of the first operand to four at moving places of the
    doublewords that the immediate takes from the second."""
    moved = [b[4 * (imm >> 2 * n & 3) + k] for n in range(4) for k in range(4)]
    out = []
    for word in range(8):
        half, n = divmod(word, 4)
        first = 8 * half + 4 * (n >> 1)
        out.append(sum(abs(a[first + k] - moved[8 * half + n + k]) for k in range(4)))
    return out


define("VDBPSADBW", whole(_distances, (8, 8), 16, imm=True, lane=128))


# elements against each other ------------------------------------------------------------------------


def _conflicts(a: list[int]) -> list[int]:
    return [sum(1 << j for j in range(i) if a[j] == x) for i, x in enumerate(a)]


define("VPCONFLICTD", whole(_conflicts, (32,), 32))
define("VPCONFLICTQ", whole(_conflicts, (64,), 64))


def _intersection(bits: int) -> Callable[[Instruction], Meaning]:
    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // bits
        one, other = form.vector(1, bits, count), form.vector(2, bits, count)
        pair = K0 + (raw.op0_register - Register.K0 & 6)

        def run(state: Run) -> None:
            a, b = one(state), other(state)
            state.slots[pair] = sum(1 << i for i, x in enumerate(a) if x in b)
            state.slots[pair + 1] = sum(1 << i for i, x in enumerate(b) if x in a)

        return run

    return make


define("VP2INTERSECTD", _intersection(32))
define("VP2INTERSECTQ", _intersection(64))


def _bits_gathered(controls: list[int], data: list[int]) -> list[int]:
    """VPMULTISHIFTQB: for each byte eight bits of the quadword, from the place that the byte gives."""
    twice = [x << 64 | x for x in data]
    return [twice[n // 8] >> (control & 63) & 0xFF for n, control in enumerate(controls)]


define("VPMULTISHIFTQB", whole(_bits_gathered, (8, 64), 8))


def _bits_chosen(data: list[int], places: list[int]) -> list[int]:
    """VPSHUFBITQMB: of each quadword the bits whose numbers its bytes of the second operand give."""
    return [data[n // 8] >> (place & 63) & 1 for n, place in enumerate(places)]


define("VPSHUFBITQMB", whole(_bits_chosen, (64, 8), 8, suppressed=True))
