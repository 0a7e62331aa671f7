"""T2 as tests use it: the same small machine as `t0.T0`, but a block is compiled as a region of its own."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache

from nexus.backend.jit.bounds import Room
from nexus.backend.jit.build import compile_region
from nexus.backend.jit.region import Region
from nexus.ir.values import Block
from nexus.machine import host
from nexus.machine.compiled import arena
from nexus.machine.window import GUARDS
from t0 import MEMORY_BASE, MEMORY_SIZE, T0, TOP


class T2(T0):
    """Runs blocks as compiled code, in a window with guards as wide as it needs them."""

    def __init__(self) -> None:
        super().__init__()
        guard = GUARDS[0]
        window = host.reserve(guard + TOP + guard) + guard
        host.protect(window + MEMORY_BASE, MEMORY_SIZE, mmap.PROT_READ | mmap.PROT_WRITE)
        self.memory = (ctypes.c_char * MEMORY_SIZE).from_address(window + MEMORY_BASE)
        self._machine["window"] = window

    def place(self, block: Block, offset: int = 0) -> int:
        unit = compile_region(Region(block.start, {block.start: block}), Room(TOP, GUARDS[0]))
        code = arena(self.engine).put(unit.code, unit.accesses)
        assert code is not None
        at = self.records + offset
        records = unit.records(self.engine.symbols, at, code)
        self.records_area[offset : offset + len(records)] = records
        return at


@cache
def shared() -> T2:
    """One T2 for all tests of a process."""
    return T2()
