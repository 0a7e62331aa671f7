"""A block as records.

After the backward pass (`survey.py`) a forward one gives values their slots and emits the records:

    get and trunc are names for a slot, no records; zext too, unless it extends the low part of a slot
    a value goes straight into the slot it will be put to, if nothing in between could notice: no access that
        may fault, no read or write of that slot
    everything else lives in a temporary slot until its last use
"""

from __future__ import annotations

from array import array

from nexus.backend.interp.layout import NEVER, OutOfSlots
from nexus.backend.interp.survey import (
    BRANCH,
    CLEAR,
    CONST,
    CONSTANTS,
    GET,
    GOTO,
    JUMP,
    OP,
    PUT,
    TRAP_IF,
    TRUNC,
    VECTOR,
    ZEXT,
    Plan,
    Plans,
    is_immediate,
    is_low_part,
    survey,
)
from nexus.ir.state import FIRST_TEMP, FIRST_VECTOR_TEMP, LAST_TEMP, LAST_VECTOR_TEMP, SLOTS
from nexus.ir.types import I64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.values import Block, Value

_DIRTY = 512  # in `note`, beside the slot: the slot holds more than the value's own low bits
_SLOT = 511
_INDEX = 255
_ZERO = SLOTS["zero"]
_WORD = 0xFFFFFFFF
_QUAD = 0xFFFFFFFFFFFFFFFF
_TEMPS = range(LAST_TEMP, FIRST_TEMP - 1, -1)
_VECTOR_TEMPS = range(VECTOR + LAST_VECTOR_TEMP, VECTOR + FIRST_VECTOR_TEMP - 1, -1)


class Code:
    """An assembled block. `data` holds absolute addresses and belongs at the address it was assembled for.

    The guest instruction at `addresses[i]` begins with the record at offset `offsets[i]`; `links` maps the
    offset of each link record to the guest address it leads to."""

    __slots__ = ("addresses", "data", "links", "offsets", "start")

    def __init__(
        self, start: int, data: bytes, offsets: list[int], addresses: list[int], links: dict[int, int]
    ) -> None:
        self.start = start
        self.data = data
        self.offsets = offsets
        self.addresses = addresses
        self.links = links

    def address_of(self, offset: int) -> int:
        """The guest instruction that the record at `offset` belongs to."""
        index = len(self.offsets) - 1
        while index > 0 and self.offsets[index] > offset:
            index -= 1
        return self.addresses[index]


class Assembler:
    """Turns blocks into records for the handlers in `symbols`."""

    def __init__(self, symbols: dict[str, int]) -> None:
        self._plans = Plans(symbols)
        self._symbols = symbols

    def assemble(self, block: Block, at: int) -> Code:
        """The records of a block that will lie at host address `at` (a multiple of 16)."""
        return _Assembly(block, at, self._plans, self._symbols).code()


class _Assembly:
    """One run of the forward pass."""

    __slots__ = (
        "alias_last",
        "at",
        "block",
        "done",
        "expire",
        "free",
        "free_vectors",
        "links",
        "offsets",
        "plans",
        "survey",
        "symbols",
        "tail",
        "words",
    )

    def __init__(self, block: Block, at: int, plans: Plans, symbols: dict[str, int]) -> None:
        self.block = block
        self.at = at
        self.plans = plans
        self.symbols = symbols
        self.survey = survey(block, plans)
        self.words: list[int] = []
        self.free = list(_TEMPS)
        self.free_vectors = list(_VECTOR_TEMPS)
        self.expire: dict[int, list[int]] = {}
        self.alias_last: dict[
            int, int
        ] = {}  # slot of the architecture -> last use of a value that lives in it
        self.done: set[int] = set()  # positions of puts that the op computing the value has done
        self.tail = self.find_tail()
        self.links: list[tuple[int, int]] = []  # index of a pointer word, guest address it leads to
        self.offsets: list[int] = []

    def temporary(self, vector: int, last: int, now: int) -> int:
        """A temporary slot that is free again after the op at `last`."""
        free = self.free_vectors if vector else self.free
        if not free:
            raise OutOfSlots(f"the block at {self.block.start:#x} needs more temporary slots than there are")
        slot = free.pop()
        when = last if last > now else now + 1
        if when in self.expire:
            self.expire[when].append(slot)
        else:
            self.expire[when] = [slot]
        return slot

    def find_tail(self) -> int:
        """The position of the op that the final branch does as well, or -1."""
        ops, at = self.block.ops, len(self.block.ops) - 2
        if at not in self.survey.absorbed:
            return -1
        condition, _ = self.survey.absorbed[at]
        at -= 1
        while at >= 0 and ops[at].last < 0 and self.plans[ops[at].row].removable:
            at -= 1
        if at >= 0:
            pair = self.plans[ops[at].row].pairs.get(condition.row)
            if pair is not None and pair[2] and condition.args in ((), ops[at].args):
                return at
        return -1

    def folded(self, op: Value, now: int) -> int:
        """The slot that the op may compute its value straight into, which does its put; or -1."""
        if op not in self.survey.into:
            return -1
        slot, put = self.survey.into[op]
        if self.alias_last.get(slot, -1) > now:
            return -1
        self.done.add(put)
        self.alias_last[slot] = op.last
        return slot

    def constant(self, slot: int, number: int) -> None:
        if (number + 0x80000000) & _QUAD < 1 << 32:
            self.words += (self.symbols["const.i64"], slot | (number & _WORD) << 32)
        else:
            self.words += (self.symbols["const.i64/q"], slot, number & _QUAD, 0)

    def code(self) -> Code:
        block, words, plans, expire, alias_last = (
            self.block,
            self.words,
            self.plans,
            self.expire,
            self.alias_last,
        )
        into, done = self.survey.into, self.done
        marks = block.marks
        instructions = len({address for _, address in marks})
        words += (self.symbols["enter"], instructions << 32, block.start & _QUAD, NEVER)
        next_mark, mark_at = 0, marks[0][0] if marks else -1
        pc = block.start
        pending: tuple[int, int] | None = None  # handlers of the op before together with this one
        skipped = -1  # position of an op that the one before has done
        for i, op in enumerate(block.ops):
            while i == mark_at:
                self.offsets.append(len(words) * 8)
                pc = marks[next_mark][1]
                next_mark += 1
                mark_at = marks[next_mark][0] if next_mark < len(marks) else -1
            if i in expire:
                for slot in expire.pop(i):
                    (self.free_vectors if slot & VECTOR else self.free).append(slot)
            plan = plans[op.row]
            kind = plan.kind
            if kind == OP:
                if i == skipped:
                    continue
                if op.type is None:
                    home = 0
                elif op in into and (home := self.folded(op, i)) >= 0:
                    pass
                elif op.last >= 0 or not plan.removable:
                    home = self.temporary(plan.vector, op.last, i)
                else:
                    continue
                used = op.note  # the operands in slots, by the survey
                op.note = home
                plain, immediate = pending or (plan.plain, plan.immediate)
                pending = None
                if plan.pairs:
                    if i == self.tail:
                        continue
                    after = block.ops[i + 1]
                    pair = plan.pairs.get(after.row)
                    if pair is not None and not pair[2]:
                        if op.type is None:
                            if after.last >= 0 and after.args[: len(op.args)] == op.args:
                                pending = pair[:2]
                                continue
                        elif after.args[0] is op and i + 1 != self.tail:
                            plain, immediate, _ = pair
                            skipped = i + 1
                if plan.simple:
                    packed, shift = home & _INDEX, 8
                    for arg in used:
                        packed |= (arg.note & _INDEX) << shift
                        shift += 8
                    if len(used) == len(op.args):
                        words += (plain, packed)
                    else:
                        words += (immediate, packed | (op.args[-1].imm & _WORD) << 32)
                else:
                    self.operation(op, plan, used, home & _INDEX)
            elif kind == GET:
                if op.last < 0:
                    continue
                slot = op.imm + plan.vector
                if op.last <= op.note:
                    if alias_last.get(slot, -1) < op.last:
                        alias_last[slot] = op.last
                    op.note = slot if op.type is I64 or plan.vector else slot | _DIRTY
                else:
                    op.note = self.temporary(plan.vector, op.last, i)
                    words += (self.symbols[f"put.{op.type}"], op.note & _INDEX | op.imm << 8)
            elif kind == PUT:
                value = op.args[0]
                if i in done:
                    continue
                if value.row in CONSTANTS:
                    self.constant(op.imm, value.imm)
                elif value.note != op.imm + plan.vector:
                    words += (plan.plain, op.imm | (value.note & _INDEX) << 8)
            elif kind == CONST:
                if op.last >= 0:
                    if op.imm == 0:
                        op.note = _ZERO
                    else:
                        op.note = self.temporary(0, op.last, i)
                        self.constant(op.note, op.imm)
            elif kind == TRUNC:
                if op.last >= 0:
                    op.note = op.args[0].note | _DIRTY
            elif kind == ZEXT:
                if op.last >= 0:
                    self.extension(op, i)
            elif kind == GOTO:
                if i == 0 or plans[block.ops[i - 1].row].kind != BRANCH:
                    self.links.append((len(words) + 2, op.imm))
                    words += (self.symbols["goto"], 0, 0, 0)
            elif kind == CLEAR:
                words += (plan.plain, op.imm)
            elif kind == BRANCH:
                self.branch(i, op)
            elif kind == JUMP:
                words += (self.symbols["jump"], (op.args[0].note & _INDEX) << 8)
            elif kind == TRAP_IF:
                words += (
                    self.symbols["trap_if"],
                    (op.args[0].note & _INDEX) << 8 | (op.imm & _WORD) << 32,
                    pc & _QUAD,
                    0,
                )
            else:  # exit
                words += (self.symbols["exit"], (op.imm & _WORD) << 32)
        return self.finish()

    def operation(self, op: Value, plan: Plan, used: tuple[Value, ...], d: int) -> None:
        """The record of an op that has an immediate, an address or many operands; `used` are those in
        slots."""
        imm, literal, handler = op.imm, -1, plan.plain
        if plan.scaled:
            scale = imm & 3
            imm >>= 2
            handler = plan.scaled[scale]
            if len(used) != len(op.args):
                handler = plan.scaled_imm[scale]
                literal = op.args[-1].imm
        elif plan.wide and (imm + 0x80000000) & _QUAD >= 1 << 32:
            handler = plan.wide
            literal, imm = imm & _QUAD, 0
        packed, shift = d | (imm & _WORD) << 32, 8
        for arg in used[:3]:
            packed |= (arg.note & _INDEX) << shift
            shift += 8
        if plan.extra:
            more = 0
            for index, arg in enumerate(used[3:]):
                more |= (arg.note & _INDEX) << index * 8
            self.words += (handler, packed, max(literal, 0), more)
        elif literal >= 0:
            self.words += (handler, packed, literal, 0)
        else:
            self.words += (handler, packed)

    def extension(self, op: Value, i: int) -> None:
        """zext: another name for a value that fills its slot, else a copy of the low bits."""
        value = op.args[0]
        note: int = value.note
        if not is_low_part(value, self.plans):
            op.note = note
            return
        op.note = self.folded(op, i)
        if op.note < 0:
            op.note = self.temporary(0, op.last, i)
        self.words += (self.plans[op.row].plain, op.note | (note & _INDEX) << 8)

    def branch(self, i: int, op: Value) -> None:
        """A branch with the goto behind it: one record with two pointers."""
        taken, otherwise = op.imm, self.block.ops[i + 1].imm
        handler, packed = self.symbols["branch"], 0
        if i in self.survey.absorbed:
            condition, negated = self.survey.absorbed[i]
            plan, args = self.plans[condition.row], condition.args
            handler, immediate = plan.branch, plan.branch_imm
            if self.tail >= 0:
                first = self.block.ops[self.tail]
                handler, immediate, _ = self.plans[first.row].pairs[condition.row]
                args = first.args
            if immediate and args and is_immediate(args[-1]):
                handler = immediate
                packed = (args[-1].imm & _WORD) << 32
                args = args[:-1]
            shift = 8
            for arg in args:
                packed |= (arg.note & _INDEX) << shift
                shift += 8
            if negated:
                taken, otherwise = otherwise, taken
        else:
            packed = (op.args[0].note & _INDEX) << 8
        self.links += ((len(self.words) + 2, taken), (len(self.words) + 3, otherwise))
        self.words += (handler, packed, 0, 0)

    def finish(self) -> Code:
        """Append the link records and make the bytes."""
        words, links = self.words, {}
        self.offsets += [len(words) * 8] * (len(self.block.marks) - len(self.offsets))
        for pointer, target in self.links:
            offset = len(words) * 8
            links[offset] = target
            words[pointer] = self.at + offset
            words += (self.symbols["link"], 0, target & _QUAD, self.at + pointer * 8)
        addresses = [address for _, address in self.block.marks]
        return Code(self.block.start, array("Q", words).tobytes(), self.offsets, addresses, links)


__all__ = ["Assembler", "Code", "OutOfSlots"]
