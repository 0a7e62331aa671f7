"""Elements in other places: shuffles, permutes, unpacking, packing, shifts of bytes.

Facts: Intel SDM volume 2, the operation section of each instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from iced_x86 import Instruction, OpKind

from isa.model.machine import Elements, Form, Meaning, Run
from isa.model.shapes import Maker, accumulating, define, lanes, saturate, signed, whole

WIDTHS = {"B": 8, "W": 16, "D": 32, "Q": 64}
_FLOATS = {"PS": 32, "PD": 64}


# within 128 bits ------------------------------------------------------------------------------------


def _interleaved(a: Elements, b: Elements, high: bool) -> Elements:
    half = len(a) // 2
    start = half if high else 0
    return [x for pair in zip(a[start : start + half], b[start : start + half], strict=True) for x in pair]


for _high, _word in ((False, "L"), (True, "H")):
    _unpack = partial(_interleaved, high=_high)
    for _ending, _bits in (("BW", 8), ("WD", 16), ("DQ", 32), ("QDQ", 64)):
        define(f"VPUNPCK{_word}{_ending}", whole(_unpack, (_bits, _bits), _bits, lane=128))
    for _ending, _bits in _FLOATS.items():
        define(f"VUNPCK{_word}{_ending}", whole(_unpack, (_bits, _bits), _bits, lane=128))


def _packed(a: Elements, b: Elements, bits: int, is_signed: bool) -> Elements:
    return [saturate(signed(x, bits), bits // 2, is_signed) for x in a + b]


for _name, _bits, _signed in (
    ("SSWB", 16, True),
    ("USWB", 16, False),
    ("SSDW", 32, True),
    ("USDW", 32, False),
):
    _pack = partial(_packed, bits=_bits, is_signed=_signed)
    define("VPACK" + _name, whole(_pack, (_bits, _bits), _bits // 2, lane=128))


def _by_bytes(a: Elements, controls: Elements) -> Elements:
    return [0 if control & 0x80 else a[control & 15] for control in controls]


def _aligned_bytes(a: Elements, b: Elements, imm: int) -> Elements:
    both = b + a + [0] * 256
    return both[imm : imm + 16]


def _shifted_bytes(a: Elements, imm: int, up: bool) -> Elements:
    count = min(imm, 16)
    return [0] * count + a[: 16 - count] if up else a[count:] + [0] * count


define("VPSHUFB", whole(_by_bytes, (8, 8), 8, lane=128))
define("VPALIGNR", whole(_aligned_bytes, (8, 8), 8, imm=True, lane=128))
define("VPSLLDQ", whole(partial(_shifted_bytes, up=True), (8,), 8, imm=True, lane=128))
define("VPSRLDQ", whole(partial(_shifted_bytes, up=False), (8,), 8, imm=True, lane=128))


def _four(a: Elements, imm: int) -> Elements:
    return [a[imm >> 2 * n & 3] for n in range(4)]


def _low_words(a: Elements, imm: int) -> Elements:
    return _four(a[:4], imm) + a[4:]


def _high_words(a: Elements, imm: int) -> Elements:
    return a[:4] + _four(a[4:], imm)


define("VPSHUFD", whole(_four, (32,), 32, imm=True, lane=128))
define("VPSHUFLW", whole(_low_words, (16,), 16, imm=True, lane=128))
define("VPSHUFHW", whole(_high_words, (16,), 16, imm=True, lane=128))


def _two_and_two(a: Elements, b: Elements, imm: int) -> Elements:
    return [(a, a, b, b)[n][imm >> 2 * n & 3] for n in range(4)]


def _one_and_one(a: Elements, b: Elements, imm: int) -> Elements:
    """VSHUFPD: each pair of elements has its own two bits of the immediate."""
    return [(b if n & 1 else a)[n & ~1 | imm >> n & 1] for n in range(len(a))]


define("VSHUFPS", whole(_two_and_two, (32, 32), 32, imm=True, lane=128))
define("VSHUFPD", whole(_one_and_one, (64, 64), 64, imm=True))


def _of_lane(a: Elements, controls: Elements) -> Elements:
    return [a[n & ~3 | control & 3] for n, control in enumerate(controls)]


def _of_lane_wide(a: Elements, controls: Elements) -> Elements:
    return [a[n & ~1 | control >> 1 & 1] for n, control in enumerate(controls)]


def _one_of_two(a: Elements, imm: int) -> Elements:
    return [a[n & ~1 | imm >> n & 1] for n in range(len(a))]


def _by_register_or_number(by_register: Maker, by_number: Maker) -> Maker:
    def make(raw: Instruction) -> Meaning:
        numbered = raw.op_kind(raw.op_count - 1) == OpKind.IMMEDIATE8
        return (by_number if numbered else by_register)(raw)

    return make


define("VPERMILPS", _by_register_or_number(
    whole(_of_lane, (32, 32), 32), whole(_four, (32,), 32, imm=True, lane=128)
))  # fmt: skip
define("VPERMILPD", _by_register_or_number(
    whole(_of_lane_wide, (64, 64), 64), whole(_one_of_two, (64,), 64, imm=True)
))  # fmt: skip


# across all of it -----------------------------------------------------------------------------------


def _permuted(indices: Elements, a: Elements) -> Elements:
    mask = len(a) - 1
    return [a[index & mask] for index in indices]


for _ending, _bits in (("B", 8), ("W", 16), ("D", 32), ("PS", 32)):
    define("VPERM" + _ending, whole(_permuted, (_bits, _bits), _bits))
for _ending in ("Q", "PD"):
    _numbered = whole(_four, (64,), 64, imm=True, lane=256)
    define("VPERM" + _ending, _by_register_or_number(whole(_permuted, (64, 64), 64), _numbered))


def _of_two_tables(indices: Elements, a: Elements, b: Elements) -> Elements:
    mask = 2 * len(a) - 1
    return [(a + b)[index & mask] for index in indices]


def _tables_first(a: Elements, indices: Elements, b: Elements) -> Elements:
    return _of_two_tables(indices, a, b)


for _ending, _bits in (("B", 8), ("W", 16), ("D", 32), ("Q", 64), ("PS", 32), ("PD", 64)):
    define("VPERMI2" + _ending, accumulating(whole, _of_two_tables, (_bits,) * 3))
    define("VPERMT2" + _ending, accumulating(whole, _tables_first, (_bits,) * 3))


def _lanes_chosen(a: Elements, b: Elements, imm: int, width: int) -> Elements:
    """VSHUFF32X4 and the like: 128 bits at a time, the lower half of them from the first operand."""
    size = 128 // width
    count = len(a) // size
    bits = 1 if count == 2 else 2
    out: Elements = []
    for n in range(count):
        source = b if n >= count // 2 else a
        place = imm >> bits * n & (1 << bits) - 1
        out += source[place * size : (place + 1) * size]
    return out


for _ending, _bits in (("F32X4", 32), ("I32X4", 32), ("F64X2", 64), ("I64X2", 64)):
    define("VSHUF" + _ending, whole(partial(_lanes_chosen, width=_bits), (_bits, _bits), _bits, imm=True))


def _aligned(a: Elements, b: Elements, imm: int) -> Elements:
    start = imm & len(a) - 1
    return (b + a)[start : start + len(a)]


define("VALIGND", whole(_aligned, (32, 32), 32, imm=True))
define("VALIGNQ", whole(_aligned, (64, 64), 64, imm=True))


def _two_lanes(a: Elements, b: Elements, imm: int) -> Elements:
    """VPERM2F128 and VPERM2I128, of quadwords."""
    four = [a[:2], a[2:], b[:2], b[2:]]
    return [x for n in (0, 4) for x in ([0, 0] if imm >> n & 8 else four[imm >> n & 3])]


define("VPERM2F128 VPERM2I128", whole(_two_lanes, (64, 64), 64, imm=True))


# the same element again ------------------------------------------------------------------------------


def _evens(a: Elements) -> Elements:
    return [a[n & ~1] for n in range(len(a))]


def _odds(a: Elements) -> Elements:
    return [a[n | 1] for n in range(len(a))]


define("VMOVSLDUP", whole(_evens, (32,), 32))
define("VMOVSHDUP", whole(_odds, (32,), 32))


def _doubled(raw: Instruction) -> Meaning:
    """VMOVDDUP: of 128 bits only the lower half is read."""
    form = Form(raw)
    count = form.bytes // 8
    read = form.vector(1, 64, 1 if count == 2 else count)
    write = form.result(0, 64, count)
    return lambda run: write(run, _evens(read(run) * 2 if count == 2 else read(run)))


define("VMOVDDUP", _doubled)


# of which mask bits choose --------------------------------------------------------------------------


def _blended(bits: int) -> Maker:
    """The second source where the mask has a bit, else the first one, or zero."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // bits
        one, other = form.vector(1, bits, count), form.vector(2, bits, count, count)
        write = form.result(0, bits, count)
        if form.zeroing or not form.mask:
            return lambda run: write(run, other(run))
        plain = form.result(0, bits, count, masked=False)

        def run(state: Run) -> None:
            active = form.active(state, count)
            pairs = zip(one(state), other(state), strict=True)
            plain(state, [y if active >> i & 1 else x for i, (x, y) in enumerate(pairs)])

        return run

    return make


for _ending, _bits in (("PS", 32), ("PD", 64)):
    define("VBLENDM" + _ending, _blended(_bits))
for _ending, _bits in WIDTHS.items():
    define("VPBLENDM" + _ending, _blended(_bits))


def _by_number(a: Elements, b: Elements, imm: int) -> Elements:
    return [(b if imm >> n % 8 & 1 else a)[n] for n in range(len(a))]


define("VPBLENDW", whole(_by_number, (16, 16), 16, imm=True, lane=128))
define("VPBLENDD VBLENDPS", whole(_by_number, (32, 32), 32, imm=True))
define("VBLENDPD", whole(_by_number, (64, 64), 64, imm=True))


def _extended(function: Callable[[int], int], narrow: int, wide: int) -> Maker:
    return lanes(function, (narrow,), wide)


for _from, _to in ("BW", "BD", "BQ", "WD", "WQ", "DQ"):
    _narrow, _wide = WIDTHS[_from], WIDTHS[_to]

    def _sign(x: int, narrow: int = _narrow, wide: int = _wide) -> int:
        return signed(x, narrow) & (1 << wide) - 1

    define(f"VPMOVZX{_from}{_to}", _extended(int, _narrow, _wide))
    define(f"VPMOVSX{_from}{_to}", _extended(_sign, _narrow, _wide))
