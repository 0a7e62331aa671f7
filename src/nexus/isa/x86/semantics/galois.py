"""GFNI."""

from __future__ import annotations

from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_operands import control, row, two, vector_const, whole, width, write
from nexus.isa.x86.table import vector_semantics

# AES's S-box is the inverse in the field followed by an affine map. This takes the map away again: the
# matrix, as GF2P8AFFINEQB has it, and the constant (FIPS 197, 5.3.2).
_UNMAP, _UNMAP_CONSTANT = 0xA44992254A942952, 0x05
_UNSHIFTED = sum((i - 4 * (i % 4)) % 16 << 8 * i for i in range(16))


def _everywhere(i: Ins, number: int) -> Value:
    """A 128-bit constant in every part of a vector."""
    part = vector_const(i, number)
    return whole([part] * (width(i).bits // 128))


@vector_semantics("GF2P8MULB")
def gf2p8mulb(i: Ins) -> None:
    write(i, 0, i.block.emit(row(i, "v.field_mul.i8"), *two(i)))


@vector_semantics("GF2P8AFFINEQB")
def gf2p8affineqb(i: Ins) -> None:
    write(i, 0, i.block.emit(row(i, "v.affine.i8"), *two(i), imm=control(i)))


@vector_semantics("GF2P8AFFINEINVQB")
def gf2p8affineinvqb(i: Ins) -> None:
    """The inverse comes from a last AES round without a key, its shifted rows and its affine map undone."""
    a, matrix = two(i)
    order = _everywhere(i, _UNSHIFTED)
    boxed = i.block.emit(
        row(i, "v.aesenclast"), i.block.emit(row(i, "v.shuffle.i8"), a, order), _everywhere(i, 0)
    )
    unmap = _everywhere(i, _UNMAP | _UNMAP << 64)
    inverse = i.block.emit(row(i, "v.affine.i8"), boxed, unmap, imm=_UNMAP_CONSTANT)
    write(i, 0, i.block.emit(row(i, "v.affine.i8"), inverse, matrix, imm=control(i)))
