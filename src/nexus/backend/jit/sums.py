"""Addresses as sums: of what slots hold when a block begins, and of what the block computes.

A sum is terms and a constant, modulo 2**64; a term is a symbol and how often it is taken. Symbols below
OPAQUE are slots as they were at the block's start, the others what ops compute, by their position: their
value, their address, what they write. Of some values it is known how large they can be.
"""

from __future__ import annotations

from nexus.ir.ops import LOAD, STORE
from nexus.ir.state import SCALAR_SLOTS, SLOTS
from nexus.ir.types import I32, I64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.types import Type
    from nexus.ir.values import Block, Value

    Terms = tuple[tuple[int, int], ...]
    Sum = tuple[Terms, int]

OPAQUE = SCALAR_SLOTS
_VALUE, _ADDRESS, _WRITTEN, _PER_OP = 0, 1, 2, 16
_MOST_TERMS, _MOST_TIMES = 3, 8
_WHOLE = 1 << 64


class Access:
    """One load or store: the op's position, the sum of its base, of base and index (None without one), the
    displacement, and what is moved."""

    __slots__ = ("base", "displacement", "index", "is_store", "root", "type")

    def __init__(self, op: Value, index: int, base: Sum, root: Sum | None) -> None:
        row = op.row
        type = row.result if row.effect == LOAD else row.operands[-1]
        assert type is not None
        self.index = index
        self.base = base
        self.root = root
        self.displacement = op.imm >> 2
        self.type: Type = type
        self.is_store = row.effect == STORE


class Trace:
    """What a block does with addresses: its accesses in order, `after`, the sums of slots that it changes,
    and `largest`, how large opaque symbols can be."""

    def __init__(self, block: Block, until: int) -> None:
        """Of the ops before position `until`."""
        self.accesses: list[Access] = []
        self.after: dict[int, Sum] = {}
        self.largest: dict[int, int] = {}
        self._sums: dict[Value, Sum] = {}
        self._extended: dict[Value, Sum] = {}  # narrow values, extended by zeros
        for index, op in enumerate(block.ops[:until]):
            self._note(op, index)

    def of(self, slot: int) -> Sum:
        """What a slot holds at the end."""
        return self.after.get(slot, (((slot, 1),), 0))

    def _note(self, op: Value, index: int) -> None:
        row = op.row
        head = row.name.partition(".")[0]
        if row.effect in (LOAD, STORE) and row.address:
            base, root = self._address(op, index)
            self.accesses.append(Access(op, index, base, root))
        if head == "put" and not row.operands[0].is_vector:
            value = op.args[0]
            self.after[op.imm] = self._sums[value] if value.type is I64 else self._wide(value)
        for number, name in enumerate(row.writes):
            self.after[SLOTS[name]] = ((_symbol(index, _WRITTEN + number), 1),), 0
        if op.type is I64:
            self._sums[op] = self._sum(op, head, index)
        elif op.type is not None and not op.type.is_vector:
            self._extended[op] = self._narrow(op, head, index)

    def _sum(self, op: Value, head: str, index: int) -> Sum:
        args = op.args
        value = _symbol(index, _VALUE)
        opaque: Sum = ((value, 1),), 0
        if head == "const":
            return (), signed(op.imm)
        if head == "get":
            return self.of(op.imm)
        if head == "lea":
            base, root = self._address(op, index)
            return added(root or base, ((), op.imm >> 2)) or opaque
        if head in ("add", "sub"):
            times = 1 if head == "add" else -1
            return added(self._sums[args[0]], scaled(self._sums[args[1]], times)) or opaque
        if head in ("shl", "mul") and args[1].row.name == "const.i64":
            times = 1 << min(args[1].imm, 63) if head == "shl" else args[1].imm
            return scaled(self._sums[args[0]], times) or opaque
        if head == "zext":
            return self._wide(args[0])
        if head == "and" and args[1].row.name == "const.i64":
            self.largest[value] = args[1].imm
        elif head == "shr" and args[1].row.name == "const.i64":
            self.largest[value] = _WHOLE - 1 >> min(args[1].imm, 64)
        return opaque

    def _narrow(self, op: Value, head: str, index: int) -> Sum:
        if head == "const":
            return (), op.imm
        if op.type is I32 and head in ("get", "trunc"):
            whole = self.of(op.imm) if head == "get" else self._sums[op.args[0]]
            terms, constant = whole
            if not terms and 0 <= constant <= I32.mask:
                return whole
            if len(terms) == 1 and not constant and terms[0][1] == 1:
                largest = self.largest.get(terms[0][0])
                if largest is not None and largest <= I32.mask:
                    return whole
        assert op.type is not None
        value = _symbol(index, _VALUE)
        self.largest[value] = op.type.mask
        return ((value, 1),), 0

    def _wide(self, value: Value) -> Sum:
        return self._extended[value]

    def _address(self, op: Value, index: int) -> tuple[Sum, Sum | None]:
        base = self._sums[op.args[0]]
        if op.row.address == 1:
            return base, None
        second = scaled(self._sums[op.args[1]], 1 << (op.imm & 3))
        return base, added(base, second) or (((_symbol(index, _ADDRESS), 1),), 0)


def _symbol(index: int, which: int) -> int:
    """The symbol of something that the op at a position computes; no two things share one."""
    assert which < _PER_OP
    return OPAQUE + index * _PER_OP + which


def signed(number: int) -> int:
    number %= _WHOLE
    return number - (number >> 63 << 64)


def scaled(sum: Sum | None, times: int) -> Sum | None:
    """None where it is too much to follow, as for `added`."""
    if sum is None:
        return None
    times = signed(times)
    terms = tuple((symbol, count * times) for symbol, count in sum[0] if times)
    if any(abs(count) > _MOST_TIMES for _, count in terms):
        return None
    return terms, signed(sum[1] * times)


def added(one: Sum | None, other: Sum | None) -> Sum | None:
    if one is None or other is None:
        return None
    counts = dict(one[0])
    for symbol, count in other[0]:
        counts[symbol] = counts.get(symbol, 0) + count
    terms = tuple(sorted((symbol, count) for symbol, count in counts.items() if count))
    if len(terms) > _MOST_TERMS or any(abs(count) > _MOST_TIMES for _, count in terms):
        return None
    return terms, signed(one[1] + other[1])
