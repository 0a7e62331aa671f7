"""Flags inside a block: most are overwritten before anybody looks.

A row that sets flags is dropped if every flag it sets is set again before it is read and before anything
can fault
(a fault shows the guest its flags). What is left moves up, before the op whose result belongs to it, as far
as its
operands and the instruction allow: then the result can overwrite the register that the flags needed. A
condition
of flags that a compare (`flags.sub`) or test (`flags.logic`) set becomes the compare itself, if the guest's
registers
did not change in between.
"""

from __future__ import annotations

from nexus.ir.ops.table import CONTROL, LOAD, PURE, ROWS, STORE, TRAP
from nexus.ir.state import FLAGS, SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.ops.table import Row
    from nexus.ir.values import Block, Value

_BIT = {name: 1 << index for index, name in enumerate(FLAGS)}
_BIT_OF_SLOT = {SLOTS[name]: bit for name, bit in _BIT.items()}

PASSED, SETTER, ACCESS, GET, PUT, BARRIER = range(6)


def _kind(row: Row) -> int:
    head = row.name.partition(".")[0]
    if head in ("get", "put"):
        return GET if head == "get" else PUT
    if row.effect in (LOAD, STORE, TRAP, CONTROL):
        return ACCESS
    if row.effect == PURE:
        return PASSED
    if row.writes and row.result is None and not row.indirect and set(row.writes) <= set(FLAGS):
        return SETTER
    return BARRIER


def _mask(names: tuple[str, ...]) -> int:
    return sum(_BIT.get(name, 0) for name in names)


_ROWS = {row: (_kind(row), _mask(row.writes), _mask(row.reads)) for row in ROWS.values()}

# condition -> compare of the operands of flags.sub, and whether they are swapped
_AFTER_SUB = {"cond.e": "eq", "cond.b": "ult", "cond.be": "ule", "cond.l": "slt", "cond.le": "sle"}
# condition -> compare of the operand of flags.logic with 0
_AFTER_LOGIC = {"cond.e": "eq", "cond.be": "eq", "cond.s": "slt", "cond.l": "slt", "cond.le": "sle"}


def simplify_flags(block: Block) -> None:
    _backwards(block)
    _conditions(block)  # after flags have moved up: a put behind them that changes an operand is seen


def _conditions(block: Block) -> None:
    """Conditions to compares: a condition is replaced where it stands."""
    setter: Value | None = None
    for index, op in enumerate(block.ops):
        kind, writes, reads = _ROWS[op.row]
        if kind == PASSED:
            continue
        if kind == SETTER:
            setter = op
        elif kind == PUT or writes:
            setter = None
        elif reads and setter is not None:
            _condition(block, op, setter, index)


def _condition(block: Block, op: Value, setter: Value, index: int) -> None:
    head, _, width = setter.row.name.rpartition(".")
    if head == "flags.sub" and op.row.name in _AFTER_SUB:
        op.row, op.args = ROWS[f"{_AFTER_SUB[op.row.name]}.{width}"], setter.args
    elif head == "flags.logic" and op.row.name in _AFTER_LOGIC:
        value = setter.args[0]
        assert value.type is not None
        zero = block.consts.get(value.type.bits)
        if zero is None or zero not in block.ops[:index]:
            return
        op.row, op.args = ROWS[f"{_AFTER_LOGIC[op.row.name]}.{width}"], (value, zero)


def _is_vector(op: Value) -> bool:
    type = op.row.operands[0] if op.row.operands else op.row.result
    return type is not None and type.is_vector


def _backwards(block: Block) -> None:
    """Drop and move what sets flags, in one pass from the end."""
    out: list[Value] = []  # in reverse
    marks: list[tuple[int, int]] = []  # counted from the end
    dead = 0  # flags that nobody sees from here on
    carried: Value | None = None  # moving up
    ops = block.ops
    mark = len(block.marks) - 1
    while mark >= 0 and block.marks[mark][0] >= len(ops):
        marks.append((0, block.marks[mark][1]))
        mark -= 1
    start = block.marks[mark][0] if mark >= 0 else -1
    for index in range(len(ops) - 1, -1, -1):
        op = ops[index]
        kind, writes, reads = _ROWS[op.row]
        if kind in (GET, PUT):
            slot_bit = 0 if _is_vector(op) else _BIT_OF_SLOT.get(op.imm, 0)
            reads, writes = (slot_bit, 0) if kind == GET else (0, slot_bit)
        dropped = kind == SETTER and not writes & ~dead
        if kind == ACCESS:
            dead = 0
        elif not dropped:
            dead = (dead | writes) & ~reads
        if not dropped:
            if carried is not None:
                passes = kind in (PASSED, GET, PUT) and not (reads | writes) and op not in carried.args
                if not passes:
                    out.append(carried)
                    carried = None
            if kind == SETTER and not reads:
                carried = op
            else:
                out.append(op)
        while start == index:
            if carried is not None:
                out.append(carried)
                carried = None
            marks.append((len(out), block.marks[mark][1]))
            mark -= 1
            start = block.marks[mark][0] if mark >= 0 else -1
    if carried is not None:
        out.append(carried)
    out.reverse()
    block.ops[:] = out
    block.marks[:] = [(len(out) - at, address) for at, address in reversed(marks)]
