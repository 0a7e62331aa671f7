"""What is known of a block's records before code is made: who still looks at flags, and which encodings
its vectors get."""

from __future__ import annotations

from nexus.backend.stencils.layout import FULL
from nexus.backend.stencils.plan import (
    CONTROLS,
    DEFERRABLE,
    FLAG_SLOTS,
    NONE,
    SCALAR,
    SETS,
    TOUCHES,
    VECTOR,
    Plan,
    Plans,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    # offset, plan, second word, bits of what follows
    Surveyed = list[tuple[int, Plan, int, int]]

NEEDED = 1  # the next record that has to do with flags needs those that are there
NAMED = 2  # it has single flags as result or operands
SEEN = 4  # somebody may look at the flags as they are after it
CLEARED = 8  # what is above its vector result is cleared next
REGISTERS = 16  # of each kind that a guest has


def survey(plans: Plans, words: memoryview) -> tuple[Surveyed, bool, bool]:
    """The records up to the links: offset, plan, second word and the bits above; whether they have to do with
    whole vector registers; and whether they get the encodings of AVX."""
    at, size = 0, 8 * len(words)
    found: Surveyed = []
    while at < size:
        plan = plans[words[at >> 3]]
        if plan.name == "link":  # these come after everything else
            break
        packed = words[(at >> 3) + 1]
        look = 0
        if plan.flags == NONE:
            rest = packed
            for kind in plan.slots:
                if kind == SCALAR and rest & 255 in FLAG_SLOTS:
                    look = NAMED
                rest >>= 8
        found.append((at, plan, packed, look))
        at += plan.size
    needed, seen = 0, SEEN
    long = writes = False
    for index in range(len(found) - 1, -1, -1):
        at, plan, packed, look = found[index]
        follows = needed | seen
        if plan.slots[:1] == (VECTOR,):
            writes = writes or packed & 255 < REGISTERS
            after, rest = found[index + 1][1:3]
            if after.name == "clear.v128" and not (packed ^ rest) & 255:
                follows |= CLEARED
        long = long or plan.long
        found[index] = at, plan, packed, look | follows
        if look & NAMED or (plan.counted and plan.imm_last):
            needed = NEEDED
        elif plan.flags != NONE and not plan.counted:
            needed = NEEDED if plan.flags == TOUCHES else 0
        shown = plan.name in CONTROLS or plan.access or not plan.shapes
        if SETS <= plan.flags < DEFERRABLE + len(FULL) and not plan.counted:
            seen = 0
        elif shown or plan.counted or plan.flags == TOUCHES or look & NAMED:
            seen = SEEN
    return found, long, long or not writes
