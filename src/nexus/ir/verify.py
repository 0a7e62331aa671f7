"""The rules every block keeps, checked. Engines and rewrites rely on them.

definitions   an operand is an op of the same block further up, of the type the row wants
slots         a get or put names a slot that exists
end           goto, jump and exit end the block, a branch stands right before a final goto; nothing follows
precise state within one guest instruction, no put and no write of a field comes before an op that can
              fault, and no load or trap after a store: a fault finds the instruction not yet begun
"""

from __future__ import annotations

from nexus.base.errors import NexusError
from nexus.ir.ops.table import CONTROL, LOAD, STORE, TRAP
from nexus.ir.state import FIRST_TEMP, SCALAR_SLOTS, VECTOR_SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.values import Block, Value

_ENDS = ("goto", "jump", "exit")


class Malformed(NexusError):
    """A block breaks a rule: a bug in the code that made it."""


def verify(block: Block) -> None:
    """Raise Malformed with the first rule that the block breaks."""
    try:
        _definitions(block)
        _slots(block)
        _end(block)
        _precise(block)
    except Malformed as problem:
        from nexus.ir.text import show

        raise Malformed(f"{problem}\n{show(block)}") from None


def _definitions(block: Block) -> None:
    defined: set[Value] = set()
    for index, op in enumerate(block.ops):
        if op in defined:
            raise Malformed(f"op {index} ({op.row}) is in the block twice")
        if len(op.args) != len(op.row.operands):
            raise Malformed(f"op {index} ({op.row}) has {len(op.args)} operands, not {len(op.row.operands)}")
        for arg, type in zip(op.args, op.row.operands, strict=True):
            if arg not in defined:
                raise Malformed(f"op {index} ({op.row}) uses a value that is not defined before it")
            if arg.type is not type:
                raise Malformed(
                    f"op {index} ({op.row}) is given a {arg.type} ({arg.row}) where it wants a {type}"
                )
        defined.add(op)


def _slots(block: Block) -> None:
    for index, op in enumerate(block.ops):
        if op.row.name.startswith(("get.", "put.")):
            type = op.row.operands[0] if op.row.operands else op.row.result
            assert type is not None
            if not 0 <= op.imm < (VECTOR_SLOTS if type.is_vector else SCALAR_SLOTS):
                raise Malformed(f"op {index} ({op.row}) names slot {op.imm}, which does not exist")
        elif op.row.name.startswith("clear."):
            if not 0 <= op.imm < VECTOR_SLOTS:
                raise Malformed(f"op {index} ({op.row}) names slot {op.imm}, which does not exist")
        elif op.row.name.startswith("const."):
            assert op.row.result is not None
            if op.imm == op.imm & op.row.result.mask:
                continue
            raise Malformed(f"op {index} ({op.row}) holds {op.imm:#x}, more than its type does")


def _end(block: Block) -> None:
    last = len(block.ops) - 1
    if last < 0 or block.ops[last].row.name not in _ENDS:
        raise Malformed(f"the block does not end in one of {', '.join(_ENDS)}")
    for index, op in enumerate(block.ops[:last]):
        if op.row.effect == CONTROL and (
            op.row.name != "branch" or index != last - 1 or block.ops[last].row.name != "goto"
        ):
            raise Malformed(f"op {index} ({op.row}) ends the block, but ops follow")


def _precise(block: Block) -> None:
    ends = [at for at, _ in block.marks[1:]] + [len(block.ops)]
    for (start, address), end in zip(block.marks, ends, strict=True):
        written = stored = ""
        for index in range(start, end):
            op = block.ops[index]
            row = op.row
            name = f"op {index} ({row})"
            if row.effect in (LOAD, STORE, TRAP):
                before = written or (stored if row.effect != STORE else "")
                if before:
                    raise Malformed(
                        f"in the instruction at {address:#x}, {name} can fault after {before} took effect"
                    )
                if row.effect == STORE:
                    stored = name
            architectural = row.name.startswith("put.") and (op.imm < FIRST_TEMP or row.operands[0].is_vector)
            if row.name.startswith("clear."):
                architectural = True
            if architectural or (row.writes and row.effect not in (LOAD, STORE)):
                written = name


__all__ = ["Malformed", "verify"]
