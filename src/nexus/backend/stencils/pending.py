"""Flags that nobody has asked for yet, while the host code of a block is made.

A row that sets flags leaves them as a *note* first: which row, and where its operands can be found, which
costs no instruction. `add rbx, rbp` still has its operands afterwards, one of them as a difference. When a
slot that a note needs is about to change, and somebody may still look at the flags, they are put into the
state as pending flags (`layout.py`); so they are at the ends of a block. What sees notes is a fault
(`HostCode.difference`, `Engine.restore`).

There are two notes, as pending flags have two halves: of all flags, and of those that a count or a rotate
sets after that. What is in the state is older than both.
"""

from __future__ import annotations

from nexus.backend.stencils.emitter import Emitter
from nexus.backend.stencils.layout import COMPARING, COUNTING, DEFERRED, FULL
from nexus.backend.stencils.plan import DEFERRABLE, SCALAR, VECTOR, Plan
from nexus.ir.state import PENDING_VECTORS, SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.code import Difference, Note, Operand
    from nexus.backend.stencils.emitter import Links
    from nexus.backend.stencils.plan import Plans

UNKNOWN = -1
_PENDING = SLOTS["pending"]
_OPERANDS = (SLOTS["pending_a"], SLOTS["pending_b"])
_PARTIAL_OPERAND = SLOTS["pending_c"]


def in_slot(slot: int) -> Operand:
    return slot, -1, 0, 0


def needs(note: Note | None, kind: int, slot: int) -> bool:
    """Does a note need this slot?"""
    if note is None or kind != (VECTOR if DEFERRED[note[0]] in COMPARING else SCALAR):
        return False
    return any(slot in operand[:2] for operand in note[1])


def renamed(note: Note | None, names: dict[tuple[int, int], int]) -> Note | None:
    """The note with other names for slots."""
    if note is None:
        return None
    kind = VECTOR if DEFERRED[note[0]] in COMPARING else SCALAR
    operands: list[Operand] = []
    for one, other, sign, constant in note[1]:
        operands.append((names.get((kind, one), one), names.get((kind, other), other), sign, constant))
    return note[0], tuple(operands)


def after(plan: Plan, note: Note, slots: tuple[int, ...], immediate: int) -> Note | None:
    """The note of an operation once its result is in place; None if an operand is lost."""
    number, operands = note
    result = slots[0]
    if plan.of_result:
        return number, (in_slot(result),)
    if not plan.slots[0] or not needs(note, SCALAR, result):
        return note
    sign = {"add": -1, "sub": 1}.get(plan.name.partition("&")[2].partition(".")[0], 0)
    constant = plan.imm_last
    if not sign or (constant and immediate == -1 << 31):  # whose negative is no immediate
        return None
    if slots[1] == result:
        if not constant and slots[2] == result:
            return None
        first: Operand = (result, -1, 0, sign * immediate) if constant else (result, slots[2], sign, 0)
        return number, (first, *operands[1:])
    # b is overwritten: it was result - a, or a - result
    last = (result, slots[1], -1, 0) if sign < 0 else (slots[1], result, -1, 0)
    return number, (operands[0], last)


class Flags(Emitter):
    """`low` and `high` are the halves of `pending`: UNKNOWN, 0, or what was put there; `full` and `part` are
    the notes."""

    __slots__ = ("full", "high", "low", "part")

    def __init__(self, plans: Plans, own: dict[str, int], records: bytes, links: Links, at: int) -> None:
        super().__init__(plans, own, records, links, at)
        self.low = self.high = UNKNOWN
        self.full: Note | None = None
        self.part: Note | None = None

    def difference(self) -> Difference:
        full, part = renamed(self.full, self.names), renamed(self.part, self.names)
        return full, part, bool(self.names)

    def deferred(self, plan: Plan, at: int, slots: tuple[int, ...], immediate: int, seen: bool) -> bool:
        """Leave the flags of an operation for later and do the rest of it; False if there is no stencil for
        that. `seen`: may somebody look at them afterwards?"""
        rest = self.plans.choose(plan, slots) if plan.rest else None
        if plan.rest and rest is None:
            return False
        number = plan.flags - DEFERRABLE
        note = self.noted(plan, number, slots, immediate)
        left = after(plan, note, slots, immediate)
        if number < len(FULL):
            self.full = self.part = None
        else:
            if self.part is not None and (self.part[0] < len(FULL) + len(COUNTING)) != (
                number < len(FULL) + len(COUNTING)
            ):
                self.settle_notes()
            self.part = None
            self.overwrite(plan.slots[0], slots[0], seen)
        if left is None and seen:
            self.settle_notes()
            self.pend(note)
        if rest is not None and not plan.branches:
            self.stencil(plan, rest, at, slots, immediate)
        if number < len(FULL):
            self.full = left
        else:
            self.part = left
        if rest is not None and plan.branches:
            self.stencil(plan, rest, at, slots, immediate)
        return True

    def noted(self, plan: Plan, number: int, slots: tuple[int, ...], immediate: int) -> Note:
        """The note of an operation before it is done."""
        if number >= len(FULL) or plan.count == 1:
            return number, (in_slot(slots[1]),)
        last: Operand = (-1, -1, 0, immediate) if plan.imm_last else in_slot(slots[2])
        return number, (in_slot(slots[1]), last)

    def counted(self, plan: Plan, slots: tuple[int, ...], immediate: int) -> None:
        """The flags of a shift, which stay if its count is 0."""
        self.settle_notes()
        count = self.plans.named(f"zero.{plan.name.split('/')[0].rpartition('.')[2]}/b")
        chosen = self.plans.choose(count, (-1, slots[2]))
        assert chosen is not None
        self.emit(chosen[0], {"h_a": 8 * slots[2]}, -1, "skip")
        self.pend(self.noted(plan, plan.flags - DEFERRABLE, slots, immediate))
        self.land()
        self.low = self.high = UNKNOWN

    def overwrite(self, kind: int, slot: int, seen: bool) -> None:
        """A slot is about to change."""
        if needs(self.full, kind, slot):
            if seen:
                self.settle_notes()
            self.full = None
        if needs(self.part, kind, slot):
            if seen:
                self.settle_notes()
            self.part = None

    def settle_notes(self) -> None:
        """Put what is only noted into the state as pending flags."""
        full, part = self.full, self.part
        self.full = self.part = None
        if full is not None:
            self.pend(full)
        if part is not None:
            self.pend(part)

    def pend(self, note: Note) -> None:
        """Put the flags of a note into the state as pending ones."""
        number, operands = note
        if number < len(FULL):
            if DEFERRED[number] in COMPARING:
                for slot, (source, *_) in zip(PENDING_VECTORS, operands, strict=True):
                    self.copy_vector(slot, source)
            else:
                for slot, operand in zip(_OPERANDS, operands, strict=False):
                    self.evaluate(slot, operand)
            self.store(_PENDING, number + 1)
            self.low, self.high = 1, 0
            return
        kind = 1 if number < len(FULL) + len(COUNTING) else 2
        if self.high not in (0, kind):
            if self.high == UNKNOWN:
                self.test("settled_high")
            else:
                self.test("settled")
                self.low = 0
        self.high = kind
        self.evaluate(_PARTIAL_OPERAND, operands[0])
        self.emit(self.plans.control("pend_high", -1), {"h_imm": number + 1})

    def evaluate(self, slot: int, operand: Operand) -> None:
        """An operand of a note into a slot that is not pinned."""
        source, other, sign, constant = operand
        if source < 0:
            self.store(slot, constant)
            return
        if other < 0 and not constant:
            self.copy(slot, source)
            return
        name = "add.i64/i" if other < 0 else "add.i64" if sign > 0 else "sub.i64"
        plan = self.plans.named(name)
        slots = (slot, source) if other < 0 else (slot, source, other)
        chosen = self.plans.choose(plan, slots)
        assert chosen is not None
        self.stencil(plan, chosen, -1, slots, constant)

    def computed(self, plan: Plan, at: int, slots: tuple[int, ...], immediate: int, seen: bool) -> bool:
        """Compute the flags of an operation at once, and the rest of it; the same otherwise."""
        alone = self.plans.named(plan.alone)
        flags_slots = (-1, slots[0]) if plan.of_result else (-1, *slots[1:])[: len(alone.slots)]
        flags = self.plans.choose(alone, flags_slots)
        rest = self.plans.choose(plan, slots) if plan.rest else None
        if flags is None or (plan.rest and rest is None):
            return False
        if plan.flags - DEFERRABLE < len(FULL):
            self.nothing_pending()
        else:
            self.settle()
        if not plan.of_result:
            self.stencil(alone, flags, at, flags_slots, immediate)
        if rest is not None:
            self.stencil(plan, rest, at, slots, immediate)
        if plan.of_result:
            self.stencil(alone, flags, at, flags_slots, immediate)
        return True

    def nothing_pending(self) -> None:
        """All flags are going to be set: forget the pending ones."""
        self.full = self.part = None
        if self.low | self.high:
            self.store(_PENDING, 0)
            self.low = self.high = 0

    def settle(self) -> None:
        """Compute pending flags."""
        self.settle_notes()
        if self.low | self.high:
            self.test("settled")
            self.low = self.high = 0

    def test(self, name: str) -> None:
        self.emit(self.plans.control(name, -1), {}, -1, "settle")
