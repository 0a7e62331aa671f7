"""T1 as tests use it: the same small machine as `t0.T0`, but blocks run as host code."""

from __future__ import annotations

import os
from functools import cache

from nexus.backend.stencils import engine as stencils
from nexus.backend.stencils.layout import PIECE, TABLE_AT
from nexus.ir.state import SLOTS, Exit
from nexus.ir.values import Block
from nexus.machine import host, native
from t0 import T0, TOP, anonymous

CODE_BYTES = 1 << 20


class T1(T0):
    """Runs blocks as host code; the records of the last one stay in `records`."""

    def __init__(self) -> None:
        super().__init__()
        fd = host.create_shared("test-code", CODE_BYTES)
        write = host.map_anywhere(CODE_BYTES, host.PROT_READ | host.PROT_WRITE, fd)
        code_at = native.take_piece(self.engine)
        host.map_file(code_at, CODE_BYTES, host.PROT_READ | host.PROT_EXEC, fd, 0, True)
        os.close(fd)
        host.protect(code_at + PIECE, CODE_BYTES, host.PROT_READ | host.PROT_WRITE)
        self.built = stencils.load()
        self.t1 = stencils.Engine(self.built, self.engine, write, code_at)
        self._entry, self.entry_at = anonymous(1 << 12)

    def place(self, block: Block, offset: int = 0) -> int:
        record = super().place(block, offset)
        self.links = links = {
            int.from_bytes(self.code.data[stub + 24 : stub + 32], "little") - record: (stub, target)
            for stub, target in self.code.links.items()
        }
        at = self.t1.first + offset
        self.host_code = self.t1.assemble(self.code.data, links, at)
        self.t1.put(self.host_code.data, at)
        self.t1.put_copies(self.host_code.copies, record, at)
        self.t1.put_constants(self.host_code.constants, at)
        self._entry[:16] = self.t1.enter.to_bytes(8, "little") + at.to_bytes(8, "little")
        return self.entry_at

    def go(self, record: int) -> dict[int, int]:
        self.engine.run(self.state, record)
        if self.slots[SLOTS["exit"]] == Exit.FAULT:
            position = self.slots[SLOTS["exit_at"]] - self.t1.first
            self.t1.restore(self.host_code, position, self.state)
            record = self.records + self.host_code.record(position)
            self.slots[SLOTS["exit_at"]] = record
            if self.slots[SLOTS["fault_address"]] == self.slots[SLOTS["window"]] + TOP:
                self.engine.run(self.state, record)  # perhaps only its base was outside, see `source.py`
        if self.slots[SLOTS["exit"]] == Exit.LOOKUP:
            self.slots[SLOTS["exit_arg"]] -= TABLE_AT  # the only one that T0 has not got
        return self.result()


@cache
def shared() -> T1:
    """One T1 for all tests of a process."""
    return T1()
