"""The records of a block as host code.

One stencil per record, in the shape that says which of its slots are pinned. Where there is no such stencil,
pinned operands are put into their slots before and taken from there after; where there is none at all, the
interpreter's handler runs on a copy of the record, followed by a record that comes back (`base_code`).

Branches to other blocks are `jmp rel32` (or a `jcc`), the displacement aligned so that it can be changed at
once. They lead to exits at the end of the code until they are linked.

Host code is kept between runs, so it has no address in it. What it refers to outside of itself is
the code that the piece of memory begins with, and its data PIECE bytes behind it; `HostCode` tells where.

Two things are known of a block while it is walked: how far each slot may be above `top` (`_Assembly.known`),
which spares checks of addresses, and which flags have not been computed (`pending.py`).

A block that leads back to itself is made twice. The second copy is for all rounds but the first: it knows
what the first one found out, jumps to its own beginning, and has the slots that it uses most in registers,
exchanged with some it does not use. What leaves it puts everything in its place; a fault does not, so
`HostCode.differences` say what has to be done then.
"""

from __future__ import annotations

from nexus.backend.stencils.emitter import JCC, PLAIN, QUAD, RECORD
from nexus.backend.stencils.layout import LEAVE, OUTSIDE, PIECE, PIN_OF, SETTLE, VECTOR_PIN_OF
from nexus.backend.stencils.pending import UNKNOWN, Flags, renamed
from nexus.backend.stencils.plan import (
    BASE,
    CONTROLS,
    DEFERRABLE,
    SCALAR,
    SSE,
    TOUCHES,
    VECTOR,
    WHOLE,
    WIDE,
    Plan,
    Plans,
    pinned,
    place,
)
from nexus.backend.stencils.survey import CLEARED, NAMED, NEEDED, REGISTERS, SEEN, survey
from nexus.base.errors import NexusError
from nexus.ir.state import FIRST_TEMP, FIRST_VECTOR_TEMP, PENDING_VECTORS, SLOTS, VECTOR_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.code import HostCode, Note
    from nexus.backend.stencils.emitter import Cold, Links, Names
    from nexus.backend.stencils.store import Stencil
    from nexus.backend.stencils.survey import Surveyed


_ZERO = SLOTS["zero"]
_FAR = 1 << 30  # how far above `top` an address may be to be a base; the guards are four times that
_WORTH = 2  # uses that a slot has to have more than the one it is exchanged with
_UPPER = 32  # where the half of a vector slot begins that is never in a register


class Assembler:
    """Makes host code of records. `base` is the address of the `base_code` in the same piece."""

    def __init__(self, plans: Plans, base: int) -> None:
        self.plans = plans
        self.own = {"leave": base + LEAVE, "settle": base + SETTLE, "outside": base + OUTSIDE}

    def assemble(self, records: bytes, links: Links, at: int) -> HostCode:
        """The host code, to lie at `at`."""
        return _Assembly(self.plans, self.own, records, links, at).code()


class _Stuck(Exception):
    """The copy for further rounds cannot be made."""


class _Assembly(Flags):
    """One block. `loop` is where the record of its last branch has the pointer to the block itself, or -1,
    `backs` are the displacements that lead there from the first copy; `inner` is where the second one begins,
    or -1, `carries` tells whether notes stay notes from one round to the next."""

    __slots__ = ("backs", "carries", "cleared", "end", "inner", "known", "loop", "size", "upper")

    def __init__(self, plans: Plans, own: dict[str, int], records: bytes, links: Links, at: int) -> None:
        super().__init__(plans, own, records, links, at)
        self.size = len(records)
        self.known: dict[int, int] = {_ZERO: 0}
        self.loop = self.inner = -1
        self.backs: list[int] = []
        self.carries = True
        # at the last branch: the notes and the halves of `pending`
        self.end: tuple[Note | None, Note | None, int, int] = None, None, UNKNOWN, UNKNOWN
        self.upper = False
        self.cleared = -1  # the slot whose register has just got nothing above its lower half

    def code(self) -> HostCode:
        surveyed, self.long, self.avx = survey(self.plans, self.words)
        self.loop = self.own_pointer(surveyed)
        self.walk(surveyed)
        if self.loop >= 0:
            self.further_rounds(surveyed)
        self.mark(self.size, (None, None, False))
        for cold in self.later:  # which may become more meanwhile
            self.finish(cold)
        self.out += b"\xcc" * (self.data - len(self.out))  # or its data would reach into that of the next one
        return self.code_

    def walk(self, surveyed: Surveyed) -> None:
        words, ready, out = self.words, self.plans.ready, self.out
        changing: list[tuple[int, int]] = []
        for at, plan, packed, look in surveyed:
            noted = self.full is not None or self.part is not None
            self.mark(at, self.difference() if noted or self.names else PLAIN)
            self.place = at
            if noted and plan.slots[0] and plan.flags < DEFERRABLE:
                kind = SCALAR if plan.slots[0] == SCALAR else VECTOR
                slot = self.names.get((kind, packed & 255), packed & 255)
                if look & SEEN:
                    self.overwrite(kind, slot, True)
                else:  # an access of this record may still fail and show them
                    changing.append((kind, slot))
            if (
                plan.passive
                and not look & NAMED
                and not self.names
                and not (self.avx and VECTOR in plan.slots)
            ):
                made = ready.get((words[at >> 3], packed))
                if made is not None:
                    out += made
                    if plan.slots[0] == SCALAR:
                        self.known.pop(packed & 255, None)
                    while changing:
                        self.overwrite(*changing.pop(), False)
                    continue
            if plan.name in CONTROLS:
                self.control(plan.name, at, packed)
            else:
                self.operation(plan, at, packed, look)
            while changing:
                self.overwrite(*changing.pop(), False)

    def finish(self, cold: Cold) -> None:
        """Make what lies behind the code."""
        begin, name, result = len(self.out), cold.name, self.code_
        self.place = cold.place
        if name == "link":
            cold.values["h_exit"] = begin
            result.sites.append(cold.site)
            result.exits.append(begin)
            result.targets.append(cold.values["h_lit"])
        else:
            self.mark(cold.place, cold.difference)
        if name in ("spent", "trap"):
            self.names, self.low, self.high = cold.names, UNKNOWN, UNKNOWN
            self.full, self.part = (renamed(note, self.names) for note in cold.difference[:2])
            self.settle_notes()
            self.exchange()
        self.emit(self.plans.control(name, -1), cold.values)
        if cold.back >= 0:
            self.out += b"\xe9\0\0\0\0"
            self.aim(len(self.out) - 4, cold.back)
        self.aim(cold.site, begin)

    # operations ------------------------------------------------------------------------------------

    def operation(self, plan: Plan, at: int, packed: int, look: int) -> None:
        slots = tuple(packed >> 8 * index & 255 if kind else -1 for index, kind in enumerate(plan.slots))
        if self.names:
            slots = tuple(
                self.names.get((SCALAR if kind == SCALAR else VECTOR, slot), slot)
                for kind, slot in zip(plan.slots, slots, strict=True)
            )
        immediate = (packed >> 32 ^ 0x80000000) - 0x80000000
        fits = not plan.below or 0 <= immediate < plan.below
        if plan.counted and (look & NEEDED or plan.imm_last):
            self.settle()
        elif plan.counted:
            self.counted(plan, slots, immediate)
            return
        elif plan.flags >= DEFERRABLE:
            # if they are needed the next one would compute them anyway
            does = self.computed if look & NEEDED else self.deferred
            if does(plan, at, slots, immediate, bool(look & SEEN)):
                self.follow(plan, slots, immediate)
            else:
                self.outside(plan, at)
            return
        elif plan.flags == TOUCHES or look & NAMED:
            self.settle()
        elif plan.flags:
            self.nothing_pending()
        if plan.access == BASE:
            self.check(slots[1], plan)
        plan = plan.fixed.get(immediate, plan)
        if plan.name == "clear.v128" and self.cleared == slots[0]:
            self.cleared = -1
            self.emit(self.plans.control("clear_above", -1), {"h_d": place(VECTOR, slots[0])})
            return
        in_register = plan.slots[0] == VECTOR and slots[0] in VECTOR_PIN_OF
        # SSE leaves the upper half of its result alone
        avx = self.avx and VECTOR in plan.slots and (self.long or not plan.borrows)
        if in_register and slots[0] < REGISTERS and not (plan.long or look & CLEARED):
            avx = False
        chosen = self.plans.choose(plan, slots, avx) if fits else None
        if chosen is None and plan.branches:
            self.tested(plan, at, slots, immediate)
            return
        if chosen is None:
            self.outside(plan, at)
            return
        self.cleared = -1
        zeroed = avx and chosen is not self.plans.choose(plan, slots)
        if zeroed and in_register and look & CLEARED and (VECTOR, slots[0]) not in chosen[2]:
            self.cleared = slots[0]
        begin = len(self.out)
        self.stencil(plan, chosen, at, slots, immediate)
        scalar = VECTOR not in plan.slots
        if (
            plan.passive
            and not self.names
            and (scalar or not self.avx)
            and not any(what == "pool" for _, _, what, _ in chosen[0][1])
        ):
            self.plans.ready[self.words[at >> 3], packed] = bytes(self.out[begin:])
        self.follow(plan, slots, immediate)

    def tested(self, plan: Plan, at: int, slots: tuple[int, ...], immediate: int) -> None:
        """A branch without a stencil: the condition, then a branch on that. Temporaries are free by then."""
        condition = self.plans.named(plan.name[:-2])
        slots = (FIRST_TEMP, *slots[1:])
        chosen = self.plans.choose(condition, slots)
        if chosen is None:
            raise NexusError(f"there are no stencils for {plan.name}")
        self.overwrite(SCALAR, FIRST_TEMP, True)
        self.stencil(condition, chosen, at, slots, immediate)
        self.branch(self.plans.control("branch", FIRST_TEMP), {}, at)

    def outside(self, plan: Plan, at: int) -> None:
        """Let the interpreter do it."""
        if plan.branches:
            raise AssertionError(f"{plan.name} branches to records, so the interpreter cannot do it in place")
        if self.inner >= 0:
            raise _Stuck
        self.settle_notes()
        self.emit(self.plans.special("outside", ""), {"h_copy": PIECE + self.data})
        self.code_.copies.extend((self.data, at, plan.size, len(self.out)))
        self.data += plan.size + RECORD
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

    # control ---------------------------------------------------------------------------------------

    def branch(self, stencil: Stencil, values: dict[str, int], at: int, reload: bytes = b"") -> None:
        if self.loop < 0 or not self.carries:
            self.settle_notes()
        self.end = self.full, self.part, self.low, self.high
        if reload:
            code, holes = stencil
            self.emit((code[:-JCC], holes[:-1]), values)
            self.out += reload
            stencil = code[-JCC:], ((JCC - 4, *holes[-1][1:]),)
        if self.loop == at + 24:
            code, holes = stencil
            if [hole[0] for hole in holes if hole[2] == "taken"] != [len(code) - 4]:
                self.emit(stencil, values, -1, "skip")
                self.jump(at + 24)
                self.land()
                self.leave(at + 16)
                return
            opposite = code[: 1 - JCC] + bytes((code[1 - JCC] ^ 1,)) + code[2 - JCC :]
            self.emit((opposite, holes), values, at + 24)
            self.leave(at + 16)
            return
        self.emit(stencil, values, at + 16)
        self.leave(at + 24)

    def leave(self, pointer: int) -> None:
        """Go to another block, with everything in its place."""
        self.settle_notes()
        self.exchange()
        self.jump(pointer)

    def exit(self, site: int, pointer: int) -> None:
        if pointer != self.loop:
            super().exit(site, pointer)
        elif self.inner >= 0:
            self.aim(site, self.inner)
        else:
            self.backs.append(site)

    def control(self, name: str, at: int, packed: int) -> None:
        words, index = self.words, at >> 3
        slot = packed >> 8 & 255
        slot = self.names.get((SCALAR, slot), slot)
        stencil = self.plans.control(name, slot) if name not in ("goto", "jump") else None
        values = {"h_a": 8 * slot, "h_imm": (packed >> 32 ^ 0x80000000) - 0x80000000}
        if name in ("enter", "trap_if"):
            assert stencil is not None
            values["h_lit"] = words[index + 2]
            self.emit(stencil, values, -1, "spent" if name == "enter" else "trap")
            return
        if name == "branch":
            assert stencil is not None
            self.branch(stencil, values, at)
            return
        self.settle_notes()
        if name == "goto":
            self.jump(at + 16)
            return
        if name == "jump" and slot not in PIN_OF:  # nobody needs temporaries any more
            self.out += self.plans.take(FIRST_TEMP, slot)
            slot = FIRST_TEMP
        self.emit(self.plans.control(name, slot), values)

    # rounds ----------------------------------------------------------------------------------------

    def own_pointer(self, surveyed: Surveyed) -> int:
        """Where the last record points to its own block, or -1."""
        at, plan, *_ = surveyed[-1]
        start = self.words[2] & QUAD
        if plan.branches or plan.name == "branch":
            for pointer in (at + 16, at + 24):
                if pointer in self.links and self.links[pointer][1] & QUAD == start:
                    return pointer
        return -1

    def further_rounds(self, surveyed: Surveyed) -> None:
        """The second copy; without one, another round is entered like any other block."""
        ended, known = self.end, self.known
        lengths = self.lengths()
        names = self.to_exchange(surveyed)
        if not self.code_.copies:
            for self.carries in (True, False):
                self.names = {}
                self.full, self.part, self.low, self.high = ended
                begin = len(self.out)
                if not self.carries:
                    self.settle_notes()
                start = renamed(self.full, names), renamed(self.part, names)
                self.names = names
                self.exchange()
                self.inner = len(self.out)
                self.full, self.part = start
                self.low = self.high = UNKNOWN
                self.known = self.lasting(surveyed, known)
                try:
                    self.walk(surveyed)
                except _Stuck:
                    break
                if self.end[:2] == start:
                    for site in self.backs:
                        self.aim(site, begin)
                    return
                self.cut(lengths)
            self.cut(lengths)
        self.inner, self.names = -1, {}
        self.code_.swaps.clear()
        self.full, self.part, self.low, self.high = ended
        begin, pointer, self.loop = len(self.out), self.loop, -1
        self.leave(pointer)
        for site in self.backs:
            self.aim(site, begin)

    def lasting(self, surveyed: Surveyed, known: dict[int, int]) -> dict[int, int]:
        """What stays known of addresses in every round."""
        written = {packed & 255 for _, plan, packed, _ in surveyed if plan.slots[:1] == (SCALAR,)}
        return {
            self.names.get((SCALAR, slot), slot): far
            for slot, far in known.items()
            if slot not in written and slot < FIRST_TEMP
        }

    def to_exchange(self, surveyed: Surveyed) -> Names:
        """Slots in memory that are used more often than some in registers, and those, by each other."""
        uses: dict[int, dict[int, int]] = {SCALAR: {}, VECTOR: {}}
        for _, plan, packed, _ in surveyed:
            self.upper = self.upper or WIDE in plan.slots or plan.name.startswith("clear.")
            for index, kind in enumerate(plan.slots):
                if kind:
                    slot, counts = packed >> 8 * index & 255, uses[SCALAR if kind == SCALAR else VECTOR]
                    counts[slot] = counts.get(slot, 0) + 1
        names: Names = {}
        for kind, counts in uses.items():
            pins = pinned(kind)
            outside = [slot for slot in counts if slot not in pins and _is_exchangeable(kind, slot)]
            inside = [slot for slot in pins if (kind, slot) != (SCALAR, FIRST_TEMP)]
            outside.sort(key=counts.__getitem__, reverse=True)
            inside.sort(key=lambda slot: counts.get(slot, 0))
            for out, into in zip(outside, inside, strict=False):
                if counts[out] >= counts.get(into, 0) + _WORTH:
                    names[kind, out], names[kind, into] = into, out
                    size = 8 if kind == SCALAR else VECTOR_BYTES if self.upper else 32 if self.long else 16
                    self.code_.swaps.append((kind, out, into, size))
        return names

    def exchange(self) -> None:
        """Let slots change places, there or back."""
        plans, spare = self.plans, PENDING_VECTORS[0]
        if not self.names:
            return
        width = WHOLE if self.long else SSE
        for kind, out, into, size in self.code_.swaps:
            self.out += plans.copied(
                kind, into, out, width
            )  # nobody needs what is in memory of a pinned slot
            self.out += plans.move(kind, into, True, out, width)
            self.out += plans.move(kind, into, False, -1, width)
            if size == VECTOR_BYTES:
                for to, source in ((spare, out), (out, into), (into, spare)):
                    self.out += plans.copied(kind, to, source, WHOLE, _UPPER)

    def lengths(self) -> tuple[int, ...]:
        return (len(self.out), len(self.later), *map(len, self.code_.growing()))

    def cut(self, lengths: tuple[int, ...]) -> None:
        """Forget what was made since."""
        del self.out[lengths[0] :], self.later[lengths[1] :]
        for part, length in zip(self.code_.growing(), lengths[2:], strict=True):
            del part[length:]


def _is_exchangeable(kind: int, slot: int) -> bool:
    if kind == SCALAR:
        return slot < REGISTERS or slot >= FIRST_TEMP
    return slot < REGISTERS or slot >= FIRST_VECTOR_TEMP
