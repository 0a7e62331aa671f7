"""What each instruction means: functions that build IR, registered by iced mnemonic in `isa/x86/table.py`.

The modules below are imported for their registrations; a new one is added to the list.
"""

from __future__ import annotations

from iced_x86 import Instruction

from nexus.ir.state import Exit
from nexus.ir.values import Block
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import arithmetic, flow, moves
from nexus.isa.x86.table import SEMANTICS

MODULES = (arithmetic, flow, moves)


def lower(instruction: Instruction, block: Block) -> bool:
    """Append the IR of one instruction to `block` and mark where it begins; True when it ended the block.

    An undecodable instruction exits ILLEGAL, one without semantics exits UNIMPLEMENTED, both with pc at it.
    """
    i = Ins(instruction, block)
    block.mark(i.address)
    block.end = i.next
    if instruction.is_invalid:
        i.trap(Exit.ILLEGAL)
        return True
    function = SEMANTICS.get(instruction.mnemonic)
    if function is None:
        i.trap(Exit.UNIMPLEMENTED)
        return True
    function(i)
    return i.ended


__all__ = ["lower"]
