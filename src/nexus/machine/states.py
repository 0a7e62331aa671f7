"""Two register states beside each other: whether they are the same, and as a table for people."""

from __future__ import annotations

from nexus.ir.state import SLOTS
from nexus.isa.x86.registers import GPR_NAMES, CpuState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = (*GPR_NAMES, "rip", "eflags")
_OTHERS = ("mxcsr", "fcw", "fsw", "fs_base", "gs_base")
_VECTORS = 32


def registers(state: CpuState) -> Iterator[tuple[str, bytes]]:
    """Name and contents of every architectural register, highest byte first."""
    for name in (*WORDS, *_OTHERS):
        yield name, getattr(state, name).to_bytes(8, "big")
    for number in range(_VECTORS):
        yield f"v{number}", state.vector(number)[::-1]
    for number in range(8):
        yield f"st{number}", state.st(number)[::-1]
        yield f"k{number}", state.slots[SLOTS[f"k{number}"]].to_bytes(8, "big")


def same(one: CpuState, other: CpuState) -> bool:
    """Whether all architectural registers are equal."""
    return all(mine == theirs for mine, theirs in zip(registers(one), registers(other), strict=True))


def side_by_side(before: CpuState, one: CpuState, other: CpuState, heads: tuple[str, str]) -> list[str]:
    """General registers, rip and flags before and in both states, and of the others those that differ, marked
    with a star. Vectors are shown without the zeros at their top, and without what was before."""
    lines = [f"  {'':8}{'before':18}{heads[0]:18}{heads[1]}"]
    for (name, old), (_, mine), (_, theirs) in zip(*map(registers, (before, one, other)), strict=True):
        mark = " " if mine == theirs else "*"
        if name in WORDS:
            lines.append(f"{mark} {name:8}{old.hex():18}{mine.hex():18}{theirs.hex()}")
        elif mine != theirs:
            width = len(mine)
            while width > 16 and not any(mine[: -width // 2] + theirs[: -width // 2]):
                width //= 2
            lines.append(f"{mark} {name:8}{mine[-width:].hex()}  {theirs[-width:].hex()}")
    return lines
