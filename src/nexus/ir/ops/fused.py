"""Fused multiply-add, and half precision.

x86 has three orders of the operands; here they are always a * b + c, and of several NaNs the first in that
order wins.
"""

from __future__ import annotations

from nexus.ir.ops import float_model as model
from nexus.ir.ops.float_arithmetic import lowest
from nexus.ir.ops.float_model import F16, F32, FORMAT_OF_BITS, NEAREST
from nexus.ir.ops.table import row
from nexus.ir.ops.vector import BUILT, LONG_ENOUGH, each, join, lanes, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.vector import Oracle

_THREE = "{v} {v} {v} -> {v}"
FORMS = {"fmadd": (False, False), "fmsub": (False, True), "fnmadd": (True, False), "fnmsub": (True, True)}
"""Operation -> whether the product and whether c is negated."""


def _fused(product: bool, addend: bool) -> Callable[[int, int, int, int], int]:
    return lambda w, a, b, c: model.fused(FORMAT_OF_BITS[w], a, b, c, minus=product, subtract=addend)[0]


def _asm(name: str, suffix: str) -> str:
    """An instruction in which a is the first operand to be looked at for NaNs (Intel SDM volume 1, 14.5.2):
    form 231, which overwrites c, most often a sum; form 132 where the upper lanes are a's."""
    if suffix[0] == "p":
        return (
            f'%d = call {{L}} asm "v{name}231{suffix} $2, $1, $0", "=x,x,x,0"({{L}} %a, {{L}} %b, {{L}} %c)'
        )
    return f'%d = call {{L}} asm "v{name}132{suffix} $2, $3, $0", "=x,0,x,x"({{L}} %a, {{L}} %b, {{L}} %c)'


def _alternating(first: bool) -> Callable[[int], Oracle]:
    """An oracle that subtracts in the even lanes (`first`) or in the odd ones."""

    def make(lane: int) -> Oracle:
        def oracle(width: int, *vectors: int) -> int:
            columns = zip(*(split(v, lane, width) for v in vectors), strict=True)
            done = (_fused(False, (i % 2 == 0) == first)(lane, *column) for i, column in enumerate(columns))
            return join(done, lane)

        return oracle

    return make


for _name, (_product, _addend) in FORMS.items():
    _function = _fused(_product, _addend)
    _doc = f"{'-' if _product else ''}a * b {'-' if _addend else '+'} c, rounded once"
    for _letter in "sd":
        _kind = "f32" if _letter == "s" else "f64"
        lanes(
            _kind,
            f"v.{_name}.{{e}}.{{v}}",
            _THREE,
            _asm(_name, "p" + _letter),
            each(_function),
            _doc + ".",
            parts=False,
            avx=True,
        )
        lanes(
            _kind,
            f"v.{_name}.{{e}}x1.{{v}}",
            _THREE,
            _asm(_name, "s" + _letter),
            lowest(_function),
            _doc + ", in the lowest lanes; the others are a's.",
            wide=False,
            avx=True,
        )
for _name, _first in (("fmaddsub", True), ("fmsubadd", False)):
    for _letter in "sd":
        lanes(
            "f32" if _letter == "s" else "f64",
            f"v.{_name}.{{e}}.{{v}}",
            _THREE,
            _asm(_name, "p" + _letter),
            _alternating(_first),
            f"a * b {'-' if _first else '+'} c in the even lanes, a * b {'+' if _first else '-'} c in the "
            "odd ones, rounded once.",
            parts=False,
            avx=True,
        )

# half precision ----------------------------------------------------------------------------------------

HALF_ROUNDINGS = (0, 1, 2, 3, 4)
"""The immediates of VCVTPS2PH that differ: a mode, or 4 for MXCSR's."""

for _t in BUILT:
    _n, _short = _t.bits // 32, LONG_ENOUGH[_t]
    _halves, _room = f"<{_n} x half>", f"<{_short.bits // 16} x half>"
    _places = ", ".join(f"i32 {i}" for i in range(_n))
    row(
        f"v.cvt.f16.f32.{_t}",
        f"{_short} -> {_t}",
        f"%x = bitcast {_short.llvm} $a to {_room}\n"
        f"%y = shufflevector {_room} %x, {_room} poison, <{_n} x i32> <{_places}>\n"
        f"%r = fpext {_halves} %y to <{_n} x float>\n$d = bitcast <{_n} x float> %r to {_t.llvm}",
        lambda w, a: join((model.convert(F16, F32, x)[0] for x in split(a, 16, w // 2)), 32),
        "The lowest half-precision numbers to single precision.",
        bits=_t.bits,
        avx=True,
    )
    for _imm in HALF_ROUNDINGS:
        _mode = NEAREST if _imm & 4 else _imm

        def _narrow(w: int, a: int, mode: int = _mode) -> int:
            return join((model.convert(F32, F16, x, mode=mode)[0] for x in split(a, 32, w)), 16)

        row(
            f"v.cvt{_imm}.f32.f16.{_t}",
            f"{_t} -> {_short}",
            f"%x = bitcast {_t.llvm} $a to <{_n} x float>\n"
            f"%r = call <8 x i16> @llvm.x86.vcvtps2ph.{_t.bits}(<{_n} x float> %x, i32 {_imm})\n"
            f"$d = bitcast <8 x i16> %r to {_short.llvm}",
            _narrow,
            "Single to half precision, rounded as the name says (the immediate of VCVTPS2PH).",
            bits=_t.bits,
            avx=True,
        )
