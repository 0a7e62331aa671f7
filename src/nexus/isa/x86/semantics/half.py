"""Half precision (AVX512_FP16) and bfloat16 (AVX512_BF16), computed in wider formats.

A sum, difference, product, quotient or root of half-precision numbers, rounded to single precision and then
to half, is what rounding once gives: 24 bits are at least twice 11 and two more. A fused multiply-add is made
in double precision, and goes to single precision by rounding to odd, which keeps what the last step has to
know. Overflow, underflow and inexact are those of that last step; a denormal operand is told by a row of its
own, as the host does not look for it when it makes halves wider. MXCSR's flushing of denormals is not for
these instructions, nor does anything of their range come near those of the wider formats.
"""

from __future__ import annotations

from nexus.ir.types import I32, I64, INTEGER_OF_BITS, V128, V256, V512, Type
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.evex_float import is_scalar, last, operand, result
from nexus.isa.x86.semantics.sse_operands import full, row, widen, write
from nexus.isa.x86.table import Semantics, register

_WIDER = {V128: V256, V256: V512}
_ONE = 0x3C00
UP = "v.cvt.f16.f32"
DOWN = "v.cvt4.f32.f16"  # rounded by MXCSR

# between the formats -----------------------------------------------------------------------------------


def halves_of(value: Value) -> list[Value]:
    """A vector as parts that the next wider format has room for."""
    if value.type is not V512:
        return [value]
    return [value.block.emit(f"v.{half}.v512", value) for half in ("low", "high")]


def joined(pieces: list[Value]) -> Value:
    """The inverse: of one or two."""
    if len(pieces) == 1:
        return pieces[0]
    type = wider(pieces[0])
    return pieces[0].block.emit(f"v.join.{type}", *pieces)


def wider(value: Value) -> Type:
    return _WIDER[type_of(value)]


def type_of(value: Value) -> Type:
    assert value.type is not None
    return value.type


def emit(name: str, type: Type, *values: Value, imm: int = 0) -> Value:
    return values[0].block.emit(f"{name}.{type}", *values, imm=imm)


def singles(value: Value) -> list[Value]:
    """Half-precision lanes as vectors of single-precision ones."""
    return [emit(UP, wider(part), part) for part in halves_of(value)]


def from_singles(values: list[Value]) -> Value:
    """And back, rounded."""
    return joined([emit(DOWN, type_of(value), value) for value in values])


def doubles(value: Value) -> list[Value]:
    """Half-precision lanes as vectors of double-precision ones."""
    return [
        emit("v.cvt.f32.f64", wider(part), part) for single in singles(value) for part in halves_of(single)
    ]


def from_doubles(values: list[Value]) -> Value:
    narrow = [emit("v.narrow_odd.f64.f32", type_of(value), value) for value in values]
    return from_singles(
        [joined(narrow[n : n + 2]) for n in range(0, len(narrow), 2)] if len(narrow) > 1 else narrow
    )


def look(i: Ins, *values: Value) -> None:
    """Tell of denormals among operands of which none is a NaN."""
    together = values + (values[-1],) * (3 - len(values))
    i.block.emit(row(i, "v.denormals.f16"), *together)


def number(i: Ins, n: int) -> Value:
    """Operand `n`; what is masked, or beyond a scalar instruction's lane, is 0."""
    return operand(i, n, "f16")


# arithmetic --------------------------------------------------------------------------------------------


def _arithmetic(name: str) -> Semantics:
    def lanes(i: Ins) -> None:
        a, b = number(i, 1), number(i, 2)
        if name == "div":
            b = _without_zeros(i, b)
        look(i, a, b)
        pairs = zip(singles(a), singles(b), strict=True)
        result(i, "f16", from_singles([emit(f"v.{name}.f32", type_of(x), x, y) for x, y in pairs]))

    return lanes


def _without_zeros(i: Ins, value: Value) -> Value:
    """1 where nothing is to be divided."""
    if not i.mask and not is_scalar(i):
        return value
    mask = masking.taken(i) if i.mask else i.const(I64, 1)
    one = emit("v.splat.i16", type_of(value), i.const(INTEGER_OF_BITS[16], _ONE))
    return emit("v.merge.i16", type_of(value), value, one, mask & 1 if is_scalar(i) else mask)


def _root(i: Ins) -> None:
    source = number(i, last(i))
    kind = type_of(source)
    negative = emit("v.sar.i16", kind, source, i.const(I64, 15))
    look(i, emit("andn", kind, negative, source))  # a root of a negative number is invalid, and no more
    result(i, "f16", from_singles([emit("v.sqrt.f32", type_of(x), x) for x in singles(source)]))


def _extreme(name: str) -> Semantics:
    """The second operand where the first is not smaller, or larger: as it is, even if it is a NaN."""

    def lanes(i: Ins) -> None:
        a, b = number(i, 1), number(i, 2)
        look(i, a, b)
        pairs = zip(singles(a), singles(b), strict=True)
        ordered = [(x, y) if name == "min" else (y, x) for x, y in pairs]
        first = [emit("v.cmp_lt.f32", type_of(x), x, y) for x, y in ordered]
        mask, kind = masks(first), type_of(a)
        result(i, "f16", emit("or", kind, emit("and", kind, mask, a), emit("andn", kind, mask, b)))

    return lanes


def masks(values: list[Value]) -> Value:
    """Lanes of 32 bits that are all ones or 0, as lanes of 16."""
    return joined([emit("v.narrow.i32.i16", type_of(value), value) for value in values])


def _fused(operation: str, a: Value, b: Value, c: Value) -> Value:
    """`v.<operation>` of the lanes, rounded once."""
    columns = zip(doubles(a), doubles(b), doubles(c), strict=True)
    return from_doubles([emit(f"v.{operation}.f64", type_of(x), x, y, z) for x, y, z in columns])


def _multiply_add(operation: str, order: tuple[int, int, int]) -> Semantics:
    def lanes(i: Ins) -> None:
        values = [number(i, n) for n in range(3)]
        look(i, *values)
        value = _fused(operation, *(values[n] for n in order))
        if is_scalar(i):  # the lanes above are those of the first operand
            value = emit("v.merge.i16", V128, value, full(i, 0), i.const(I64, 1))
        write(i, 0, value, 16, int(is_scalar(i)))

    return lanes


for _name in ("ADD", "SUB", "MUL", "DIV"):
    for _letter in "PS":
        register(f"V{_name}{_letter}H", _arithmetic(_name.lower()))
for _letter in "PS":
    register(f"VSQRT{_letter}H", _root)
    register(f"VMIN{_letter}H", _extreme("min"))
    register(f"VMAX{_letter}H", _extreme("max"))
for _number, _order in {"132": (0, 2, 1), "213": (1, 0, 2), "231": (1, 2, 0)}.items():
    for _name in ("fmadd", "fmsub", "fnmadd", "fnmsub"):
        for _letter in "PS":
            register(f"V{_name.upper()}{_number}{_letter}H", _multiply_add(_name, _order))
    for _name in ("fmaddsub", "fmsubadd"):
        register(f"V{_name.upper()}{_number}PH", _multiply_add(_name, _order))

# complex numbers: pairs of lanes, the real part first --------------------------------------------------


def _pair(i: Ins, n: int, scalar: bool) -> Value:
    """Operand `n`, whose lanes are pairs."""
    if not scalar:
        return masking.quiet(i, full(i, n), 32)
    if i.is_memory(n):
        return widen(masking.element(i, n, 32, 1))
    mask = masking.taken(i) & 1 if i.mask else i.const(I64, 1)
    return i.block.emit("v.zero.i32.v128", full(i, n), mask)


def _complex(conjugate: bool, add: bool, scalar: bool) -> Semantics:
    """Two products each rounded, or added to what is there and rounded, then a fused step each."""

    def lanes(i: Ins) -> None:
        a, b = _pair(i, 1, scalar), _pair(i, 2, scalar)
        kind = type_of(a)
        sixteen = emit("v.splat.i32", kind, i.const(I32, 16))
        real = emit("v.splat.i32", kind, i.const(I32, 0xFFFF))
        real_b = emit("and", kind, b, real)
        imaginary_b = emit("andn", kind, real, b)
        both_real = emit("or", kind, real_b, emit("v.fshl.i32", kind, real_b, real_b, sixteen))
        both_imaginary = emit(
            "or", kind, imaginary_b, emit("v.fshl.i32", kind, imaginary_b, imaginary_b, sixteen)
        )
        turned = emit("v.fshl.i32", kind, a, a, sixteen)
        if add:
            old = _pair(i, 0, scalar)
            look(i, a, both_real, old)
            start = _fused("fmadd", a, both_real, old)
        else:
            look(i, a, both_real)
            pairs = zip(singles(a), singles(both_real), strict=True)
            start = from_singles([emit("v.mul.f32", type_of(x), x, y) for x, y in pairs])
        look(i, turned, both_imaginary, start)
        operands = turned, both_imaginary, start
        reals = (emit("and", kind, value, real) for value in operands)  # each lane is computed once
        others = (emit("andn", kind, real, value) for value in operands)
        names = ("fmadd", "fnmadd") if conjugate else ("fnmadd", "fmadd")
        first, second = _fused(names[0], *reals), _fused(names[1], *others)
        value = emit("or", kind, emit("and", kind, first, real), emit("andn", kind, real, second))
        if scalar:
            value = emit("v.merge.i32", V128, value, full(i, 1), i.const(I64, 1))
        write(i, 0, value, 32, int(scalar))

    return lanes


for _letter in "PS":
    for _conjugate in ("", "C"):
        register(f"VF{_conjugate}MULC{_letter}H", _complex(bool(_conjugate), False, _letter == "S"))
        register(f"VF{_conjugate}MADDC{_letter}H", _complex(bool(_conjugate), True, _letter == "S"))
