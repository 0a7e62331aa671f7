"""Copying stencils one behind the other, with their holes filled; jumps, and what lies out of the way."""

from __future__ import annotations

import struct

from nexus.backend.stencils.code import HostCode
from nexus.backend.stencils.layout import PIECE, PIN_OF, VECTOR_PIN_OF
from nexus.backend.stencils.plan import AVX, INDEXED, SCALAR, SSE, VECTOR, WHOLE, Plan, place
from nexus.ir.state import SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.code import Difference
    from nexus.backend.stencils.plan import Choice, Plans
    from nexus.backend.stencils.store import Stencil

    # offset of a pointer in the records -> offset of its link record, target
    Links = dict[int, tuple[int, int]]
    Names = dict[tuple[int, int], int]

QUAD = (1 << 64) - 1
JCC = 6  # bytes
RECORD = 16
_NOPS = (b"", b"\x90", b"\x66\x90", b"\x0f\x1f\x00")
_CONSTANT = 16
_ZERO = SLOTS["zero"]
PLAIN: Difference = (None, None, False)


class Cold:
    """What lies behind the code of a block, reached by the displacement at `site`: a control stencil, made
    of the record at `place`, that goes on at `back` if that is not negative; and how the state differs there
    from what the records know."""

    __slots__ = ("back", "difference", "name", "names", "place", "site", "values")

    def __init__(
        self,
        site: int,
        place: int,
        name: str,
        values: dict[str, int],
        back: int,
        difference: Difference,
        names: Names,
    ) -> None:
        self.site = site
        self.place = place
        self.name = name
        self.values = values
        self.back = back
        self.difference = difference
        self.names = names


class Emitter:
    """The code of one block so far. `own`: what a piece begins with, by name; `names`: the slots that are
    exchanged, by kind and number; `long`: it has to do with whole vector registers; `avx`: it has the
    encodings of AVX where it can (`encodings.py`)."""

    __slots__ = (
        *("at", "avx", "code_", "constants", "data", "differences", "later", "links", "long", "names"),
        *("out", "own", "place", "plans", "skips", "words"),
    )

    def __init__(self, plans: Plans, own: dict[str, int], records: bytes, links: Links, at: int) -> None:
        self.plans = plans
        self.own = own
        self.words = memoryview(records).cast("Q")
        self.links = links
        self.at = at
        self.code_ = HostCode()
        self.out = self.code_.data
        self.data = 0  # bytes of it so far
        self.constants: dict[int, int] = {}  # place in the pool -> in the data
        self.later: list[Cold] = []
        self.skips: list[int] = []  # displacements that lead to where `land` is
        self.names: Names = {}
        self.differences: dict[Difference, int] = {PLAIN: 0}
        self.place = 0  # of the record at hand
        self.long = self.avx = False

    def difference(self) -> Difference:
        """How the state differs here from what the records know."""
        raise NotImplementedError

    def branch(self, stencil: Stencil, values: dict[str, int], at: int, reload: bytes = b"") -> None:
        """A stencil that goes to `taken` or on, and the jump that is taken then. `reload` only moves, which
        keeps what the conditional jump at the end looks at."""
        raise NotImplementedError

    def mark(self, place: int, difference: Difference) -> None:
        """What follows is made of the record at `place`."""
        result, known = self.code_, self.differences
        result.offsets.append(len(self.out))
        result.records.append(place)
        if difference not in known:
            known[difference] = len(known)
            result.differences.append(difference)
        result.states.append(known[difference])

    def stencil(self, plan: Plan, chosen: Choice, at: int, slots: tuple[int, ...], immediate: int) -> None:
        made, spilled, back = chosen
        for kind, slot in spilled:
            self.out += self.plans.move(kind, slot, True, -1, WHOLE if self.avx or plan.long else SSE)
        values = {"h_imm": immediate}
        for hole, kind, slot in zip(("h_d", "h_a", "h_b", "h_c"), plan.slots, slots, strict=False):
            values[hole] = place(kind, slot)
        if plan.size > RECORD:
            values["h_lit"] = self.words[(at >> 3) + 2]
        # where nothing has to do with whole registers, AVX's code only changes temporaries
        width = WHOLE if self.long or plan.long else AVX if self.avx and not plan.borrows else SSE
        reload = b"".join(self.plans.move(kind, slot, False, -1, width) for kind, slot in back)
        if plan.branches:
            self.branch(made, values, at, reload)
            return
        self.emit(made, values, -1, plan.wild if plan.access == INDEXED else "")
        self.out += reload

    def emit(self, stencil: Stencil, values: dict[str, int], pointer: int = -1, cold: str = "") -> None:
        """Append a stencil. `taken` leads to the exit for the pointer, to the stencil `cold` or, for "skip",
        to where `land` is called."""
        code, holes = stencil
        out, own = self.out, self.own
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
                there = PIECE + self.constant(more >> 8)
                struct.pack_into("<i", out, where, there - (where + 4 + (more & 255)))
            elif what == "taken":
                if pointer >= 0:
                    self.exit(where, pointer)
                elif cold == "skip":
                    self.skips.append(where)
                else:
                    self.cold(where, cold, values)
            elif size == 4:
                struct.pack_into("<i", out, where, values[what] + more)
            elif size == 1:
                out[where] = values[what] + more & 255
            else:
                struct.pack_into("<Q", out, where, values[what] + more & QUAD)

    def land(self) -> None:
        """Where what was to be skipped ends."""
        for site in self.skips:
            self.aim(site, len(self.out))
        self.skips.clear()

    def aim(self, site: int, target: int) -> None:
        """Let a displacement lead to an offset of the code."""
        struct.pack_into("<i", self.out, site, target - site - 4)

    def constant(self, place: int) -> int:
        """Where in the data the constant is that has this place in the pool."""
        if place not in self.constants:
            self.data += -self.data % _CONSTANT
            self.constants[place] = self.data
            self.code_.constants.extend((self.data, place, _CONSTANT))
            self.data += _CONSTANT
        return self.constants[place]

    # jumps -----------------------------------------------------------------------------------------

    def jump(self, pointer: int) -> None:
        """Go to a block that may not be there yet."""
        self.out += _NOPS[-(self.at + len(self.out) + 1) % 4] + b"\xe9\0\0\0\0"
        self.exit(len(self.out) - 4, pointer)

    def exit(self, site: int, pointer: int) -> None:
        """A displacement leads to another block."""
        self.cold(site, "link", {"h_lit": self.links[pointer][1] & QUAD})

    def cold(self, site: int, name: str, values: dict[str, int]) -> None:
        back = len(self.out) if name == "settle" else -1
        self.later.append(Cold(site, self.place, name, values, back, self.difference(), self.names))

    # moving ----------------------------------------------------------------------------------------

    def store(self, slot: int, number: int) -> None:
        """A constant into a slot that is not pinned."""
        self.emit(self.plans.special("const.i64", "m"), {"h_d": 8 * slot, "h_imm": number})

    def copy(self, slot: int, source: int) -> None:
        """One slot into another one that is not pinned."""
        if source == _ZERO:
            self.store(slot, 0)
        elif source in PIN_OF:
            self.out += self.plans.move(SCALAR, source, True, slot)
        else:
            self.out += self.plans.copied(SCALAR, slot, source)

    def copy_vector(self, slot: int, source: int) -> None:
        """The same for the lower half of a vector slot."""
        width = AVX if self.avx else SSE
        if source in VECTOR_PIN_OF:
            self.out += self.plans.move(VECTOR, source, True, slot, width)
        else:
            self.out += self.plans.copied(VECTOR, slot, source, width)
