"""What translating guest code costs, by step, on the code of a DLL.

    python bench/translation.py FILE.dll [INSTRUCTIONS]

Every function that the DLL's exception directory names is cut into basic blocks as the vCPU does it, without
following branches; each step is timed over all of them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What is measured is this checkout, whatever is installed: hence the imports below this line.
sys.path[:0] = [os.path.join(ROOT, "src")]

from nexus.backend.interp import engine as interp  # noqa: E402
from nexus.ir.rewrite import fold, simplify_flags  # noqa: E402
from nexus.ir.values import Block  # noqa: E402
from nexus.isa.x86.decode import instructions  # noqa: E402
from nexus.isa.x86.semantics import lower  # noqa: E402
from nexus.system.needs import code_ranges, read_image  # noqa: E402

PLACE = 0x7000_0000_0000  # records are only made, not run, so it does not matter where they would lie
LONGEST_BLOCK = 100


class Clock:
    """Processor time of each step, in seconds."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._last = time.process_time()

    def done(self, step: str) -> None:
        now = time.process_time()
        self.steps[step] = self.steps.get(step, 0.0) + now - self._last
        self._last = now


def lowered(code: bytes, address: int) -> Iterator[tuple[int, Block]]:
    """(instructions, IR) of each block of a function."""
    block, count = Block(address), 0
    for instruction in instructions(code, address):
        ended = lower(instruction, block)
        count += 1
        if not ended and count < LONGEST_BLOCK and instruction.next_ip < address + len(code):
            continue
        if not ended:
            block.goto(instruction.next_ip)
        yield count, block
        block, count = Block(instruction.next_ip), 0


def main(path: str, wanted: int) -> None:
    engine, image = interp.load(), read_image(path)
    engine.assemble(next(block for _, block in lowered(b"\xc3", 0)), PLACE)  # loads what is loaded late
    total = blocks = 0
    clock = Clock()
    for start, end in code_ranges(image):
        for count, block in lowered(image.read(start, end - start), image.image_base + start):
            clock.done("decode and lower")
            fold(block)
            clock.done("fold")
            simplify_flags(block)
            clock.done("flags")
            engine.assemble(block, PLACE)
            block.drop()
            clock.done("assemble")
            total, blocks = total + count, blocks + 1
        if total >= wanted:
            break
    for name, seconds in clock.steps.items():
        print(f"{name:<18}{seconds / total * 1e6:6.2f} us per guest instruction")
    print(f"{total} instructions in {blocks} blocks")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 12_000)
