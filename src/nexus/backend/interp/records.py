"""The layout of a record, and the variants of a row that have a handler.

A record is 16 bytes, little-endian:
    0   u64  address of the handler
    8   u8   d: slot of the result            9, 10, 11  u8  a, b, c: slots of the operands
    12  i32  immediate
Some are followed by a literal of 16 bytes:
    16  u64  an immediate of 64 bits, a guest address or a record
    24  u64  a second one; of a row with more than three operands, the slots of the fourth and on, a byte each

A scalar slot is a u64 of the state, a vector slot 64 bytes (`ir/state.py`). Handlers read an operand at its
own width and write integers zero-extended to 64 bits.

Variants of a row are named `row` + suffixes:
    @s      an index register scaled by 1 << s (rows with base and index)
    /i      the last operand is the immediate, sign-extended; rows with an address, whose immediate is the
            displacement, have it in the literal
    /q      the row's own immediate is in the literal, for those that do not fit in 32 bits
    &row2   the record does that row as well (`pairs.py`)
    /b      a compare or condition that is tested at once: literal = record if 1, record if 0

Control records:
    enter   imm = guest instructions, literal = guest address, how often the block may still run: counts that
            down, or leaves with HOT; counts the budget down, or leaves with BUDGET
    goto    literal = record to go on at
    branch  a = i1, literal = record if 1, record if 0
    link    literal = guest address, address of the pointer that leads here: leaves with LINK
    jump    a = guest address: on with the record that the lookup table has for it, or leaves with LOOKUP
    trap_if a = i1, imm = exit kind and argument, literal = guest address: leaves if 1
    exit    imm = exit kind and argument
"""

from __future__ import annotations

from nexus.backend.interp.layout import CONTROLS, LITERAL, LOOKUP_BYTES, RECORD
from nexus.backend.interp.pairs import operands_of, partners
from nexus.ir.ops.table import PURE, STATE, Row
from nexus.ir.types import I1

COMPARES = ("eq", "ne", "ult", "ule", "slt", "sle")
BITWISE = ("put", "and", "or", "xor", "andn", "load", "store")
UNHANDLED = (
    "get",
    "trunc",
    "goto",
    "branch",
    "jump",
    "exit",
    "trap_if",
)  # rows without a handler of their own


class Variant:
    """One handler: `row`, what its record holds in which place, and whether a literal follows."""

    __slots__ = ("branches", "imm_last", "imm_wide", "long", "name", "row", "scale", "second", "size")

    def __init__(
        self,
        row: Row,
        scale: int = 0,
        imm_last: bool = False,
        imm_wide: bool = False,
        branches: bool = False,
        second: Row | None = None,
    ) -> None:
        self.row = row
        self.second = second
        self.scale = scale
        self.imm_last = imm_last
        self.imm_wide = imm_wide
        self.branches = branches
        self.long = imm_wide or branches or len(row.operands) > 3 or (imm_last and row.address > 0)
        self.size = RECORD + LITERAL if self.long else RECORD
        detail = f"@{scale}" if row.address == 2 else f"&{second}" if second is not None else ""
        self.name = row.name + detail + "/i" * imm_last + "/q" * imm_wide + "/b" * branches


def head(row: Row) -> str:
    return row.name.partition(".")[0]


def testable(row: Row) -> bool:
    """Can a branch absorb it?"""
    return row.result is I1 and (
        head(row) in ("cond", "zero", "negative") or (head(row) in COMPARES and len(row.operands) == 2)
    )


def takes_immediate(row: Row) -> bool:
    """Is there a variant with the last operand as immediate?"""
    if not row.operands or row.operands[-1].is_vector or len(row.operands) > 3:
        return False
    if row.address:
        return len(row.operands) > row.address
    return not row.has_imm and row.effect in (PURE, STATE) and len(row.operands) >= 2


def variants(row: Row) -> list[Variant]:
    """The handlers a row gets."""
    if head(row) in UNHANDLED:
        return []
    last = (False, True) if takes_immediate(row) else (False,)
    if row.address:
        return [Variant(row, scale, imm) for scale in range(4 if row.address == 2 else 1) for imm in last]
    out = [Variant(row, imm_last=imm) for imm in last]
    if row.has_imm and head(row) not in ("put", "clear"):
        out.append(Variant(row, imm_wide=True))
    if testable(row):
        out += [Variant(row, imm_last=imm, branches=True) for imm in last]
    for second, branches in partners(row):
        both = (False, True) if takes_immediate(operands_of(row, second)) else (False,)
        if len(second.operands) > len(row.operands):  # inc and dec: the other operand is 1
            both = (True,)
        out += [Variant(row, imm_last=imm, branches=branches, second=second) for imm in both]
    return out


__all__ = ["CONTROLS", "LOOKUP_BYTES", "Variant", "head", "testable", "variants"]
