"""The flags of a region: which of them anybody reads, and which need not be computed before.

A row that sets all flags leaves its operands; the flags are computed where they are read, or where the region
is left. They are still only that when the block has ended, if all ways to the next one come from the same
row.
"""

from __future__ import annotations

from nexus.ir.state import FLAGS, SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from nexus.ir.ops.table import Row
    from nexus.ir.values import Block, Value

ALL_FLAGS = frozenset(SLOTS[name] for name in FLAGS)
_NONE: frozenset[int] = frozenset()


def liveness(block: Block, live: frozenset[int]) -> list[frozenset[int]]:
    """For each op, and the end, the flags that are read from there on before they are set; `live` are those
    at the end."""
    out = [live]
    for op in reversed(block.ops):
        live = (live - flags_written(op)) | flags_read(op)
        out.append(live)
    out.reverse()
    return out


def flags_written(op: Value) -> frozenset[int]:
    if op.row.name.startswith("put."):
        return ALL_FLAGS & {op.imm} if not op.row.operands[0].is_vector else _NONE
    return frozenset(SLOTS[name] for name in op.row.writes) & ALL_FLAGS


def flags_read(op: Value) -> frozenset[int]:
    if op.row.name.startswith("get."):
        return ALL_FLAGS & {op.imm} if op.type is not None and not op.type.is_vector else _NONE
    if op.row.indirect or op.row.name == "exit":
        return ALL_FLAGS
    return frozenset(SLOTS[name] for name in op.row.reads) & ALL_FLAGS


def waits(row: Row) -> bool:
    """Whether the flags that a row sets can be computed later, from its operands alone."""
    return (
        row.writes == FLAGS
        and not (row.reads or row.has_imm or row.result or row.indirect)
        and len(row.operands) <= 2
        and not any(type.is_vector for type in row.operands)
    )


def pending(
    blocks: dict[int, Block], sources: dict[int, list[int]], entries: Collection[int]
) -> dict[int, Row | None]:
    """For each block, the row whose flags have still to be computed when it begins."""
    own: dict[int, tuple[bool, Row | None]] = {}
    for number, block in blocks.items():
        last = next((op for op in reversed(block.ops) if flags_written(op)), None)
        own[number] = last is not None, last.row if last is not None and waits(last.row) else None
    before: dict[int, Row | None] = {}
    unknown = set(blocks)
    changed = True
    while changed:
        changed = False
        for number in blocks:
            after = [
                own[source][1] if own[source][0] else before.get(source)
                for source in sources[number]
                if own[source][0] or source not in unknown
            ]
            if number in entries or not sources[number]:
                found = None
            elif not after:
                continue
            else:
                found = after[0] if all(row is after[0] for row in after) else None
            if number in unknown or before[number] is not found:
                unknown.discard(number)
                before[number], changed = found, True
    return {number: before.get(number) for number in blocks}
