"""Packed integer arithmetic, comparison, shifts and rearrangement, in the MMX, SSE and AVX forms."""

from __future__ import annotations

from collections.abc import Callable

from nexus.ir.types import I64, V128
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_operands import (
    control,
    first,
    full,
    lane,
    low,
    pair,
    parts,
    row,
    two,
    uses_mmx,
    vector_const,
    whole,
    widen,
    width,
    write,
)
from nexus.isa.x86.table import Semantics, register, register_vectors, vector_semantics

# mnemonic -> row without its vector type; first operand = row(first, second)
_BINARY = {
    "PXOR": "xor", "POR": "or", "PAND": "and", "PANDN": "andn",
    "XORPS": "xor", "ORPS": "or", "ANDPS": "and", "ANDNPS": "andn",
    "XORPD": "xor", "ORPD": "or", "ANDPD": "and", "ANDNPD": "andn",
    "PADDB": "v.add.i8", "PADDW": "v.add.i16", "PADDD": "v.add.i32", "PADDQ": "v.add.i64",
    "PSUBB": "v.sub.i8", "PSUBW": "v.sub.i16", "PSUBD": "v.sub.i32", "PSUBQ": "v.sub.i64",
    "PADDSB": "v.sadd_sat.i8", "PADDSW": "v.sadd_sat.i16",
    "PADDUSB": "v.uadd_sat.i8", "PADDUSW": "v.uadd_sat.i16",
    "PSUBSB": "v.ssub_sat.i8", "PSUBSW": "v.ssub_sat.i16",
    "PSUBUSB": "v.usub_sat.i8", "PSUBUSW": "v.usub_sat.i16",
    "PMULLW": "v.mul.i16", "PMULLD": "v.mul.i32", "PMULHW": "v.smul_high.i16", "PMULHUW": "v.umul_high.i16",
    "PMULUDQ": "v.umul_even.i32", "PMULDQ": "v.smul_even.i32", "PMULHRSW": "v.mulhrs.i16",
    "PMADDWD": "v.madd.i16", "PMADDUBSW": "v.maddubs.i8", "PSADBW": "v.sad.u8",
    "PAVGB": "v.avg.i8", "PAVGW": "v.avg.i16",
    "PMINSB": "v.smin.i8", "PMINSW": "v.smin.i16", "PMINSD": "v.smin.i32",
    "PMAXSB": "v.smax.i8", "PMAXSW": "v.smax.i16", "PMAXSD": "v.smax.i32",
    "PMINUB": "v.umin.i8", "PMINUW": "v.umin.i16", "PMINUD": "v.umin.i32",
    "PMAXUB": "v.umax.i8", "PMAXUW": "v.umax.i16", "PMAXUD": "v.umax.i32",
    "PCMPEQB": "v.eq.i8", "PCMPEQW": "v.eq.i16", "PCMPEQD": "v.eq.i32", "PCMPEQQ": "v.eq.i64",
    "PCMPGTB": "v.sgt.i8", "PCMPGTW": "v.sgt.i16", "PCMPGTD": "v.sgt.i32", "PCMPGTQ": "v.sgt.i64",
    "PSIGNB": "v.sign.i8", "PSIGNW": "v.sign.i16", "PSIGND": "v.sign.i32",
    "UNPCKLPS": "v.unpack_low.i32", "UNPCKLPD": "v.unpack_low.i64",
    "UNPCKHPS": "v.unpack_high.i32", "UNPCKHPD": "v.unpack_high.i64",
    "PUNPCKLQDQ": "v.unpack_low.i64", "PUNPCKHQDQ": "v.unpack_high.i64",
    "PACKUSDW": "v.pack_u.i32",
}  # fmt: skip
_UNARY = {"PABSB": "v.abs.i8", "PABSW": "v.abs.i16", "PABSD": "v.abs.i32", "PHMINPOSUW": "v.minpos.i16"}
# two vectors become one; in the MMX form both fit into one 128-bit operand
_JOINING = {
    "PACKSSWB": "v.pack_s.i16", "PACKSSDW": "v.pack_s.i32", "PACKUSWB": "v.pack_u.i16",
    "PHADDW": "v.hadd.i16", "PHADDD": "v.hadd.i32", "PHADDSW": "v.hadd_sat.i16",
    "PHSUBW": "v.hsub.i16", "PHSUBD": "v.hsub.i32", "PHSUBSW": "v.hsub_sat.i16",
}  # fmt: skip
_IMMEDIATE = {
    "PSHUFD": "v.permute.i32", "PSHUFLW": "v.permute_low.i16", "PSHUFHW": "v.permute_high.i16",
    "PSHUFW": "v.permute_low.i16",
}  # fmt: skip
_IMMEDIATE_TWO = {
    "SHUFPS": "v.select2.i32", "SHUFPD": "v.select2.i64", "PBLENDW": "v.blend.i16", "BLENDPS": "v.blend.i32",
    "BLENDPD": "v.blend.i64",
}  # fmt: skip


def _binary(name: str, operation: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), *two(i)))

    register_vectors(name, lanes)


def _unary(name: str, operation: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), full(i, 1)))

    register_vectors(name, lanes)


def _joining(name: str, operation: str) -> None:
    def lanes(i: Ins) -> None:
        a, b = two(i)
        if uses_mmx(i):
            a = b = pair(a, b)
        write(i, 0, i.block.emit(row(i, operation), a, b))

    register_vectors(name, lanes)


def _immediate(name: str, operation: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), full(i, 1), imm=control(i)))

    register_vectors(name, lanes)


def _immediate_two(name: str, operation: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), *two(i), imm=control(i)))

    register_vectors(name, lanes)


_SHAPES: tuple[tuple[dict[str, str], Callable[[str, str], None]], ...] = (
    (_BINARY, _binary),
    (_UNARY, _unary),
    (_JOINING, _joining),
    (_IMMEDIATE, _immediate),
    (_IMMEDIATE_TWO, _immediate_two),
)
for _table, _shape in _SHAPES:
    for _name, _row in _table.items():
        _shape(_name, _row)


def _interleave(name: str, bits: int, high: bool) -> None:
    """PUNPCK: the MMX form's two halves are the two halves of one 128-bit interleaving."""

    def lanes(i: Ins) -> None:
        if uses_mmx(i):
            both = i.block.emit(f"v.unpack_low.i{bits}.v128", full(i, 0), low(i, 1, 64 if high else 32))
            write(i, 0, widen(lane(both, 64, 1)) if high else both)
        else:
            operation = f"v.unpack_{'high' if high else 'low'}.i{bits}"
            write(i, 0, i.block.emit(row(i, operation), *two(i)))

    register_vectors(name, lanes)


for _bits, _letters in ((8, "BW"), (16, "WD"), (32, "DQ")):
    _interleave("PUNPCKL" + _letters, _bits, False)
    _interleave("PUNPCKH" + _letters, _bits, True)


def _shifted(operation: str) -> Semantics:
    """The count is an immediate, or the low 64 bits of the second source."""

    def lanes(i: Ins) -> None:
        n = first(i)
        value = full(i, n)
        if i.is_immediate(n + 1):
            count = i.const(I64, control(i))
        elif i.evex and i.is_memory(n + 1):  # which no mask is for
            count = lane(i.block.load(V128, i.memory(n + 1)), 64)
        else:
            count = lane(full(i, n + 1), 64)
        write(i, 0, i.block.emit(row(i, operation), value, count))

    return lanes


for _letter, _bits in (("W", 16), ("D", 32), ("Q", 64)):
    register_vectors("PSLL" + _letter, _shifted(f"v.shl.i{_bits}"))
    register_vectors("PSRL" + _letter, _shifted(f"v.shr.i{_bits}"))
register_vectors("PSRAW", _shifted("v.sar.i16"))
register_vectors("PSRAD", _shifted("v.sar.i32"))
register("VPSRAQ", _shifted("v.sar.i64"))


def _byte_shift(name: str, operation: str) -> None:
    def lanes(i: Ins) -> None:
        count = i.const(I64, min(control(i), 16) * 8)
        write(i, 0, i.block.emit(row(i, operation), full(i, first(i)), count))

    register_vectors(name, lanes)


_byte_shift("PSLLDQ", "v.shl.i128")
_byte_shift("PSRLDQ", "v.shr.i128")


@vector_semantics("PSHUFB")
def pshufb(i: Ins) -> None:
    value, order = two(i)
    if uses_mmx(i):
        order = i.block.emit("and.v128", order, vector_const(i, 0x8787878787878787))
    write(i, 0, i.block.emit(row(i, "v.shuffle.i8"), value, order))


@vector_semantics("PALIGNR")
def palignr(i: Ins) -> None:
    upper, lower = two(i)
    if uses_mmx(i):
        both = pair(lower, upper)
        write(i, 0, i.block.emit("v.shr.i128.v128", both, i.const(I64, min(control(i), 16) * 8)))
    else:
        write(i, 0, i.block.emit(row(i, "v.align.i8"), upper, lower, imm=control(i)))


@vector_semantics("MPSADBW")
def mpsadbw(i: Ins) -> None:
    """The upper half of 256 bits has three bits of the immediate of its own."""
    a, b = two(i)
    halves = [
        i.block.emit("v.mpsad.i8.v128", x, y, imm=control(i) >> 3 * n)
        for n, (x, y) in enumerate(zip(parts(a), parts(b), strict=True))
    ]
    write(i, 0, whole(halves))


def _extend(name: str, operation: str, source: int, target: int) -> None:
    def lanes(i: Ins) -> None:
        value = low(i, 1, width(i).bits * source // target)
        write(i, 0, i.block.emit(row(i, f"v.{operation}.i{source}.i{target}"), value))

    register_vectors(name, lanes)


_WIDTH = {"B": 8, "W": 16, "D": 32, "Q": 64}
for _pair in ("BW", "BD", "BQ", "WD", "WQ", "DQ"):
    _extend("PMOVSX" + _pair, "sext", _WIDTH[_pair[0]], _WIDTH[_pair[1]])
    _extend("PMOVZX" + _pair, "zext", _WIDTH[_pair[0]], _WIDTH[_pair[1]])


def _blend_by_sign(name: str, bits: int) -> None:
    """The mask is XMM0, or the last operand of the AVX form."""

    def lanes(i: Ins) -> None:
        mask = full(i, 3) if i.vex else i.block.get(V128, 0)
        write(i, 0, i.block.emit(row(i, f"v.blend_sign.i{bits}"), *two(i), mask))

    register_vectors(name, lanes)


_blend_by_sign("PBLENDVB", 8)
_blend_by_sign("BLENDVPS", 32)
_blend_by_sign("BLENDVPD", 64)


@vector_semantics("PTEST")
def ptest(i: Ins) -> None:
    i.block.emit(row(i, "flags.test"), full(i, 0), full(i, 1))
