"""Two ops that come together so often that one record does both.

    flags.sub a, b      sub a, b            what an arithmetic instruction is, flags first
                        (`ir/rewrite/flags.py`)
    and a, b            flags.logic of it   and its logical cousins
    flags.sub a, b      branch on a < b     compare and jump; also the other setters and conditions

The second op's operands are those of the first, its result, or the flags that it sets.
"""

from __future__ import annotations

from nexus.ir.ops.table import ROWS, Row

_ORDER = tuple((f"cond.{name}", True) for name in ("e", "b", "be", "p"))
# by the name without width: what may follow, and whether a branch absorbs that
_AFTER: dict[str, tuple[tuple[str, bool], ...]] = {
    "flags.add": (("add", False), ("cond.e", True), ("cond.b", True)),
    "flags.sub": (("sub", False), *((name, True) for name in ("eq", "ult", "ule", "slt", "sle", "cond.s"))),
    "flags.inc": (("add", False), ("cond.e", True), ("cond.s", True)),
    "flags.dec": (("sub", False), ("cond.e", True), ("cond.s", True)),
    "flags.logic": (("cond.e", True), ("cond.s", True), ("cond.le", True)),
    "flags.comi": _ORDER,
    "flags.ucomi": _ORDER,
    "and": (("flags.logic", False),),
    "or": (("flags.logic", False),),
    "xor": (("flags.logic", False),),
}


def partners(row: Row) -> list[tuple[Row, bool]]:
    """The rows that a record of `row` can do as well, and whether a branch absorbs them."""
    name, _, width = row.name.rpartition(".")
    if not row.operands or row.operands[0].bits == 1:
        return []
    if row.operands[0].is_vector and not name.startswith("flags."):
        return []
    return [
        (ROWS[other if other.startswith("cond.") else f"{other}.{width}"], branches)
        for other, branches in _AFTER.get(name, ())
    ]


def operands_of(first: Row, second: Row) -> Row:
    """The one of the two whose operands are in the record."""
    return second if len(second.operands) > len(first.operands) else first
