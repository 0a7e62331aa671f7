"""Drops ops that only compute a value nobody uses. Loads stay: a load that faults is an effect."""

from __future__ import annotations

from nexus.ir.ops.table import PURE, STATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.values import Block, Value


def remove_dead(block: Block) -> None:
    used: set[Value] = set()
    for op in reversed(block.ops):
        if op in used or not _droppable(op):
            used.update(op.args)
            used.add(op)
    keep(block, used)


def _droppable(op: Value) -> bool:
    row = op.row
    if row.result is None:
        return False
    return row.effect == PURE or (row.effect == STATE and not row.writes and not row.indirect)


def keep(block: Block, used: set[Value]) -> None:
    """Drop all other ops; marks move along."""
    ops: list[Value] = []
    marks: list[tuple[int, int]] = []
    at = 0
    for start, address in block.marks:
        ops += [op for op in block.ops[at:start] if op in used]
        marks.append((len(ops), address))
        at = start
    ops += [op for op in block.ops[at:] if op in used]
    block.ops[:] = ops
    block.marks[:] = marks
    block.consts = {key: value for key, value in block.consts.items() if value in used}
