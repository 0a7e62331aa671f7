"""Mnemonics that x86 gives to two instructions: a string instruction and a scalar one on XMM registers."""

from __future__ import annotations

from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import float_compare, sse_moves, strings
from nexus.isa.x86.table import semantics


def _on_vectors(i: Ins) -> bool:
    return i.is_vector(0) or i.is_vector(1)


@semantics("MOVSD")
def movsd(i: Ins) -> None:
    """Move a double, or a string of doublewords."""
    (sse_moves.movsd if _on_vectors(i) else strings.movs)(i)


@semantics("CMPSD")
def cmpsd(i: Ins) -> None:
    """Compare doubles, or strings of doublewords."""
    (float_compare.cmpsd if _on_vectors(i) else strings.cmps)(i)
