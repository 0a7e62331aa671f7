"""The SHA extensions. Memory operands need no alignment, as on AMD's processors."""

from __future__ import annotations

from nexus.isa.x86.ins import V128, Ins
from nexus.isa.x86.semantics.sse_operands import control, full, write
from nexus.isa.x86.table import register, semantics

_ROWS = {
    "SHA1NEXTE": "sha1_next",
    "SHA1MSG1": "sha1_message_1",
    "SHA1MSG2": "sha1_message_2",
    "SHA256MSG1": "sha256_message_1",
    "SHA256MSG2": "sha256_message_2",
}


def _step(name: str, row: str) -> None:
    def step(i: Ins) -> None:
        write(i, 0, i.block.emit(f"v.{row}.v128", full(i, 0), full(i, 1, aligned=False)))

    register(name, step)


for _name, _row in _ROWS.items():
    _step(_name, _row)


@semantics("SHA1RNDS4")
def sha1rnds4(i: Ins) -> None:
    write(i, 0, i.block.emit("v.sha1_rounds.v128", full(i, 0), full(i, 1, aligned=False), imm=control(i)))


@semantics("SHA256RNDS2")
def sha256rnds2(i: Ins) -> None:
    """The words and keys are in XMM0."""
    keyed = i.block.get(V128, 0)
    write(i, 0, i.block.emit("v.sha256_rounds.v128", full(i, 0), full(i, 1, aligned=False), keyed))
