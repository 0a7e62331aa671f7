"""Compiling a region. Run this in a process of its own: an error of LLVM ends the process it happens in."""

from __future__ import annotations

import struct

from nexus.backend.jit import access, lower
from nexus.backend.jit.region import COPY
from nexus.backend.jit.unit import Unit
from nexus.backend.link import link
from nexus.backend.llvm.compile import compile_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.jit.bounds import Room
    from nexus.backend.jit.region import Region


def compile_region(region: Region, room: Room) -> Unit:
    """Lower and compile; raises Unfit."""
    text, ways = lower.lower(region, room)
    image = link(compile_object(text, avx=True))
    at, size = image.sections.get(access.ACCESSES, (0, 0))
    accesses = []
    for offset in range(at, at + size, 8):
        at_access, landing = struct.unpack_from("<ii", image.code, offset)
        accesses.append((offset + at_access, offset + 4 + landing))
    accesses.sort()
    starts = [block.start for number, block in region.blocks.items() if number < COPY]
    main = image.symbols["unit"]
    return Unit(image.code, main, accesses, region.entries, ways, starts, region.jumps)
