"""FMA and F16C."""

from __future__ import annotations

from nexus.ir.ops.fused import FORMS
from nexus.ir.types import I64
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_operands import control, full, lane, low, row, width, write
from nexus.isa.x86.table import Semantics, register, semantics

_SUFFIXES = (("PS", "f32", 128), ("PD", "f64", 128), ("SS", "f32x1", 32), ("SD", "f64x1", 64))
# the operands that are multiplied, then the one that is added
_ORDERS = {"132": (0, 2, 1), "213": (1, 0, 2), "231": (1, 2, 0)}
KINDS: dict[str, str] = {}
"""Mnemonic -> lanes."""


def _fused(operation: str, order: tuple[int, int, int], kind: str, bits: int) -> Semantics:
    def lanes(i: Ins) -> None:
        old = full(i, 0)
        values = (old, full(i, 1), low(i, 2, bits) if bits < 128 else full(i, 2))
        result = i.block.emit(row(i, f"v.{operation}.{kind}"), *(values[n] for n in order))
        if bits < 128 and order[0]:  # the row keeps the upper lanes of what is multiplied
            result = i.block.emit(f"v.blend.i{bits}.v128", old, result, imm=1)
        write(i, 0, result)

    return lanes


for _number, _order in _ORDERS.items():
    for _suffix, _kind, _bits in _SUFFIXES:
        for _operation in (*FORMS, *(("fmaddsub", "fmsubadd") if _bits == 128 else ())):
            _name = f"V{_operation.upper()}{_number}{_suffix}"
            register(_name, _fused(_operation, _order, _kind, _bits))
            KINDS[_name] = _kind


@semantics("VCVTPH2PS")
def vcvtph2ps(i: Ins) -> None:
    value = low(i, 1, width(i).bits // 2)
    write(i, 0, i.block.emit(row(i, "v.cvt.f16.f32"), value))


@semantics("VCVTPS2PH")
def vcvtps2ph(i: Ins) -> None:
    mode = control(i) & 7
    if i.is_memory(0):  # a fault comes before MXCSR sees the conversion
        for at in range(0, width(i).bits // 16, 8):
            i.block.load(I64, i.memory(0).plus(at), modify=True)
    value: Value = i.block.emit(row(i, f"v.cvt{4 if mode & 4 else mode}.f32.f16"), full(i, 1))
    if not i.is_memory(0):
        write(i, 0, value)
    else:
        i.write(0, value if i.type(0).is_vector else lane(value, 64))
