"""FMA and F16C."""

from __future__ import annotations

from nexus.ir.ops.fused import FORMS
from nexus.ir.ops.vector import LANE_BITS
from nexus.ir.types import I64
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.sse_float import converted, number
from nexus.isa.x86.semantics.sse_operands import control, row, width, write
from nexus.isa.x86.table import Semantics, register, semantics

_SUFFIXES = (("PS", "f32"), ("PD", "f64"), ("SS", "f32x1"), ("SD", "f64x1"))
# the operands that are multiplied, then the one that is added
_ORDERS = {"132": (0, 2, 1), "213": (1, 0, 2), "231": (1, 2, 0)}
KINDS: dict[str, str] = {}
"""Mnemonic -> lanes."""


def _fused(operation: str, order: tuple[int, int, int], kind: str) -> Semantics:
    def lanes(i: Ins) -> None:
        values = [number(i, n, kind) for n in range(3)]
        result = i.block.emit(row(i, f"v.{operation}.{kind}"), *(values[n] for n in order))
        if kind.endswith("x1") and order[0]:  # the row keeps the upper lanes of what is multiplied
            result = i.block.emit(f"v.blend.i{LANE_BITS[kind[:3]]}.v128", values[0], result, imm=1)
        write(i, 0, result)

    return lanes


for _number, _order in _ORDERS.items():
    for _suffix, _kind in _SUFFIXES:
        for _operation in (*FORMS, *(("fmaddsub", "fmsubadd") if not _kind.endswith("x1") else ())):
            _name = f"V{_operation.upper()}{_number}{_suffix}"
            register(_name, _fused(_operation, _order, _kind))
            KINDS[_name] = _kind


register("VCVTPH2PS", converted("v.cvt.f16.f32", 16, 32))


@semantics("VCVTPS2PH")
def vcvtps2ph(i: Ins) -> None:
    mode = control(i) & 7
    if i.is_memory(0) and not i.mask:  # a fault comes before MXCSR sees the conversion
        for at in range(0, width(i).bits // 16, 8):
            i.block.load(I64, i.memory(0).plus(at), modify=True)
    value: Value = i.block.emit(row(i, f"v.cvt{4 if mode & 4 else mode}.f32.f16"), number(i, 1, "f32"))
    count = width(i).bits // 32
    if i.is_memory(0):
        masking.store(i, 0, value, lane=16, count=count)
    else:
        write(i, 0, value, 16, count)
