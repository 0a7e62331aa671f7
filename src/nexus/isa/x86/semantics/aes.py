"""AES-NI and PCLMULQDQ, with their AVX forms up to 256 bits."""

from __future__ import annotations

from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_operands import control, full, row, two, write
from nexus.isa.x86.table import register_vectors, vector_semantics


def _round(name: str) -> None:
    def one(i: Ins) -> None:
        write(i, 0, i.block.emit(row(i, f"v.{name.lower()}"), *two(i)))

    register_vectors(name, one)


for _name in ("AESENC", "AESENCLAST", "AESDEC", "AESDECLAST"):
    _round(_name)


@vector_semantics("AESIMC")
def aesimc(i: Ins) -> None:
    write(i, 0, i.block.emit("v.aesimc.v128", full(i, 1)))


@vector_semantics("AESKEYGENASSIST")
def aeskeygenassist(i: Ins) -> None:
    write(i, 0, i.block.emit("v.aeskeygen.v128", full(i, 1), imm=control(i)))


@vector_semantics("PCLMULQDQ")
def pclmulqdq(i: Ins) -> None:
    write(i, 0, i.block.emit(row(i, "v.clmul"), *two(i), imm=control(i)))
