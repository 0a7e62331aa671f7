"""What a compiled region is made of, in memory and on its way there.

At the head lie, per entry, two records of the interpreter: `enter` with no instructions to count, and the
record whose handler is the compiled code. Then what the code dispatches to when it leaves:

    base + 0    `exit`, kind STEP: the interpreter does one instruction
    base + 16   `exit`, kind BUDGET
    base + 32   per computed jump: `jump`, with the target in slot TARGET
    then        per direct way out: a pointer to a record, 8 bytes of nothing, and the `link` record that it
                points to at first

The compiled code is position-independent and refers to nothing but this, the state and the window.
"""

from __future__ import annotations

import struct

from nexus.backend.interp.layout import NEVER
from nexus.ir.state import LAST_TEMP, Exit

ENTRY = 64  # bytes of the two records of an entry
CODE_RECORD = 32  # the second one: handler, u32 nothing, u32 number of the entry, address of base
ENTRY_NUMBER, BASE_POINTER = 12, 16
STEP, SPENT, JUMPS, JUMP, WAY = 0, 16, 32, 16, 48
LINK = 16  # of a way's link record
TARGET = LAST_TEMP  # slot of the state in which an indirect jump leaves its target


class Unit:
    """A compiled region. `entries` and `ways` are guest addresses, `starts` those of its blocks, `jumps` of
    those that end with a computed jump; `accesses` are pairs of offsets into `code`: an instruction that may
    fault, and where to go on then. The code begins at offset `main`."""

    __slots__ = ("accesses", "code", "entries", "jumps", "main", "starts", "ways")

    def __init__(
        self,
        code: bytes,
        main: int,
        accesses: list[tuple[int, int]],
        entries: list[int],
        ways: list[int],
        starts: list[int],
        jumps: list[int],
    ) -> None:
        self.code = code
        self.main = main
        self.accesses = accesses
        self.entries = entries
        self.ways = ways
        self.starts = starts
        self.jumps = jumps

    def records(self, symbols: dict[str, int], at: int, code: int) -> bytes:
        """The records for host address `at` (a multiple of 16), with the code at host address `code`."""
        base = at + ENTRY * len(self.entries)
        out = bytearray()
        for number, pc in enumerate(self.entries):
            out += struct.pack("<QIIQQ", symbols["enter"], 0, 0, pc, NEVER)
            out += struct.pack("<QIIQQ", code + self.main, 0, number, base, 0)
        out += struct.pack("<QQ", symbols["exit"], Exit.STEP << 32)
        out += struct.pack("<QQ", symbols["exit"], Exit.BUDGET << 32)
        out += struct.pack("<QQ", symbols["jump"], TARGET << 8) * len(self.jumps)
        for number, pc in enumerate(self.ways):
            pointer = base + ways_at(len(self.jumps)) + WAY * number
            out += struct.pack("<QQ", pointer + LINK, 0)
            out += struct.pack("<QQQQ", symbols["link"], 0, pc, pointer)
        return bytes(out)

    def size(self) -> int:
        """Bytes of the records."""
        return ENTRY * len(self.entries) + ways_at(len(self.jumps)) + WAY * len(self.ways)

    def links(self) -> tuple[tuple[int, int, int], ...]:
        """Per way: offset of its link record from the first record, of the pointer to it, guest address."""
        first = ENTRY * len(self.entries) + ways_at(len(self.jumps))
        return tuple((first + WAY * i + LINK, first + WAY * i, pc) for i, pc in enumerate(self.ways))

    def pack(self) -> bytes:
        """The unit as bytes, for another process or a file."""
        lists = (self.entries, self.ways, self.starts, self.jumps)
        head = struct.pack("<7I", *map(len, lists), len(self.accesses), len(self.code), self.main)
        numbers = [number for part in lists for number in part]
        pairs = [offset for pair in self.accesses for offset in pair]
        return head + struct.pack(f"<{len(numbers)}Q{len(pairs)}I", *numbers, *pairs) + self.code


def unpack(data: bytes) -> Unit:
    """The unit that was packed."""
    *counts, accesses, size, main = struct.unpack_from("<7I", data)
    at = 28
    numbers = struct.unpack_from(f"<{sum(counts)}Q", data, at)
    at += 8 * len(numbers)
    flat = struct.unpack_from(f"<{2 * accesses}I", data, at)
    at += 4 * len(flat)
    code = data[at : at + size]
    if len(code) != size or at + size != len(data):
        raise ValueError("a compiled unit of the wrong length")
    parts, first = [], 0
    for count in counts:
        parts.append(list(numbers[first : first + count]))
        first += count
    return Unit(code, main, list(zip(flat[::2], flat[1::2], strict=True)), *parts)


def ways_at(jumps: int) -> int:
    """Where the ways out begin, behind base."""
    return JUMPS + JUMP * jumps
