"""Conversions between floats and integers, and rounding to integral values, under the guest's MXCSR.

Out of range and NaN give x86's "integer indefinite" (only the top bit set). As everywhere, the oracles
speak for the default MXCSR.
"""

from __future__ import annotations

from nexus.ir.ops import float_model as model
from nexus.ir.ops.float_arithmetic import lowest
from nexus.ir.ops.float_model import CHOP, F32, F64, FORMAT_OF_BITS, NEAREST
from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import row
from nexus.ir.ops.vector import BUILT, LONG_ENOUGH, each, join, lanes, split
from nexus.ir.types import V128, V512

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.float_model import Format

_FLOATS = {
    "f32": ("<4 x float>", "float", F32, "sse", "s"),
    "f64": ("<2 x double>", "double", F64, "sse2", "d"),
}


_LLVM_BITS = {"float": 32, "double": 64, "i32": 32, "i64": 64}


def _packed(
    name: str, convert: Callable[[int], int], source: str, target: str, doc: str, short: str, long: str = ""
) -> None:
    """Rows from lanes of LLVM type `source` to `target`, as many as both vectors have room for, zero above
    them; the narrower lanes are in a vector of `LONG_ENOUGH`.

    `short` is an LLVM expression of the 128-bit row with the vector `%x`, or for all rows with {n} lanes in
    `%y`; `long` that of the 256-bit row where it is another one.
    """
    bits, out = _LLVM_BITS[source], _LLVM_BITS[target]
    for vector in BUILT:
        take = vector if bits >= out else LONG_ENOUGH[vector]
        give = vector if out >= bits else LONG_ENOUGH[vector]
        count, there, results = vector.bits // max(bits, out), take.bits // bits, give.bits // out

        def oracle(width: int, a: int, count: int = count) -> int:
            return join((convert(x) for x in split(a, bits, count * bits)), out)

        lowest_lanes = ", ".join(f"i32 {i}" for i in range(count))
        text = f"%x = bitcast {take.llvm} $a to <{there} x {source}>\n"
        text += f"%y = shufflevector <{there} x {source}> %x, <{there} x {source}> poison, "
        text += f"<{count} x i32> <{lowest_lanes}>\n"
        if long and vector is V512:
            text += _in_halves(long, source, there, target, count)
        else:
            text += f"%r = {(long if vector is not V128 and long else short).replace('{n}', str(count))}\n"
        text += f"$d = bitcast <{results} x {target}> %r to {give.llvm}"
        row(f"v.{name}.{vector}", f"{take} -> {give}", text, oracle, doc, bits=vector.bits)


def _in_halves(long: str, source: str, there: int, target: str, count: int) -> str:
    """`%r` from the expression for 256 bits on both halves of `%x`."""
    text, each = "", count // 2
    for half in (0, 1):
        taken = ", ".join(f"i32 {half * each + i}" for i in range(there // 2))
        text += f"%x{half} = shufflevector <{there} x {source}> %x, <{there} x {source}> poison, "
        text += f"<{there // 2} x i32> <{taken}>\n%r{half} = {long.replace('%x', f'%x{half}')}\n"
    both = ", ".join(f"i32 {i}" for i in range(count))
    part = f"<{each} x {target}>"
    return text + f"%r = shufflevector {part} %r0, {part} %r1, <{count} x i32> <{both}>\n"


def _integer(fmt: Format, bits: int, mode: int) -> Callable[[int], int]:
    return lambda x: model.to_integer(fmt, x, bits, mode=mode)[0]


for _name, _t, _mode, _how in (("cvt", "", NEAREST, "rounded by MXCSR"), ("cvtt", "t", CHOP, "truncated")):
    _packed(
        f"{_name}.f32.i32",
        _integer(F32, 32, _mode),
        *("float", "i32", f"Floats to signed 32-bit integers, {_how}."),
        f"call <4 x i32> @llvm.x86.sse2.cvt{_t}ps2dq(<4 x float> %x)",
        f"call <8 x i32> @llvm.x86.avx.cvt{_t}.ps2dq.256(<8 x float> %x)",
    )
    _packed(
        f"{_name}.f64.i32",
        _integer(F64, 32, _mode),
        *("double", "i32", f"Doubles to signed 32-bit integers in the lower half, {_how}."),
        f"call <4 x i32> @llvm.x86.sse2.cvt{_t}pd2dq(<2 x double> %x)",
        f"call <4 x i32> @llvm.x86.avx.cvt{_t}.pd2dq.256(<4 x double> %x)",
    )
    for _kind, (_vector, _llvm, _fmt, _sse, _letter) in _FLOATS.items():
        for _bits in (32, 64):
            row(
                f"v.{_name}.{_kind}x1.i{_bits}",
                f"v128 -> i{_bits}",
                f"%x = bitcast i128 $a to {_vector}\n"
                f"$d = call i{_bits} "
                f"@llvm.x86.{_sse}.cvt{_t}s{_letter}2si{'64' if _bits == 64 else ''}({_vector} %x)",
                lambda w, a, fmt=_fmt, bits=_bits, mode=_mode: model.to_integer(
                    fmt, a & (1 << fmt.bits) - 1, bits, mode=mode
                )[0],
                f"The lowest lane as a signed integer, {_how}.",
            )

_packed(
    "cvt.i32.f32",
    lambda x: model.from_integer(F32, signed(x, 32))[0],
    *("i32", "float", "Signed 32-bit integers to floats."),
    "sitofp <{n} x i32> %y to <{n} x float>",
)
_packed(
    "cvt.i32.f64",
    lambda x: model.from_integer(F64, signed(x, 32))[0],
    *("i32", "double", "The lowest signed 32-bit integers to doubles."),
    "sitofp <{n} x i32> %y to <{n} x double>",
)
_packed(
    "cvt.f32.f64",
    lambda x: model.convert(F32, F64, x)[0],
    *("float", "double", "The lowest floats to doubles."),
    "fpext <{n} x float> %y to <{n} x double>",
)
_packed(
    "cvt.f64.f32",
    lambda x: model.convert(F64, F32, x)[0],
    *("double", "float", "Doubles to floats in the lower half."),
    "call <4 x float> @llvm.x86.sse2.cvtpd2ps(<2 x double> %x)",
    "call <4 x float> @llvm.x86.avx.cvt.pd2.ps.256(<4 x double> %x)",
)

for _kind, (_vector, _llvm, _fmt, _, _) in _FLOATS.items():
    for _bits in (32, 64):
        row(
            f"v.cvt.i{_bits}.{_kind}x1",
            f"v128 i{_bits} -> v128",
            f"%x = bitcast i128 $a to {_vector}\n%f = sitofp i{_bits} $b to {_llvm}\n"
            f"%r = insertelement {_vector} %x, {_llvm} %f, i64 0\n$d = bitcast {_vector} %r to i128",
            lambda w, a, b, fmt=_fmt, bits=_bits: (
                a & ~((1 << fmt.bits) - 1) | model.from_integer(fmt, signed(b, bits))[0]
            ),
            "a with its lowest lane replaced by the converted signed integer.",
        )
row(
    "v.cvt.f32x1.f64x1.v128",
    "v128 v128 -> v128",
    "%x = bitcast i128 $a to <2 x double>\n%y = bitcast i128 $b to <4 x float>\n"
    "%s = extractelement <4 x float> %y, i64 0\n"
    "%f = fpext float %s to double\n%r = insertelement <2 x double> %x, double %f, i64 0\n"
    "$d = bitcast <2 x double> %r to i128",
    lambda w, a, b: a >> 64 << 64 | model.convert(F32, F64, b & 0xFFFFFFFF)[0],
    "a with its lowest double replaced by b's lowest float.",
)
row(
    "v.cvt.f64x1.f32x1.v128",
    "v128 v128 -> v128",
    "%x = bitcast i128 $a to <4 x float>\n%y = bitcast i128 $b to <2 x double>\n"
    "%s = extractelement <2 x double> %y, i64 0\n"
    "%f = fptrunc double %s to float\n%r = insertelement <4 x float> %x, float %f, i64 0\n"
    "$d = bitcast <4 x float> %r to i128",
    lambda w, a, b: a >> 32 << 32 | model.convert(F64, F32, b & (1 << 64) - 1)[0],
    "a with its lowest float replaced by b's lowest double.",
)

ROUNDINGS = (0, 1, 2, 3, 4, 8, 9, 10, 11, 12)
"""The immediates of ROUNDPS that differ: bits 0-1 the mode, bit 2 take MXCSR's instead, bit 3 no inexact
exception."""


for _imm in ROUNDINGS:

    def _round(w: int, a: int, imm: int = _imm) -> int:
        return model.round_integral(FORMAT_OF_BITS[w], a, mode=NEAREST if imm & 4 else imm & 3)[0]

    lanes(
        "f32 f64",
        f"v.round{_imm}.{{e}}.{{v}}",
        "{v} -> {v}",
        f"%d = call {{L}} @llvm.x86.sse41.round.p{{s}}({{L}} %a, i32 {_imm})",
        each(_round),
        "Rounded to integral values; the name has ROUNDPS's immediate.",
    )
    lanes(
        "f32 f64",
        f"v.round{_imm}.{{e}}x1.{{v}}",
        "{v} {v} -> {v}",
        f"%d = call {{L}} @llvm.x86.sse41.round.s{{s}}({{L}} %a, {{L}} %b, i32 {_imm})",
        lowest(lambda w, a, b, f=_round: f(w, b)),
        "a with b's lowest lane rounded to an integral value.",
        wide=False,
    )
