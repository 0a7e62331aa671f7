"""Host code of one block, and what has to be known to put it somewhere else."""

from __future__ import annotations

import marshal
from array import array
from bisect import bisect_right

from nexus.backend.stencils.layout import PIECE

TYPE_CHECKING = False
if TYPE_CHECKING:
    Parts = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]
    # the value of a slot, plus 1, 0 or -1 times that of another one, plus a constant; -1 for no slot
    Operand = tuple[int, int, int, int]
    Note = tuple[int, tuple[Operand, ...]]  # position in `layout.DEFERRED`, operands
    # the flags to be computed of all, then of some, and whether the slots are exchanged
    Difference = tuple[Note | None, Note | None, bool]


class HostCode:
    """All numbers but `targets` are offsets, into the code unless they say otherwise.

    `offsets[i]` is where the code of the record at `records[i]` (an offset in the block's records) begins.
    The displacement at `sites[i]` leads to the exit at `exits[i]` and belongs to the guest address
    `targets[i]`; those at `bases` lead to the code that a piece begins with. `copies` are records that the
    interpreter does in place, as four numbers: the offset in the data, the offset and size of the original,
    where to go on after it; `constants` are the offset in the data, in the pool that all share, and the size.
    In the code of `records[i]` the state differs from what the records know by `differences[states[i] - 1]`,
    or does not if that is 0 (`pending.py`); `swaps` are kind and numbers of the slots that are exchanged,
    and how many bytes.
    Nothing else in the code depends on where it lies."""

    __slots__ = (
        *("bases", "constants", "copies", "data", "differences", "exits", "offsets", "records", "sites"),
        *("states", "swaps", "targets"),
    )

    def __init__(self) -> None:
        self.data = bytearray()
        self.offsets = array("I")
        self.records = array("I")
        self.sites = array("I")
        self.exits = array("I")
        self.targets = array("Q")
        self.bases = array("I")
        self.copies = array("I")
        self.constants = array("I")
        self.states = array("H")
        self.differences: list[Difference] = []
        self.swaps: list[tuple[int, int, int, int]] = []

    def growing(self) -> tuple[array[int], ...]:
        """What grows with the code."""
        return self.offsets, self.records, self.states, self.bases

    def record(self, offset: int) -> int:
        """The record (its offset) that the instruction at an offset of the code, or what is at PIECE + an
        offset of the data, was made from."""
        if offset < PIECE:
            return self.records[bisect_right(self.offsets, offset) - 1]
        return self.copies[4 * self.copies[::4].index(offset - PIECE) + 1]

    def difference(self, offset: int) -> Difference | None:
        """How the state differs, at an offset of the code, from what the records know."""
        state = self.states[bisect_right(self.offsets, offset) - 1] if offset < PIECE else 0
        return self.differences[state - 1] if state else None

    def parts(self) -> Parts:
        """Everything but `data`, to be kept."""
        return (
            self.offsets.tobytes(),
            self.records.tobytes(),
            self.sites.tobytes(),
            self.exits.tobytes(),
            self.targets.tobytes(),
            self.bases.tobytes(),
            self.copies.tobytes(),
            self.constants.tobytes(),
            self.states.tobytes(),
            marshal.dumps((self.differences, self.swaps)),
        )

    @classmethod
    def of(cls, parts: Parts) -> HostCode:
        """What was kept; `data` stays empty."""
        found = cls()
        found.offsets.frombytes(parts[0])
        found.records.frombytes(parts[1])
        found.sites.frombytes(parts[2])
        found.exits.frombytes(parts[3])
        found.targets.frombytes(parts[4])
        found.bases.frombytes(parts[5])
        found.copies.frombytes(parts[6])
        found.constants.frombytes(parts[7])
        found.states.frombytes(parts[8])
        found.differences, found.swaps = marshal.loads(parts[9])
        return found
