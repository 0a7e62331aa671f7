"""Computes while translating what is known by then, through the oracle; and removes conversions that cancel
out."""

from __future__ import annotations

from nexus.ir.ops.table import PURE, ROWS
from nexus.ir.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.ops.table import Row
    from nexus.ir.values import Block

_CONSTANTS = frozenset(row for name, row in ROWS.items() if name.startswith("const."))
_NO_CHANGE_BY_ZERO = ("add", "sub", "or", "xor", "shl", "shr", "sar", "rotl", "rotr")
# rows for which `op(x, 0)` is x
_IDENTITIES = frozenset(row for name, row in ROWS.items() if name.partition(".")[0] in _NO_CHANGE_BY_ZERO)
_TRUNCATIONS = frozenset(row for name, row in ROWS.items() if name.startswith("trunc."))
_EXTENSIONS = frozenset(row for name, row in ROWS.items() if name.startswith("zext."))
_SWAPPABLE = frozenset(
    row
    for name, row in ROWS.items()
    if name.partition(".")[0] in ("add", "mul", "and", "or", "xor", "eq", "ne")
    and len(row.operands) == 2
    and not row.operands[0].is_vector
)
_FOLDABLE = frozenset(
    row
    for row in ROWS.values()
    if row.effect == PURE
    and row.result is not None
    and not row.result.is_vector
    and row.operands
    and not any(t.is_vector for t in row.operands)
    and (row.oracle is not None or row.name == "lea.i64")
)
_IDEMPOTENT = frozenset(row for name, row in ROWS.items() if name.partition(".")[0] in ("and", "or"))
_NOT: Row = ROWS["xor.i1"]


def fold(block: Block) -> None:
    """One pass forwards; what became unused stays for `remove_dead` or the engine."""
    replaced: dict[Value, Value] = {}
    known: dict[int, Value] = {}  # constants so far, by Block.const's key
    late: list[tuple[int, Value]] = []  # those that folding adds, and where
    for index, op in enumerate(block.ops):
        args = op.args
        if not args:
            if op.row in _CONSTANTS:
                known[op.imm << 7 | op.row.bits] = op
            continue
        if replaced:
            for arg in args:
                if arg in replaced:
                    args = op.args = tuple(replaced.get(a, a) for a in args)
                    break
        if op.row not in _FOLDABLE:
            continue
        if op.row in _IDEMPOTENT and _same_slot(block.ops, index):
            replaced[op] = args[0]
            continue
        result = _simpler(op, args)
        if isinstance(result, int):
            assert op.type is not None
            number = result & op.type.mask
            key = number << 7 | op.type.bits
            if key not in known:
                known[key] = Value(block, ROWS[f"const.{op.type}"], (), number)
                late.append((index, known[key]))
            replaced[op] = known[key]
        elif result is not None:
            replaced[op] = result
    if late:
        _insert(block, late)


def _simpler(op: Value, args: tuple[Value, ...]) -> Value | int | None:
    """What an op is equal to: another value or, if it is known, a number."""
    row = op.row
    if row in _SWAPPABLE and args[0].row in _CONSTANTS and args[1].row not in _CONSTANTS:
        args = op.args = (args[1], args[0])
    last = args[-1]
    if last.row in _CONSTANTS:
        if last.imm == 0 and row in _IDENTITIES and not row.address:
            return args[0]
        if row is _NOT and last.imm == 1 and args[0].row is _NOT and args[0].args[1].row in _CONSTANTS:
            inner = args[0]
            return inner.args[0] if inner.args[1].imm == 1 else None
        for arg in args:
            if arg.row not in _CONSTANTS:
                return None
        return _compute(op, args)
    if row in _TRUNCATIONS:
        inner = last
        while inner.row in _TRUNCATIONS or inner.row in _EXTENSIONS:
            inner = inner.args[0]
            if inner.type is op.type:
                return inner
    return None


def _same_slot(ops: list[Value], index: int) -> bool:
    """Are the two ops before `index` the operands, and reads of one slot (`test rax, rax`)?"""
    first, second = ops[index].args
    if index < 2 or ops[index - 2] is not first or ops[index - 1] is not second:
        return first is second
    return first.row is second.row and first.imm == second.imm and first.row.name.startswith("get.")


def _compute(op: Value, args: tuple[Value, ...]) -> int:
    """The result of an op on constants, not yet masked."""
    if op.row.address:
        return args[0].imm + (op.imm >> 2)
    assert op.row.oracle is not None
    immediate = (op.imm & (1 << 64) - 1,) if op.row.has_imm else ()
    return int(op.row.oracle(op.row.bits, *(arg.imm for arg in args), *immediate))


def _insert(block: Block, late: list[tuple[int, Value]]) -> None:
    """Put new constants before the ops they replace; marks move along."""
    ops: list[Value] = []
    marks: list[tuple[int, int]] = []
    starts = iter([*block.marks, (len(block.ops) + 1, 0)])
    start, address = next(starts)
    position = 0
    for index, op in enumerate(block.ops):
        while start == index:
            marks.append((len(ops), address))
            start, address = next(starts)
        while position < len(late) and late[position][0] == index:
            ops.append(late[position][1])
            position += 1
        ops.append(op)
    while start <= len(block.ops):
        marks.append((len(ops), address))
        start, address = next(starts)
    block.ops[:] = ops
    block.marks[:] = marks


__all__ = ["fold"]
