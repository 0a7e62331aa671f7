"""The text form of a block, for people and for tests/ir: `show(block)` prints, `parse(text)` reads it back.

    block 0x1000
    @0x1000                                 the ops that follow belong to this guest instruction
      %0 = get.i64 r0                       an immediate that is a state slot has its name, or v3 for a vector
      %1 = load.i32x %0, %0 [8 + 2]         displacement + scale of an addressed op
      %2 = const.i32 5
      %3 = add.i32 %1, %2
      put.i32 %3, r0
      goto 0x1004
    end 0x1004

Slots have the names of `ir/state.py` (r0, cf, pc); comments start with `;`.
"""

from __future__ import annotations

from nexus.base.errors import NexusError
from nexus.ir.ops import ROWS
from nexus.ir.state import SLOT_NAMES, SLOTS
from nexus.ir.values import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.ops import Row
    from nexus.ir.values import Value


class SyntaxProblem(NexusError):
    """The text is not a block; the message has the line."""


def show(block: Block) -> str:
    """The text of a block; values are numbered in order."""
    lines = [f"block {block.start:#x}"]
    numbers: dict[Value, int] = {}
    marks = block.marks
    next_mark = 0
    for index, op in enumerate(block.ops):
        while next_mark < len(marks) and marks[next_mark][0] <= index:
            lines.append(f"@{marks[next_mark][1]:#x}")
            next_mark += 1
        text = op.row.name
        if op.args:
            text += " " + ", ".join(f"%{numbers[arg]}" if arg in numbers else "%undefined" for arg in op.args)
        if op.row.address:
            text += f" [{op.imm >> 2} + {op.imm & 3}]"
        elif op.row.has_imm:
            text += ("," if op.args else "") + " " + _immediate(op)
        if op.type is not None:
            numbers[op] = len(numbers)
            text = f"%{numbers[op]} = {text}"
        lines.append("  " + text)
    lines += [f"@{address:#x}" for _, address in marks[next_mark:]]
    lines.append(f"end {block.end:#x}")
    return "\n".join(lines) + "\n"


def _slot_type(row: Row) -> bool | None:
    """None: the immediate is a number; else it is a slot, and whether of a vector."""
    if row.name.startswith("get."):
        return row.result is not None and row.result.is_vector
    if row.name.startswith("put."):
        return row.operands[0].is_vector
    if row.name.startswith("clear."):
        return True
    return None


def _immediate(op: Value) -> str:
    vector = _slot_type(op.row)
    if vector is None:
        return hex(op.imm) if op.imm > 9 else str(op.imm)
    return f"v{op.imm}" if vector else SLOT_NAMES.get(op.imm, f"s{op.imm}")


def parse(text: str) -> Block:
    """The block that `text` describes; raises SyntaxProblem."""
    block = Block()
    values: dict[str, Value] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition(";")[0].strip()
        if not line:
            continue
        try:
            if line.startswith("block "):
                block.start = int(line[6:], 0)
            elif line.startswith("end "):
                block.end = int(line[4:], 0)
            elif line.startswith("@"):
                block.mark(int(line[1:], 0))
            else:
                _parse_op(block, values, line)
        except (ValueError, KeyError, IndexError) as problem:
            raise SyntaxProblem(f"line {number}, `{line}`: {problem}") from problem
    return block


def _parse_op(block: Block, values: dict[str, Value], line: str) -> None:
    result, equals, rest = line.rpartition("=")
    result, rest = result.strip(), rest.strip()
    name, _, operands = rest.partition(" ")
    row = ROWS[name]
    if bool(equals) != (row.result is not None):
        raise ValueError(f"{name} has {'a' if row.result else 'no'} result")
    if result in values:
        raise ValueError(f"{result} is defined twice")
    imm = 0
    if row.address:
        operands, _, place = operands.partition("[")
        displacement, _, scale = place.rstrip("] ").rpartition("+")
        imm = int(displacement, 0) << 2 | int(scale, 0)
    parts = [part.strip() for part in operands.split(",") if part.strip()]
    if row.has_imm and not row.address:
        imm = _parse_immediate(row, parts.pop())
    if len(parts) != len(row.operands):
        raise ValueError(f"{name} takes {len(row.operands)} operands")
    value = block.emit(name, *(values[part] for part in parts), imm=imm)
    if equals:
        values[result] = value
    if name.startswith("const.") and row.result is not None:
        block.consts.setdefault(imm << 7 | row.result.bits, value)


def _parse_immediate(row: Row, text: str) -> int:
    vector = _slot_type(row)
    if vector is None:
        return int(text, 0)
    if text[0] in "vs" and text[1:].isdigit():
        return int(text[1:])
    return SLOTS[text]
