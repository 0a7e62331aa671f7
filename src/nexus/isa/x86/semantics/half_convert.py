"""Half precision (AVX512_FP16): comparisons, conversions, rounding to fractions, approximations; bfloat16."""

from __future__ import annotations

from nexus.ir.ops.float_arithmetic import PREDICATES
from nexus.ir.types import I64, INTEGER_OF_BITS, V128
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.evex_float import is_scalar, last, operand, result, rounded
from nexus.isa.x86.semantics.float_compare import EXCHANGED
from nexus.isa.x86.semantics.half import (
    DOWN,
    UP,
    emit,
    from_singles,
    halves_of,
    joined,
    look,
    masks,
    number,
    singles,
    type_of,
    wider,
)
from nexus.isa.x86.semantics.sse_operands import control, full, low, row, two, vector_const, width, write
from nexus.isa.x86.table import Semantics, register, semantics

# comparisons -------------------------------------------------------------------------------------------


def _compare(i: Ins) -> None:
    predicate = control(i) & 31
    a, b = number(i, 1), number(i, 2)
    look(i, a, b)
    if predicate in EXCHANGED:
        a, b = b, a
    name, _ = PREDICATES[EXCHANGED.get(predicate, predicate)]
    pairs = zip(singles(a), singles(b), strict=True)
    found = masks([emit(f"v.cmp_{name}.f32", type_of(x), x, y) for x, y in pairs])
    masking.to_mask(i, 0, found, 16, int(is_scalar(i)))


register("VCMPPH", _compare)
register("VCMPSH", _compare)


def _lowest(i: Ins, n: int) -> Value:
    """Operand `n` as a number of half precision alone."""
    return i.block.emit("v.zero.i16.v128", low(i, n, 16), i.const(I64, 1))


def _single(value: Value) -> Value:
    """The lowest numbers in single precision, in 128 bits."""
    return value.block.emit(f"{UP}.v128", value)


def _ordered(name: str) -> Semantics:
    def compare(i: Ins) -> None:
        a, b = _lowest(i, 0), _lowest(i, 1)
        look(i, a, b)
        i.block.emit(f"flags.{name}.f32", _single(a), _single(b))

    return compare


register("VCOMISH", _ordered("comi"))
register("VUCOMISH", _ordered("ucomi"))

# conversions from half precision -----------------------------------------------------------------------


def _source(i: Ins, count: int) -> Value:
    """So many half-precision numbers of the second operand, 0 where they are masked."""
    value = low(i, 1, 16 * count)
    if i.mask or 16 * count < type_of(value).bits:
        mask = masking.first_lanes(i, count) if i.mask else i.const(I64, (1 << count) - 1)
        value = emit("v.zero.i16", type_of(value), value, mask)
    return value


def look_at(value: Value) -> None:
    emit("v.denormals.f16", type_of(value), value, value, value)


def _fit(value: Value, bits: int) -> Value:
    """The lower part of so many bits, at least 128."""
    while type_of(value).bits > max(bits, V128.bits):
        value = emit("v.low", type_of(value), value)
    return value


def _from_half(target: int, name: str, is_float: bool = False) -> Semantics:
    """To lanes of so many bits, by the row `name` from single precision, if it takes one. Only a conversion
    to floats tells of denormals."""

    def lanes(i: Ins) -> None:
        type = width(i)
        count = type.bits // target
        value = _source(i, count)
        if is_float:
            look_at(value)
        if target == 16:
            pieces = [emit(name, type_of(x), x) for x in singles(value)]
            write(i, 0, joined(pieces), 16, count)
            return
        single = _fit(singles(value)[0], 32 * count)
        write(i, 0, emit(name, type, single) if name else single, target, count)

    return lanes


for _how, _row in (("", "cvt"), ("T", "cvtt")):
    for _name, _integer in (
        ("W", "i16"),
        ("UW", "u16"),
        ("DQ", "i32"),
        ("UDQ", "u32"),
        ("QQ", "i64"),
        ("UQQ", "u64"),
    ):
        register(f"VCVT{_how}PH2{_name}", _from_half(int(_integer[1:]), f"v.{_row}.f32.{_integer}"))
register("VCVTPH2PSX", _from_half(32, "", is_float=True))
register("VCVTPH2PD", _from_half(64, "v.cvt.f32.f64", is_float=True))


def _to_integer(name: str, unsigned: bool) -> Semantics:
    def convert(i: Ins) -> None:
        value = _lowest(i, 1)
        kind = f"{'u' if unsigned else 'i'}{i.type(0).bits}"
        i.write(0, i.block.emit(f"v.{name}.f32x1.{kind}", _single(value)))

    return convert


for _how, _row in (("", "cvt"), ("T", "cvtt")):
    register(f"VCVT{_how}SH2SI", _to_integer(_row, unsigned=False))
    register(f"VCVT{_how}SH2USI", _to_integer(_row, unsigned=True))


def _scalar_wider(kind: str) -> Semantics:
    def convert(i: Ins) -> None:
        value = number(i, 2)
        look_at(value)
        single = _single(value)
        result(i, kind, single if kind == "f32" else i.block.emit("v.cvt.f32.f64.v128", single))

    return convert


register("VCVTSH2SS", _scalar_wider("f32"))
register("VCVTSH2SD", _scalar_wider("f64"))

# and to it ---------------------------------------------------------------------------------------------


def _to_half(i: Ins, pieces: list[Value], count: int) -> None:
    """Singles, rounded (to odd) so that rounding them again is right."""
    while len(pieces) > 1:
        pieces = [joined(pieces[n : n + 2]) for n in range(0, len(pieces), 2)]
    (single,) = pieces
    value = emit(DOWN, type_of(single), single)
    if 16 * count < type_of(value).bits:
        value = emit("v.zero.i16", type_of(value), value, i.const(I64, (1 << count) - 1))
    write(i, 0, value, 16, count)


def _odd(value: Value) -> Value:
    return emit("v.narrow_odd.f64.f32", type_of(value), value)


def _quieted(i: Ins, bits: int) -> Value:
    return masking.quiet(i, full(i, 1), bits)


def _from_words(signed: bool) -> Semantics:
    def lanes(i: Ins) -> None:
        value = _quieted(i, 16)
        extended = [
            emit(f"v.{'sext' if signed else 'zext'}.i16.i32", wider(part), part) for part in halves_of(value)
        ]
        write(i, 0, from_singles([emit("v.cvt.i32.f32", type_of(x), x) for x in extended]))

    return lanes


def _from_integers(source: int, name: str) -> Semantics:
    """By double precision, where 32 bits are exact; what 64 bits lose there is beyond half precision."""

    def lanes(i: Ins) -> None:
        value, count = _quieted(i, source), width(i).bits // source
        if source == 32:
            doubles = [emit(name, wider(part), part) for part in halves_of(value)]
        else:
            doubles = [emit(name, type_of(value), value)]
        _to_half(i, [_odd(x) for x in doubles], count)

    return lanes


def _from_doubles(i: Ins) -> None:
    value = _quieted(i, 64)
    emit("v.denormals.f64", type_of(value), value, value, value)
    _to_half(i, [_odd(value)], width(i).bits // 64)


def _from_floats(i: Ins) -> None:
    _to_half(i, [_quieted(i, 32)], width(i).bits // 32)


register("VCVTW2PH", _from_words(signed=True))
register("VCVTUW2PH", _from_words(signed=False))
register("VCVTDQ2PH", _from_integers(32, "v.cvt.i32.f64"))
register("VCVTUDQ2PH", _from_integers(32, "v.cvt.u32.f64"))
register("VCVTQQ2PH", _from_integers(64, "v.cvt.i64.f64"))
register("VCVTUQQ2PH", _from_integers(64, "v.cvt.u64.f64"))
register("VCVTPD2PH", _from_doubles)
register("VCVTPS2PHX", _from_floats)


def _scalar_to_half(kind: str) -> Semantics:
    def convert(i: Ins) -> None:
        value = operand(i, 2, kind)
        if kind == "f64":
            emit("v.denormals.f64", V128, value, value, value)
            value = _odd(value)
        _as_scalar(i, i.block.emit(f"{DOWN}.v128", value))

    return convert


def _as_scalar(i: Ins, value: Value) -> None:
    """The lowest half-precision number of the first operand := the value's; the others are the second's."""
    merged = i.block.emit("v.merge.i16.v128", value, full(i, 1), i.const(I64, 1))
    write(i, 0, merged, 16, 1)


def _from_general(sign: str) -> Semantics:
    def convert(i: Ins) -> None:
        value = i.read(2)
        bits = type_of(value).bits
        double = i.block.emit(f"v.cvt.{sign}{bits}.f64x1", vector_const(i, 0), value)
        _as_scalar(i, i.block.emit(f"{DOWN}.v128", _odd(double)))

    return convert


register("VCVTSS2SH", _scalar_to_half("f32"))
register("VCVTSD2SH", _scalar_to_half("f64"))
register("VCVTSI2SH", _from_general("i"))
register("VCVTUSI2SH", _from_general("u"))

# rounding and approximations ---------------------------------------------------------------------------


def _rounded(i: Ins, source: Value) -> Value:
    """To a multiple of 2**-M, in single precision, where nothing is denormal."""
    return from_singles([rounded(i, "f32", single) for single in singles(source)])


def _round(i: Ins) -> None:
    result(i, "f16", _rounded(i, number(i, last(i))))


def _reduce(i: Ins) -> None:
    imm, source = control(i), number(i, last(i))
    kind, whole = type_of(source), _rounded(i, source)
    finite = emit("v.not_infinite.f16", kind, source)
    a, b = (emit("and", kind, value, finite) for value in (source, whole))
    before = masking.begin(i, None if imm & 4 else imm & 3)
    masking.keep_denormals(i)
    pairs = zip(singles(a), singles(b), strict=True)
    rest = from_singles([emit("v.sub.f32", type_of(x), x, y) for x, y in pairs])
    masking.resume(i, before, 0 if imm & 8 else 32)
    result(i, "f16", emit("and", kind, rest, finite))


def _approximate(name: str) -> Semantics:
    def lanes(i: Ins) -> None:
        source = number(i, last(i))
        before = masking.begin(i, 0)
        value = from_singles([emit(name, type_of(x), x) for x in singles(source)])
        masking.resume(i, before)
        result(i, "f16", value)

    return lanes


for _letter in "PS":
    register(f"VRNDSCALE{_letter}H", _round)
    register(f"VREDUCE{_letter}H", _reduce)
    register(f"VRCP{_letter}H", _approximate("v.inverse.f32"))
    register(f"VRSQRT{_letter}H", _approximate("v.inverse_root.f32"))

# bfloat16 ----------------------------------------------------------------------------------------------

_FLUSHING = 0x9FC0
"""MXCSR for VDPBF16PS, which does not look at the guest's: to nearest, denormals are zeros."""


@semantics("VCVTNEPS2BF16")
def vcvtneps2bf16(i: Ins) -> None:
    write(i, 0, i.block.emit(row(i, "v.bfloat.f32"), full(i, 1)), 16, width(i).bits // 32)


@semantics("VCVTNE2PS2BF16")
def vcvtne2ps2bf16(i: Ins) -> None:
    """The third operand's numbers below the second's."""
    upper, lower = two(i)
    type = width(i)
    pieces = [i.block.emit(f"v.bfloat.f32.{type}", value) for value in (lower, upper)]
    value = emit("v.unpack_low.i64", V128, *pieces) if type is V128 else joined(pieces)
    write(i, 0, value, 16)


@semantics("VDPBF16PS")
def vdpbf16ps(i: Ins) -> None:
    """Two fused steps, the odd numbers first."""
    total, (a, b) = full(i, 0), two(i)
    type = type_of(total)
    upper = emit("v.splat.i32", type, i.const(INTEGER_OF_BITS[32], 0xFFFF0000))
    sixteen = i.const(I64, 16)
    before = masking.begin(i, 0)
    i.block.emit("mxcsr.load", i.const(I64, _FLUSHING))
    for x, y in (
        (emit("and", type, a, upper), emit("and", type, b, upper)),
        (emit("v.shl.i32", type, a, sixteen), emit("v.shl.i32", type, b, sixteen)),
    ):
        total = emit("v.fmadd.f32", type, x, y, total)
    masking.resume(i, before)
    write(i, 0, total, 32)
