"""The assembler's backward pass over a block: lifetimes, dead ops, folded puts, absorbed conditions."""

from __future__ import annotations

from nexus.backend.interp import records
from nexus.backend.interp.pairs import partners
from nexus.ir.ops.table import LOAD, PURE, ROWS, STATE, STORE, TRAP
from nexus.ir.state import FIRST_X87, SLOTS
from nexus.ir.types import I64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.ops.table import Row
    from nexus.ir.values import Block, Value

OP, CONST, GET, PUT, TRUNC, ZEXT, BRANCH, GOTO, JUMP, EXIT, TRAP_IF, CLEAR = range(12)
_KINDS = {
    "const": CONST,
    "get": GET,
    "put": PUT,
    "clear": CLEAR,
    "trunc": TRUNC,
    "zext": ZEXT,
    "branch": BRANCH,
    "goto": GOTO,
    "jump": JUMP,
    "exit": EXIT,
    "trap_if": TRAP_IF,
}
NEVER = 1 << 60
VECTOR = 256  # added to the index of a vector slot
CONSTANTS = frozenset(row for row in ROWS.values() if records.head(row) == "const")
_NOT = ROWS["xor.i1"]
_X87 = (  # what a row that uses `$state` may touch
    *(SLOTS[name] for name in ("ftop", "ftag", "fsw", "fcw")),
    *range(VECTOR + FIRST_X87, VECTOR + FIRST_X87 + 8),
)

_IMAGE = (*_X87, SLOTS["mxcsr"], *range(VECTOR, VECTOR + 16))  # what an FXSAVE image holds


class Plan:
    """What the assembler needs to know of a row: its kind, its handlers' addresses by variant, its
    effects."""

    __slots__ = (
        "branch",
        "branch_imm",
        "extra",
        "fault",
        "immediate",
        "kind",
        "pairs",
        "plain",
        "reads",
        "removable",
        "scaled",
        "scaled_imm",
        "simple",
        "takes_immediate",
        "vector",
        "wide",
        "writes",
    )

    def __init__(self, row: Row, symbols: dict[str, int]) -> None:
        name = row.name
        self.kind = _KINDS.get(records.head(row), OP)
        self.plain = symbols.get(name, 0)
        self.immediate = symbols.get(name + "/i", 0)
        self.wide = symbols.get(name + "/q", 0)
        self.branch = symbols.get(name + "/b", 0)
        self.branch_imm = symbols.get(name + "/i/b", 0)
        self.scaled: list[int] = []
        self.scaled_imm: list[int] = []
        if row.address == 1:
            self.scaled, self.scaled_imm = [self.plain] * 4, [self.immediate] * 4
        elif row.address == 2:
            self.scaled = [symbols[f"{name}@{s}"] for s in range(4)]
            self.scaled_imm = [symbols.get(f"{name}@{s}/i", 0) for s in range(4)]
        # second row -> handlers of the record that does both, plain and with an immediate, and whether it
        # branches
        self.pairs: dict[Row, tuple[int, int, bool]] = {}
        for second, branches in partners(row):
            pair, tail = f"{name}&{second}", "/b" * branches
            self.pairs[second] = symbols.get(pair + tail, 0), symbols.get(f"{pair}/i{tail}", 0), branches
        self.extra = len(row.operands) > 3
        self.takes_immediate = bool(self.immediate or (self.scaled and self.scaled_imm[0]))
        self.simple = not (self.scaled or self.extra or row.has_imm)
        self.fault = row.effect in (LOAD, STORE, TRAP)
        reader = row.effect == STATE and row.result is not None and not row.writes and not row.indirect
        self.removable = row.effect == PURE or reader
        subject = row.operands[0] if self.kind == PUT else row.result
        self.vector = VECTOR if subject is not None and subject.is_vector else 0
        hidden = () if not row.indirect else _IMAGE if row.address else _X87
        self.reads = (*(SLOTS[field] for field in row.reads), *hidden)
        self.writes = (*(SLOTS[field] for field in row.writes), *hidden)


class Plans(dict["Row", Plan]):
    """The plan of each row, made when first asked for."""

    __slots__ = ("symbols",)

    def __init__(self, symbols: dict[str, int]) -> None:
        self.symbols = symbols

    def __missing__(self, row: Row) -> Plan:
        plan = self[row] = Plan(row, self.symbols)
        return plan


class Survey:
    """What the backward pass found out.

    `into`: value -> (slot, position of the put) when it may be computed straight into the slot;
    `absorbed`: position of a branch -> (its condition, whether it is negated)."""

    __slots__ = ("absorbed", "into")

    def __init__(self) -> None:
        self.into: dict[Value, tuple[int, int]] = {}
        self.absorbed: dict[int, tuple[Value, bool]] = {}


def is_immediate(value: Value) -> bool:
    """Is it a constant that fits in a record's immediate?"""
    return value.row in CONSTANTS and (
        value.type is not I64 or (value.imm + 0x80000000) & 0xFFFFFFFFFFFFFFFF < 1 << 32
    )


def survey(block: Block, plans: Plans) -> Survey:
    """Sets `last` of every value to the position of its last use (-1: dead), and `note` of a get to the
    position of the next write of its slot."""
    out = Survey()
    into, absorbed, ops = out.into, out.absorbed, block.ops
    next_write: dict[int, int] = {}
    next_read: dict[int, int] = {}
    next_fault = NEVER
    puts: dict[Value, tuple[int, int, int]] = {}  # value -> its first put: at, slot, next write of that
    for op in ops:
        op.last = -1
    for i in range(len(ops) - 1, -1, -1):
        op = ops[i]
        plan = plans[op.row]
        kind = plan.kind
        args = op.args
        if kind in (OP, ZEXT) and op in puts:
            at, slot, limit = puts[op]
            untouched = next_write[slot] == at and next_read.get(slot, NEVER) > at
            if untouched and at < next_fault and op.last <= limit:
                into[op] = slot, at
        if kind == OP:
            if op.last < 0 and plan.removable:
                continue
            if plan.fault:
                next_fault = i
            for slot in plan.reads:
                next_read[slot] = i
            for slot in plan.writes:
                next_write[slot] = i
            if plan.takes_immediate:
                last = args[-1]
                if last.row in CONSTANTS and (plan.scaled or is_immediate(last)):
                    args = args[:-1]
            op.note = args
        elif kind == GET:
            if op.last >= 0:
                slot = op.imm + plan.vector
                op.note = next_write.get(slot, NEVER)
                next_read[slot] = i
        elif kind == PUT:
            slot = op.imm + plan.vector
            if args[0].row in CONSTANTS:
                args = ()
            else:
                puts[args[0]] = i, slot, next_write.get(slot, NEVER)
            next_write[slot] = i
        elif kind == CLEAR:
            next_write[op.imm + VECTOR] = i
        elif kind in (TRUNC, ZEXT):
            if op.last < 0:
                continue
            value = args[0]
            if kind == TRUNC or not is_low_part(value, plans):
                if kind == ZEXT and op in puts and (value not in puts or puts[value][0] > puts[op][0]):
                    puts[value] = puts[op]
                if value.last < op.last:
                    value.last = op.last
                continue
        elif kind == BRANCH:
            condition, negated = _condition(args[0])
            if _absorbs(ops, i, condition, plans):
                absorbed[i] = condition, negated
                for slot in plans[condition.row].reads:
                    next_read[slot] = i
                args = condition.args
                if args and plans[condition.row].branch_imm and is_immediate(args[-1]):
                    args = args[:-1]
        elif kind == TRAP_IF:
            next_fault = i
        for arg in args:
            if arg.last < i:
                arg.last = i
    return out


def is_low_part(value: Value, plans: Plans) -> bool:
    """Is it a name for the low bits of a slot that may hold more? Extending it is an op then, not another
    name."""
    return plans[value.row].kind in (GET, TRUNC)


def _condition(value: Value) -> tuple[Value, bool]:
    """The condition under any number of `xor 1`, and whether they negate it."""
    negated = False
    while value.row is _NOT and value.args[1].row in CONSTANTS:
        negated ^= value.args[1].imm == 1
        value = value.args[0]
    return value, negated


def _absorbs(ops: list[Value], at: int, condition: Value, plans: Plans) -> bool:
    """Can the branch at position `at` evaluate the condition itself? Not if flags it reads change in
    between."""
    plan = plans[condition.row]
    if not plan.branch:
        return False
    if plan.reads:
        index = at - 1
        while ops[index] is not condition:
            between = plans[ops[index].row]
            if (between.kind == PUT and ops[index].imm in plan.reads) or set(between.writes) & set(
                plan.reads
            ):
                return False
            index -= 1
    return True
