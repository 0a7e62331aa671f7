"""Moving vectors and parts of vectors between registers and memory."""

from __future__ import annotations

from iced_x86 import Mnemonic

from nexus.ir.types import I32, I64, INTEGER_OF_BITS, V128
from nexus.ir.values import Address, Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.sse_operands import (
    control,
    enter_mmx,
    first,
    full,
    is_mmx,
    lane,
    low,
    row,
    two,
    uses_mmx,
    widen,
    width,
    write,
)
from nexus.isa.x86.table import Semantics, register, register_vectors, semantics, vector_semantics


def _whole(aligned: bool) -> Semantics:
    def move(i: Ins) -> None:
        value = full(i, 1, aligned)
        if i.is_memory(0):
            masking.store(i, 0, value, aligned)
        else:
            write(i, 0, value)

    return move


for _name in ("MOVAPS", "MOVAPD", "MOVDQA", "MOVNTPS", "MOVNTPD", "MOVNTDQ", "MOVNTDQA"):
    register_vectors(_name, _whole(aligned=True))
for _name in ("MOVUPS", "MOVUPD", "MOVDQU", "LDDQU"):
    register_vectors(_name, _whole(aligned=False))
for _name in ("VMOVDQA32", "VMOVDQA64"):
    register(_name, _whole(aligned=True))
for _name in ("VMOVDQU8", "VMOVDQU16", "VMOVDQU32", "VMOVDQU64"):
    register(_name, _whole(aligned=False))


@vector_semantics("MOVD", "MOVQ")
def movd(i: Ins) -> None:
    """Between vector and general registers or memory: the low 32 or 64 bits, zero above them in a vector."""
    bits = 64 if i.raw.mnemonic in (Mnemonic.MOVQ, Mnemonic.VMOVQ) else 32
    if i.is_general(0) or i.is_memory(0):
        i.write(0, lane(full(i, 1), bits))
        enter_mmx(i)
    elif i.is_general(1) or i.is_memory(1):
        write(i, 0, widen(i.read(1, INTEGER_OF_BITS[bits])))
    else:
        write(i, 0, widen(lane(full(i, 1), 64)))


@semantics("MOVQ2DQ", "MOVDQ2Q")
def movq2dq(i: Ins) -> None:
    write(i, 0, widen(lane(full(i, 1), 64)))
    enter_mmx(i)


@semantics("MOVNTQ")
def movntq(i: Ins) -> None:
    i.write(0, lane(full(i, 1), 64))
    enter_mmx(i)


@semantics("MOVNTI")
def movnti(i: Ins) -> None:
    i.write(0, i.read(1))


def _scalar(i: Ins, bits: int) -> None:
    """From memory clears the rest, between registers keeps it."""
    if i.is_memory(0):
        masking.store(i, 0, full(i, 1), lane=bits, count=1)
    elif i.is_memory(1):
        write(i, 0, low(i, 1, bits))
    else:
        write(i, 0, i.block.emit(f"v.blend.i{bits}.v128", *two(i), imm=1))


@vector_semantics("MOVSS")
def movss(i: Ins) -> None:
    _scalar(i, 32)


def movsd(i: Ins) -> None:
    """Registered in `shared_names.py`."""
    _scalar(i, 64)


register("VMOVSD", movsd)


@semantics("VMOVSH")
def vmovsh(i: Ins) -> None:
    _scalar(i, 16)


@semantics("VMOVW")
def vmovw(i: Ins) -> None:
    """Between a vector and a general register or memory: 16 bits, zero above them."""
    if i.is_vector(0):
        write(i, 0, widen(i.read(1, INTEGER_OF_BITS[16])))
    else:
        value = lane(full(i, 1), 16)
        i.write(0, value if i.is_memory(0) else value.zext(I32))


def _half(name: str, index: int) -> None:
    """MOVLPS and kin: one 64-bit half to or from memory."""

    def move(i: Ins) -> None:
        if i.is_memory(0):
            i.write(0, lane(full(i, 1), 64, index))
        else:
            n = first(i)
            new = i.block.load(I64, i.memory(n + 1))
            write(i, 0, i.block.emit("v.insert.i64.v128", full(i, n), new, imm=index))

    register_vectors(name, move)


for _name in ("MOVLPS", "MOVLPD"):
    _half(_name, 0)
for _name in ("MOVHPS", "MOVHPD"):
    _half(_name, 1)


@vector_semantics("MOVHLPS")
def movhlps(i: Ins) -> None:
    a, b = two(i)
    write(i, 0, i.block.emit("v.unpack_high.i64.v128", b, a))


@vector_semantics("MOVLHPS")
def movlhps(i: Ins) -> None:
    write(i, 0, i.block.emit("v.unpack_low.i64.v128", *two(i)))


@vector_semantics("MOVDDUP")
def movddup(i: Ins) -> None:
    value = low(i, 1, 64) if width(i) is V128 else full(i, 1)
    write(i, 0, i.block.emit(row(i, "v.unpack_low.i64"), value, value))


def _duplicate(name: str, fields: int) -> None:
    def move(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, "v.permute.i32"), full(i, 1), imm=fields))

    register_vectors(name, move)


_duplicate("MOVSLDUP", 0b10100000)
_duplicate("MOVSHDUP", 0b11110101)


def _sign_mask(name: str, kind: str) -> None:
    def gather(i: Ins) -> None:
        i.write(0, i.block.emit(row(i, f"v.movemask.{kind}"), full(i, 1)).trunc(I32))
        enter_mmx(i)

    register_vectors(name, gather)


_sign_mask("MOVMSKPS", "f32")
_sign_mask("MOVMSKPD", "f64")
_sign_mask("PMOVMSKB", "i8")


@vector_semantics("MASKMOVDQU", "MASKMOVQ")
def maskmov(i: Ins) -> None:
    """Store the bytes whose mask byte is negative; the others are written back as they were."""
    where = Address(i.block.address(i.memory(0)))
    value, mask = full(i, 1), full(i, 2)
    lower = i.block.load(I64, where, modify=True)
    if is_mmx(i, 1):
        new = i.block.emit("v.blend_sign.i8.v128", widen(lower), value, mask)
        i.block.store(where, lane(new, 64))
    else:
        old = i.block.emit("v.pair.i64.v128", lower, i.block.load(I64, where.plus(8), modify=True))
        i.block.store(where, i.block.emit("v.blend_sign.i8.v128", old, value, mask))
    enter_mmx(i)


def _extract(name: str, bits: int) -> None:
    """PEXTRB and kin: a lane to memory, or zero-extended to a general register."""

    def move(i: Ins) -> None:
        count = (64 if uses_mmx(i) else 128) // bits
        value = lane(full(i, 1), bits, control(i) % count)
        i.write(0, value if i.is_memory(0) else value.resize(i.type(0)))
        enter_mmx(i)

    register_vectors(name, move)


for _name, _bits in (("PEXTRB", 8), ("PEXTRW", 16), ("PEXTRD", 32), ("PEXTRQ", 64), ("EXTRACTPS", 32)):
    _extract(_name, _bits)


def _insert(name: str, bits: int) -> None:
    def move(i: Ins) -> None:
        count, n = (64 if uses_mmx(i) else 128) // bits, first(i)
        value: Value = i.read(n + 1, INTEGER_OF_BITS[bits])
        write(i, 0, i.block.emit(f"v.insert.i{bits}.v128", full(i, n), value, imm=control(i) % count))

    register_vectors(name, move)


for _name, _bits in (("PINSRB", 8), ("PINSRW", 16), ("PINSRD", 32), ("PINSRQ", 64)):
    _insert(_name, _bits)


@vector_semantics("INSERTPS")
def insertps(i: Ins) -> None:
    """From memory there is one lane only, whatever the immediate's source field says."""
    n = first(i)
    imm = control(i) & 0x3F if i.is_memory(n + 1) else control(i)
    write(i, 0, i.block.emit("v.insertps.v128", full(i, n), low(i, n + 1, 32), imm=imm))
