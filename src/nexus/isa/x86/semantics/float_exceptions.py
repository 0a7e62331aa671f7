"""Which instructions may raise an exception of MXCSR (#XM), for `machine/floats.py`."""

from __future__ import annotations

from iced_x86 import Mnemonic

from nexus.isa.x86.semantics import evex_float, float_compare, fused, half, half_convert, sse_float
from nexus.isa.x86.table import SEMANTICS

_MODULES = tuple(
    module.__name__ for module in (sse_float, float_compare, fused, evex_float, half, half_convert)
)
_CONTROL = {Mnemonic.LDMXCSR, Mnemonic.STMXCSR, Mnemonic.VLDMXCSR, Mnemonic.VSTMXCSR}
RAISING = frozenset(
    {m for m, f in SEMANTICS.items() if f.__module__ in _MODULES} - _CONTROL | {Mnemonic.CMPSD}
)
"""The mnemonics (iced) of instructions that may raise."""

MAY_BE_TINY: dict[int, tuple[int, int]] = {}
"""Mnemonic -> width and number of the result's lanes that may be denormal, for those that can underflow; of
the 128-bit form."""


def _tiny(name: str, lane: int, count: int) -> None:
    for full in (name, "V" + name):
        MAY_BE_TINY[getattr(Mnemonic, full)] = lane, count


_tiny("CVTSD2SS", 32, 1)
_tiny("CVTPD2PS", 32, 2)
for _suffix, _lane, _count in (("PS", 32, 4), ("PD", 64, 2), ("SS", 32, 1), ("SD", 64, 1)):
    for _name in ("ADD", "SUB", "MUL", "DIV", *(("HADD", "HSUB", "ADDSUB", "DP") if _count > 1 else ())):
        _tiny(_name + _suffix, _lane, _count)
for _name, _kind in fused.KINDS.items():
    MAY_BE_TINY[getattr(Mnemonic, _name)] = (32, 1) if _kind == "f32x1" else (64, 1)
    if not _kind.endswith("x1"):
        MAY_BE_TINY[getattr(Mnemonic, _name)] = (32, 4) if _kind == "f32" else (64, 2)
MAY_BE_TINY[Mnemonic.VCVTPS2PH] = 16, 4
for _suffix, _lane, _count in (("PS", 32, 4), ("PD", 64, 2), ("SS", 32, 1), ("SD", 64, 1)):
    MAY_BE_TINY[getattr(Mnemonic, "VSCALEF" + _suffix)] = _lane, _count
