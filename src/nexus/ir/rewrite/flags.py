"""Flags inside a block: most are overwritten before anybody looks.

A row that sets flags is dropped if every flag it sets is set again before it is read and before anything
can fault (a fault shows the guest its flags). What is left moves up, before the op whose result belongs to
it, as far as its operands and the instruction allow: then the result can overwrite the register that the
flags needed. A condition of flags that a compare (`flags.sub`) or test (`flags.logic`) set becomes the
compare itself, if the guest's registers did not change in between; one of the result (is it zero, is it
negative) asks the result.
"""

from __future__ import annotations

from nexus.ir.ops.table import PURE, ROWS
from nexus.ir.state import FLAGS, SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.ops.table import Row
    from nexus.ir.values import Block, Value

_FLAG_SLOTS = frozenset(SLOTS[name] for name in FLAGS)
_GET, _PUT, _CONDITION, _OTHER = range(4)


def _kind(row: Row) -> int:
    head = row.name.partition(".")[0]
    return {"get": _GET, "put": _PUT, "cond": _CONDITION}.get(head, _OTHER)


# rows that only set flags: what they write and read
_SETTERS = {
    row: (frozenset(row.writes), frozenset(row.reads))
    for row in ROWS.values()
    if row.writes
    and row.result is None
    and not row.address
    and not row.indirect
    and set(row.writes) <= set(FLAGS)
}
# all other rows but pure ones
_KINDS = {row: _kind(row) for row in ROWS.values() if row.effect != PURE and row not in _SETTERS}
_VECTOR_SLOTS = frozenset(
    row for row in ROWS.values() if any(t.is_vector for t in (*row.operands, row.result) if t is not None)
)

# condition -> compare of the operands of flags.sub
_AFTER_SUB = {"cond.e": "eq", "cond.b": "ult", "cond.be": "ule", "cond.l": "slt", "cond.le": "sle"}
# condition -> test of the result
_OF_RESULT = {"cond.e": "zero", "cond.s": "negative"}
_RESULTS = {"flags.add": "add", "flags.sub": "sub", "flags.inc": "add", "flags.dec": "sub"}
# condition -> compare of the operand of flags.logic with 0
_AFTER_LOGIC = {"cond.e": "eq", "cond.be": "eq", "cond.s": "slt", "cond.l": "slt", "cond.le": "sle"}


def simplify_flags(block: Block) -> None:
    """From the last row that sets flags to the first: move it up, look at what follows, perhaps drop it."""
    ops = block.ops
    setters = [index for index, op in enumerate(ops) if op.type is None and op.row in _SETTERS]
    if not setters:
        return
    starts = {at for at, _ in block.marks}
    dropped: list[int] = []
    overwritten: frozenset[str] = frozenset()  # by the next setter
    needed: frozenset[str] = frozenset()  # of it
    end = len(ops)
    for at in reversed(setters):
        setter = ops[at]
        writes, reads = _SETTERS[setter.row]
        if not reads:
            at = _move_up(ops, at, starts)
        seen = _look_after(block, setter, at, end)
        if not seen and writes <= overwritten and not writes & needed:
            dropped.append(at)
        overwritten, needed, end = writes, reads, at
    if dropped:
        for at in dropped:
            del ops[at]
        dropped.reverse()
        block.marks[:] = [
            (start - sum(at < start for at in dropped), address) for start, address in block.marks
        ]


def _move_up(ops: list[Value], at: int, starts: set[int]) -> int:
    """Move the op before those of its instruction that it has nothing to do with; returns its new
    position."""
    setter, to = ops[at], at
    while to not in starts and to > 0:
        before = ops[to - 1]
        kind = _KINDS.get(before.row)
        if before in setter.args or before.row in _SETTERS or kind in (_CONDITION, _OTHER):
            break
        if kind is not None and before.imm in _FLAG_SLOTS and before.row not in _VECTOR_SLOTS:
            break
        to -= 1
    if to != at:
        ops.insert(to, ops.pop(at))
    return to


def _look_after(block: Block, setter: Value, at: int, end: int) -> bool:
    """May anybody see the flags before `end`? Conditions that are the same as a compare become that."""
    seen, same = False, True  # same: the guest's registers are as the setter found them
    ops = block.ops
    for index in range(at + 1, end):
        op = ops[index]
        kind = _KINDS.get(op.row)
        if kind is None:
            continue
        if kind == _PUT:
            same = False
        elif kind == _GET:
            seen = seen or (op.imm in _FLAG_SLOTS and op.row not in _VECTOR_SLOTS)
        elif kind == _OTHER:
            seen = True
            same = same and not op.row.writes
        elif not (same and _compare(ops, op, setter, index)) and not _test(ops, op, setter, at, index):
            seen = True
    return seen


def _compare(ops: list[Value], op: Value, setter: Value, index: int) -> bool:
    """Turn a condition into the compare it stands for, if there is one."""
    head, _, width = setter.row.name.rpartition(".")
    if head == "flags.sub" and op.row.name in _AFTER_SUB:
        op.row, op.args = ROWS[f"{_AFTER_SUB[op.row.name]}.{width}"], setter.args
        return True
    if head == "flags.logic" and op.row.name in _AFTER_LOGIC:
        zero = ROWS[f"const.{width}"]
        for other in ops[:index]:
            if other.row is zero and other.imm == 0:
                op.row, op.args = ROWS[f"{_AFTER_LOGIC[op.row.name]}.{width}"], (setter.args[0], other)
                return True
    return False


def _test(ops: list[Value], op: Value, setter: Value, at: int, index: int) -> bool:
    """Turn a condition into a test of the result that the flags belong to, if that is computed in between."""
    head, _, width = setter.row.name.rpartition(".")
    if op.row.name not in _OF_RESULT or head not in _RESULTS:
        return False
    row = ROWS[f"{_RESULTS[head]}.{width}"]
    for other in ops[at + 1 : index]:
        if other.row is row and other.args[: len(setter.args)] == setter.args:
            last = other.args[-1]
            if len(setter.args) == 2 or (last.row.name.startswith("const.") and last.imm == 1):
                op.row, op.args = ROWS[f"{_OF_RESULT[op.row.name]}.{width}"], (other,)
                return True
    return False
