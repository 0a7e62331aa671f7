"""The records of a block as host code.

One stencil per record, in the shape that says which of its slots are pinned. Where there is no such stencil,
pinned operands are put into their slots before and taken from there after; where there is none at all, the
interpreter's handler runs on a copy of the record, followed by a record that comes back (`base_code`).

Branches to other blocks are `jmp rel32` (or a `jcc`), the displacement aligned so that it can be changed at
once. They lead to exits at the end of the code until they are linked.

Host code is kept between runs, so it has no address in it. What it refers to outside of itself is
the code that the piece of memory begins with, and its data PIECE bytes behind it; `HostCode` tells where.

Two things are known of a block while it is walked: how far each slot may be above `top` (`_Assembly.known`),
which spares checks of addresses, and whether there are pending flags (`low`, `high`; see `layout.py`).
"""

from __future__ import annotations

import struct

from nexus.backend.stencils.code import HostCode
from nexus.backend.stencils.layout import (
    COUNTING,
    FULL,
    LEAVE,
    OUTSIDE,
    PIECE,
    PIN_OF,
    SETTLE,
)
from nexus.backend.stencils.plan import (
    BASE,
    CONTROLS,
    DEFERRABLE,
    FLAG_SLOTS,
    INDEXED,
    NONE,
    SCALAR,
    TOUCHES,
    Plan,
    Plans,
)
from nexus.base.errors import NexusError
from nexus.ir.state import FIRST_TEMP, SLOTS, VECTOR_BYTES, VECTOR_OFFSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.plan import Choice
    from nexus.backend.stencils.store import Stencil

    # offset of a pointer in the records -> offset of its link record, target
    Links = dict[int, tuple[int, int]]

_QUAD = (1 << 64) - 1
_NOPS = (b"", b"\x90", b"\x66\x90", b"\x0f\x1f\x00")
_RECORD = 16
_JCC = 6  # bytes
_CONSTANT = 16
_UNKNOWN = -1
_NEEDED, _NAMED = 1, 2
_ZERO, _PENDING = SLOTS["zero"], SLOTS["pending"]
_OPERANDS = (SLOTS["pending_a"], SLOTS["pending_b"])
_PARTIAL_OPERAND = SLOTS["pending_c"]
_FAR = 1 << 30  # how far above `top` an address may be to be a base; the guards are four times that


class Assembler:
    """Makes host code of records. `base` is the address of the `base_code` in the same piece."""

    def __init__(self, plans: Plans, base: int) -> None:
        self.plans = plans
        self.own = {"leave": base + LEAVE, "settle": base + SETTLE, "outside": base + OUTSIDE}

    def assemble(self, records: bytes, links: Links, at: int) -> HostCode:
        """The host code, to lie at `at`."""
        return _Assembly(self, records, links, at).code()


class _Assembly:
    """One block. `low` and `high` are the halves of `pending`: _UNKNOWN, 0, or what was put there."""

    __slots__ = (
        "assembler",
        "at",
        "code_",
        "constants",
        "data",
        "high",
        "known",
        "later",
        "links",
        "low",
        "out",
        "place",
        "plans",
        "records",
        "words",
    )

    def __init__(self, assembler: Assembler, records: bytes, links: Links, at: int) -> None:
        self.assembler = assembler
        self.plans = assembler.plans
        self.records = records
        self.words = memoryview(records).cast("Q")
        self.links = links
        self.at = at
        self.data = 0  # bytes of it so far
        self.constants: dict[int, int] = {}  # place in the pool -> in the data
        self.code_ = HostCode()
        self.out = self.code_.data
        # displacement, record, stencil, values, where to go on after it or -1
        self.later: list[tuple[int, int, str, dict[str, int], int]] = []
        self.known: dict[int, int] = {_ZERO: 0}
        self.low = self.high = _UNKNOWN
        self.place = 0  # of the record at hand

    def code(self) -> HostCode:
        out, result, plans = self.out, self.code_, self.plans
        offsets, places, words = result.offsets, result.records, self.words
        ready = plans.ready
        for at, plan, packed, look in self.surveyed():
            offsets.append(len(out))
            places.append(at)
            if plan.passive and not look & _NAMED:
                made = ready.get((words[at >> 3], packed))
                if made is not None:
                    out += made
                    if plan.slots[0] == SCALAR:
                        self.known.pop(packed & 255, None)
                    continue
            self.place = at
            if plan.name in CONTROLS:
                self.control(plan.name, at, packed)
            else:
                self.operation(plan, at, packed, look)
        offsets.append(len(out))
        places.append(len(self.records))
        for site, at, name, values, back in self.later:
            begin = len(out)
            if name == "link":
                values["h_exit"] = begin
                result.sites.append(site)
                result.exits.append(begin)
                result.targets.append(values["h_lit"])
            else:
                offsets.append(begin)
                places.append(at)
            self.emit(plans.control(name, -1), values)
            if back >= 0:
                out += b"\xe9" + struct.pack("<i", back - len(out) - 5)
            struct.pack_into("<i", out, site, begin - site - 4)
        out += b"\xcc" * (self.data - len(out))  # or its data would reach into that of the next one
        return result

    def surveyed(self) -> list[tuple[int, Plan, int, int]]:
        """The records: offset, plan, second word, and _NEEDED if the next one that has to do with flags needs
        those that are there, _NAMED if it has single flags as result or operands."""
        words, plans = self.words, self.plans
        at, size = 0, len(self.records)
        found: list[tuple[int, Plan, int, int]] = []
        while at < size:
            plan = plans[words[at >> 3]]
            if plan.name == "link":  # these come after everything else
                break
            packed = words[(at >> 3) + 1]
            named = 0
            if plan.flags == NONE:
                rest = packed
                for kind in plan.slots:
                    if kind == SCALAR and rest & 255 in FLAG_SLOTS:
                        named = _NAMED
                    rest >>= 8
            found.append((at, plan, packed, named))
            at += plan.size
        needed = 0
        for index in range(len(found) - 1, -1, -1):
            at, plan, packed, look = found[index]
            if needed:
                found[index] = at, plan, packed, look | needed
            if look & _NAMED:
                needed = _NEEDED
            elif plan.flags != NONE:
                needed = _NEEDED if plan.flags == TOUCHES else 0
        return found

    # operations ------------------------------------------------------------------------------------

    def operation(self, plan: Plan, at: int, packed: int, look: int) -> None:
        slots = tuple(packed >> 8 * index & 255 if kind else -1 for index, kind in enumerate(plan.slots))
        immediate = (packed >> 32 ^ 0x80000000) - 0x80000000
        fits = not plan.below or 0 <= immediate < plan.below
        if plan.flags >= DEFERRABLE:
            if look & _NEEDED:  # the next one would compute them anyway
                self.computed(plan, at, slots, immediate)
            else:
                self.deferred(plan, at, slots, immediate)
            return
        if plan.flags == TOUCHES or look & _NAMED:
            self.settle()
        elif plan.flags:
            self.nothing_pending()
        if plan.access == BASE:
            self.check(slots[1], plan)
        chosen = self.plans.choose(plan, slots) if fits else None
        if chosen is None and plan.branches:
            self.tested(plan, at, slots, immediate)
            return
        if chosen is None:
            self.outside(plan, at)
            return
        begin = len(self.out)
        self.stencil(plan, chosen, at, slots, immediate)
        if plan.passive and not any(what == "pool" for _, _, what, _ in chosen[0][1]):
            self.plans.ready[self.words[at >> 3], packed] = bytes(self.out[begin:])
        self.follow(plan, slots, immediate)

    def stencil(self, plan: Plan, chosen: Choice, at: int, slots: tuple[int, ...], immediate: int) -> None:
        made, spilled, back = chosen
        for kind, slot in spilled:
            self.out += self.plans.move(kind, slot, True)
        values = {"h_imm": immediate}
        for hole, kind, slot in zip(("h_d", "h_a", "h_b", "h_c"), plan.slots, slots, strict=False):
            values[hole] = 8 * slot if kind == SCALAR else VECTOR_OFFSET + VECTOR_BYTES * slot
        if plan.size > _RECORD:
            values["h_lit"] = self.words[(at >> 3) + 2]
        reload = b"".join(self.plans.move(kind, slot, False) for kind, slot in back)
        if plan.branches:
            self.branch(made, values, at, reload)
            return
        self.emit(made, values, -1, plan.wild if plan.access == INDEXED else "")
        self.out += reload

    def tested(self, plan: Plan, at: int, slots: tuple[int, ...], immediate: int) -> None:
        """A branch without a stencil: the condition, then a branch on that. Temporaries are free by then."""
        condition = self.plans.named(plan.name[:-2])
        slots = (FIRST_TEMP, *slots[1:])
        chosen = self.plans.choose(condition, slots)
        if chosen is None:
            raise NexusError(f"there are no stencils for {plan.name}")
        self.stencil(condition, chosen, at, slots, immediate)
        self.branch(self.plans.control("branch", FIRST_TEMP), {}, at)

    def outside(self, plan: Plan, at: int) -> None:
        """Let the interpreter do it."""
        if plan.branches:
            raise AssertionError(f"{plan.name} branches to records, so the interpreter cannot do it in place")
        self.emit(self.plans.special("outside", ""), {"h_copy": PIECE + self.data})
        self.code_.copies.extend((self.data, at, plan.size, len(self.out)))
        self.data += plan.size + _RECORD
        self.low = self.high = 0
        self.known = {_ZERO: 0}

    # addresses -------------------------------------------------------------------------------------

    def check(self, slot: int, plan: Plan) -> None:
        """Make sure that a slot is not above `top`."""
        if slot in self.known:
            return
        self.emit(self.plans.control("check", slot), {"h_a": 8 * slot}, -1, plan.wild)
        self.known[slot] = 0

    def follow(self, plan: Plan, slots: tuple[int, ...], immediate: int) -> None:
        """What is known of the result."""
        if plan.slots[0] != 1:
            return
        result, known = slots[0], self.known
        if plan.moves and slots[1] in known:
            far = known[slots[1]] + (abs(immediate) if plan.moves > 1 else 0)
            if far < _FAR:
                known[result] = far
                return
        known.pop(result, None)

    # flags -----------------------------------------------------------------------------------------

    def deferred(self, plan: Plan, at: int, slots: tuple[int, ...], immediate: int) -> None:
        """Leave the flags of an operation for later and do the rest of it."""
        number = plan.flags - DEFERRABLE
        full = number < len(FULL)
        rest = self.plans.choose(plan, slots) if plan.rest else None
        if plan.rest and rest is None:
            self.outside(plan, at)
            return
        kind = 1 if full else 2 + (number >= len(FULL) + len(COUNTING))
        if not full and self.high not in (0, kind):
            if self.high == _UNKNOWN:
                self.test("settled_high")
            else:
                self.settle()
            self.high = 0
        if not plan.of_result:
            self.note_operands(plan, slots, immediate, number)
        if full:
            self.low, self.high = 1, 0
        else:
            self.high = kind
        if rest is not None:
            self.stencil(plan, rest, at, slots, immediate)
            self.follow(plan, slots, immediate)
        if plan.of_result:
            self.copy(_OPERANDS[0], slots[0])
            self.store(_PENDING, number + 1)

    def computed(self, plan: Plan, at: int, slots: tuple[int, ...], immediate: int) -> None:
        """Compute the flags of an operation at once, and the rest of it."""
        alone = self.plans.named(plan.alone)
        flags_slots = (-1, slots[0]) if plan.of_result else (-1, *slots[1:])[: len(alone.slots)]
        flags = self.plans.choose(alone, flags_slots)
        rest = self.plans.choose(plan, slots) if plan.rest else None
        if flags is None or (plan.rest and rest is None):
            self.outside(plan, at)
            return
        if plan.flags - DEFERRABLE < len(FULL):
            self.nothing_pending()
        else:
            self.settle()
        if not plan.of_result:
            self.stencil(alone, flags, at, flags_slots, immediate)
        if rest is not None:
            self.stencil(plan, rest, at, slots, immediate)
            self.follow(plan, slots, immediate)
        if plan.of_result:
            self.stencil(alone, flags, at, flags_slots, immediate)

    def nothing_pending(self) -> None:
        """All flags are going to be set: forget the pending ones."""
        if self.low | self.high:
            self.store(_PENDING, 0)
            self.low = self.high = 0

    def note_operands(self, plan: Plan, slots: tuple[int, ...], immediate: int, number: int) -> None:
        if number >= len(FULL):
            self.copy(_PARTIAL_OPERAND, slots[1])
            self.emit(self.plans.control("pend_high", -1), {"h_imm": number + 1})
            return
        self.copy(_OPERANDS[0], slots[1])
        if plan.count == 2 and plan.imm_last:
            self.store(_OPERANDS[1], immediate)
        elif plan.count == 2:
            self.copy(_OPERANDS[1], slots[2])
        self.store(_PENDING, number + 1)

    def settle(self) -> None:
        """Compute pending flags."""
        if self.low | self.high:
            self.test("settled")
            self.low = self.high = 0

    def test(self, name: str) -> None:
        self.emit(self.plans.control(name, -1), {}, -1, "settle")

    def store(self, slot: int, number: int) -> None:
        """A constant into a slot that is not pinned."""
        self.emit(self.plans.special("const.i64", "m"), {"h_d": 8 * slot, "h_imm": number})

    def copy(self, slot: int, source: int) -> None:
        """One slot into another one that is not pinned."""
        if source == _ZERO:
            self.store(slot, 0)
            return
        pinned = source in PIN_OF
        stencil = self.plans.put(source) if pinned else self.plans.special("put.i64", "mm")
        self.emit(stencil, {"h_d": 8 * slot, "h_a": 8 * source})

    # control ---------------------------------------------------------------------------------------

    def branch(self, stencil: Stencil, values: dict[str, int], at: int, reload: bytes = b"") -> None:
        """A stencil that goes to `taken` or on, and the jump that is taken then. `reload` only moves, which
        keeps what the conditional jump at the end looks at."""
        if reload:
            code, holes = stencil
            self.emit((code[:-_JCC], holes[:-1]), values)
            self.out += reload
            stencil = code[-_JCC:], ((_JCC - 4, *holes[-1][1:]),)
        self.emit(stencil, values, at + 16)
        self.jump(at + 24)

    def jump(self, pointer: int) -> None:
        """Go to a block that may not be there yet."""
        self.out += _NOPS[-(self.at + len(self.out) + 1) % 4] + b"\xe9\0\0\0\0"
        _, target = self.links[pointer]
        self.cold(len(self.out) - 4, "link", {"h_lit": target & _QUAD})

    def control(self, name: str, at: int, packed: int) -> None:
        words, index = self.words, at >> 3
        slot = packed >> 8 & 255
        if name == "goto":
            self.jump(at + 16)
            return
        if name == "jump" and slot not in PIN_OF:  # nobody needs temporaries any more
            self.out += self.plans.take(FIRST_TEMP, slot)
            slot = FIRST_TEMP
        stencil = self.plans.control(name, slot)
        values = {"h_a": 8 * slot, "h_imm": (packed >> 32 ^ 0x80000000) - 0x80000000}
        if name == "branch":
            self.branch(stencil, values, at)
        elif name in ("enter", "trap_if"):
            values["h_lit"] = words[index + 2]
            self.emit(stencil, values, -1, "spent" if name == "enter" else "trap")
        else:
            self.emit(stencil, values)

    def cold(self, site: int, name: str, values: dict[str, int]) -> None:
        back = len(self.out) if name == "settle" else -1
        self.later.append((site, self.place, name, values, back))

    def emit(self, stencil: Stencil, values: dict[str, int], pointer: int = -1, cold: str = "") -> None:
        """Append a stencil. `taken` leads to the exit for the pointer, or to the stencil `cold`."""
        code, holes = stencil
        out, own = self.out, self.assembler.own
        if pointer >= 0:
            first = next(at for at, _, what, _ in holes if what == "taken")
            out += _NOPS[-(self.at + len(out) + first) % 4]
        begin = len(out)
        out += code
        for at, size, what, more in holes:
            where = begin + at
            if what == "next":
                struct.pack_into("<i", out, where, len(out) - where - 4)
            elif what in own:
                self.code_.bases.append(where)
                struct.pack_into("<i", out, where, own[what] - (self.at + where + 4))
            elif what in ("h_exit", "h_copy"):  # offsets, made relative to the instruction
                struct.pack_into("<i", out, where, values[what] - (where + 4))
            elif what == "pool":
                place = PIECE + self.constant(more >> 8)
                struct.pack_into("<i", out, where, place - (where + 4 + (more & 255)))
            elif what == "taken":
                if pointer >= 0:
                    cold, values = "link", {"h_lit": self.links[pointer][1] & _QUAD}
                self.cold(where, cold, values)
            elif size == 4:
                struct.pack_into("<i", out, where, values[what] + more)
            elif size == 1:
                out[where] = values[what] + more & 255
            else:
                struct.pack_into("<Q", out, where, values[what] + more & _QUAD)

    def constant(self, place: int) -> int:
        """Where in the data the constant is that has this place in the pool."""
        if place not in self.constants:
            self.data += -self.data % _CONSTANT
            self.constants[place] = self.data
            self.code_.constants.extend((self.data, place, _CONSTANT))
            self.data += _CONSTANT
        return self.constants[place]
