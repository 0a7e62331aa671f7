"""What AVX and AVX2 have and SSE has not: halves, broadcasts, lanes across the 128-bit parts, counts of their
own, masked moves, clearing. (Forms of SSE instructions with three operands are where those are.)"""

from __future__ import annotations

from nexus.ir.types import I64, INTEGER_OF_BITS, V128
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import masking
from nexus.isa.x86.semantics.sse_operands import (
    control,
    full,
    lane,
    parts,
    row,
    two,
    vector_const,
    whole,
    width,
    write,
)
from nexus.isa.x86.table import register, semantics


@semantics("VZEROUPPER")
def vzeroupper(i: Ins) -> None:
    for number in range(16):
        i.block.clear(number, V128)


@semantics("VZEROALL")
def vzeroall(i: Ins) -> None:
    nothing = vector_const(i, 0)
    for number in range(16):
        i.set_vector(number, nothing)


# halves ------------------------------------------------------------------------------------------------


@semantics("VEXTRACTF128", "VEXTRACTI128")
def vextract128(i: Ins) -> None:
    half = parts(full(i, 1))[control(i) & 1]
    if i.is_memory(0):
        i.block.store(i.memory(0), half)
    else:
        write(i, 0, half)


@semantics("VINSERTF128", "VINSERTI128")
def vinsert128(i: Ins) -> None:
    halves = parts(full(i, 1))
    halves[control(i) & 1] = full(i, 2)
    write(i, 0, whole(halves))


@semantics("VPERM2F128", "VPERM2I128")
def vperm2(i: Ins) -> None:
    """Each half: one of the four halves of the sources, or zero."""
    a, b = two(i)
    halves = [*parts(a), *parts(b)]

    def chosen(field: int) -> Value:
        return vector_const(i, 0) if field & 8 else halves[field & 3]

    write(i, 0, whole([chosen(control(i) & 15), chosen(control(i) >> 4)]))


# broadcasts --------------------------------------------------------------------------------------------


def _broadcast(name: str, bits: int) -> None:
    def spread(i: Ins) -> None:
        type = INTEGER_OF_BITS[bits]
        if i.is_memory(1):
            value = masking.element(i, 1, bits, width(i).bits // bits)
        else:
            value = i.read(1, type) if i.is_general(1) else lane(full(i, 1), bits)
        write(i, 0, i.block.emit(row(i, f"v.splat.{type}"), value))

    register(name, spread)


for _name, _bits in (
    *(("VBROADCASTSS", 32), ("VBROADCASTSD", 64)),
    *(("VPBROADCASTB", 8), ("VPBROADCASTW", 16), ("VPBROADCASTD", 32), ("VPBROADCASTQ", 64)),
):
    _broadcast(_name, _bits)


@semantics("VBROADCASTF128", "VBROADCASTI128")
def vbroadcast128(i: Ins) -> None:
    half = full(i, 1)
    write(i, 0, whole([half, half]))


# permutations ------------------------------------------------------------------------------------------


@semantics("VPERMD", "VPERMPS")
def vpermd(i: Ins) -> None:
    order, value = two(i)
    write(i, 0, i.block.emit(row(i, "v.permute_all.i32"), value, order))


@semantics("VPERMQ", "VPERMPD")
def vpermq(i: Ins) -> None:
    if i.is_immediate(2):
        write(i, 0, i.block.emit(row(i, "v.permute_quads"), full(i, 1), imm=control(i)))
    else:
        order, value = two(i)
        write(i, 0, i.block.emit(row(i, "v.permute_all.i64"), value, order))


@semantics("VPERMILPS")
def vpermilps(i: Ins) -> None:
    if i.is_immediate(2):
        write(i, 0, i.block.emit(row(i, "v.permute.i32"), full(i, 1), imm=control(i)))
    else:
        write(i, 0, i.block.emit(row(i, "v.lookup.i32"), *two(i)))


@semantics("VPERMILPD")
def vpermilpd(i: Ins) -> None:
    if i.is_immediate(2):
        value = full(i, 1)
        write(i, 0, i.block.emit(row(i, "v.select2.i64"), value, value, imm=control(i)))
    else:
        write(i, 0, i.block.emit(row(i, "v.lookup.i64"), *two(i)))


@semantics("VPBLENDD")
def vpblendd(i: Ins) -> None:
    write(i, 0, i.block.emit(row(i, "v.blend.i32"), *two(i), imm=control(i)))


def _counts(name: str, operation: str) -> None:
    def lanes(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, operation), *two(i)))

    register(name, lanes)


for _letter, _bits in (("D", 32), ("Q", 64)):
    _counts("VPSLLV" + _letter, f"v.shlv.i{_bits}")
    _counts("VPSRLV" + _letter, f"v.shrv.i{_bits}")
_counts("VPSRAVD", "v.sarv.i32")

# masks -------------------------------------------------------------------------------------------------


def _test(name: str, bits: int) -> None:
    """PTEST of the sign bits alone."""

    def signs(i: Ins) -> None:
        a, b = full(i, 0), full(i, 1)
        sign = i.block.emit(row(i, "v.splat.i64"), i.const(I64, 1 << 63 | (1 << 31 if bits == 32 else 0)))
        i.block.emit(row(i, "flags.test"), *(i.block.emit(row(i, "and"), value, sign) for value in (a, b)))

    register(name, signs)


_test("VTESTPS", 32)
_test("VTESTPD", 64)


def _masked(name: str, bits: int) -> None:
    """Lanes whose mask is not negative are neither read nor written, nor do they fault."""

    def move(i: Ins) -> None:
        kind = row(i, f"i{bits}")
        if i.is_memory(0):
            mask, value = full(i, 1), full(i, 2)
            i.block.emit(f"store.mask.{kind}", i.block.address(i.memory(0)), mask, value)
        else:
            mask = full(i, 1)
            write(i, 0, i.block.emit(f"load.mask.{kind}", i.block.address(i.memory(2)), mask))

    register(name, move)


for _name, _bits in (("VMASKMOVPS", 32), ("VMASKMOVPD", 64), ("VPMASKMOVD", 32), ("VPMASKMOVQ", 64)):
    _masked(_name, _bits)
