"""AES-NI and PCLMULQDQ."""

from __future__ import annotations

from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_operands import control, full, write
from nexus.isa.x86.table import register, semantics


def _round(name: str) -> None:
    def one(i: Ins) -> None:
        write(i, 0, i.block.emit(f"v.{name.lower()}.v128", full(i, 0), full(i, 1)))

    register(name, one)


for _name in ("AESENC", "AESENCLAST", "AESDEC", "AESDECLAST"):
    _round(_name)


@semantics("AESIMC")
def aesimc(i: Ins) -> None:
    write(i, 0, i.block.emit("v.aesimc.v128", full(i, 1)))


@semantics("AESKEYGENASSIST")
def aeskeygenassist(i: Ins) -> None:
    write(i, 0, i.block.emit("v.aeskeygen.v128", full(i, 1), imm=control(i)))


@semantics("PCLMULQDQ")
def pclmulqdq(i: Ins) -> None:
    write(i, 0, i.block.emit("v.clmul.v128", full(i, 0), full(i, 1), imm=control(i)))
