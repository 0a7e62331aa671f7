"""Single blocks on T0 and T1, with nothing around them: no vCPU, no kernel, a window of a few pages.

For comparing engines with each other and with the host: a block is assembled once and run from any number of
states. `nexus fuzz isa` and the tests are made of it.
"""

from __future__ import annotations

import ctypes
import os

from nexus.backend.interp.engine import Lookup
from nexus.backend.interp.layout import LOOKUP_BYTES
from nexus.backend.stencils import engine as stencils
from nexus.backend.stencils.layout import PIECE
from nexus.ir.state import SCALAR_SLOTS, SLOTS, STATE_BYTES, Exit
from nexus.machine import faults, host, native
from nexus.machine.window import GUARDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.engine import Fault
    from nexus.ir.values import Block

RECORD_BYTES = 1 << 20
_CODE_BYTES = 1 << 20
_BUDGET = 1 << 40
_WINDOW, _TOP, _LOOKUP, _ZERO = (SLOTS[name] for name in ("window", "top", "lookup", "zero"))


class BareT0:
    """Runs blocks on the interpreter; guest memory is `size` bytes at `base`, nothing else below `top`."""

    def __init__(self, base: int, size: int, top: int) -> None:
        self.engine = faults.acquire()
        self.window = host.reserve(top + 2 * GUARDS[0]) + GUARDS[0]
        host.protect(self.window + base, size, host.PROT_READ | host.PROT_WRITE)
        self.memory = (ctypes.c_char * size).from_address(self.window + base)
        self.state = host.allocate(STATE_BYTES)
        self.slots = (ctypes.c_uint64 * SCALAR_SLOTS).from_address(self.state)
        self.top = top
        self.records = host.allocate(RECORD_BYTES)
        self.lookup = Lookup(host.allocate(2 * LOOKUP_BYTES))  # T1 has one of its own behind it
        Lookup(self.lookup.address + LOOKUP_BYTES)
        self.links: dict[int, int] = {}

    def place(self, block: Block, offset: int = 0) -> int:
        """Assemble a block, over the one that was there; returns where to start it."""
        at = self.records + offset
        code = self.engine.assemble(block, at)
        ctypes.memmove(at, bytes(code.data), len(code.data))
        self.links = code.links
        self.size = len(code.data)
        return at

    def start(self, entry: int) -> None:
        """Run from an entry with what is in the state until an exit."""
        slots = self.slots
        slots[_WINDOW], slots[_TOP], slots[_LOOKUP], slots[_ZERO] = (
            self.window,
            self.top,
            self.lookup.address,
            0,
        )
        slots[SLOTS["budget"]] = _BUDGET
        self.engine.run(self.state, entry)

    def fault(self) -> Fault:
        """The access that ended the last run with FAULT."""
        return self.engine.fault(self.state)


class BareT1(BareT0):
    """Runs blocks as host code; the records of the last one stay, for telling what faulted."""

    def __init__(self, base: int, size: int, top: int) -> None:
        super().__init__(base, size, top)
        built = native.built()
        assert built is not None
        fd = host.create_shared("bare-code", _CODE_BYTES)
        write = host.map_anywhere(_CODE_BYTES, host.PROT_READ | host.PROT_WRITE, fd)
        code_at = native.take_piece(self.engine)
        host.map_file(code_at, _CODE_BYTES, host.PROT_READ | host.PROT_EXEC, fd, 0, True)
        host.protect(code_at + PIECE, _CODE_BYTES, host.PROT_READ | host.PROT_WRITE)
        os.close(fd)
        self.t1 = stencils.Engine(built, self.engine, write, code_at)
        self._entry = host.allocate(host.PAGE)

    def place(self, block: Block, offset: int = 0) -> int:
        record = super().place(block, offset)
        records = ctypes.string_at(record, self.size)
        links = {
            int.from_bytes(records[stub + 24 : stub + 32], "little") - record: (stub, target)
            for stub, target in self.links.items()
        }
        at = self.t1.first + offset
        self.code, self._code_at = self.t1.assemble(records, links, at), at
        self.t1.put(self.code.data, at)
        self.t1.put_copies(self.code.copies, record, at)
        self.t1.put_constants(self.code.constants, at)
        entry = self.t1.enter.to_bytes(8, "little") + at.to_bytes(8, "little")
        ctypes.memmove(self._entry, entry, len(entry))
        return self._entry

    def start(self, entry: int) -> None:
        super().start(entry)
        slots = self.slots
        if slots[SLOTS["exit"]] == Exit.FAULT:
            position = slots[SLOTS["exit_at"]] - self._code_at
            self.t1.restore(self.code, position, self.state)
            record = self.records + self.code.record(position)
            slots[SLOTS["exit_at"]] = record
            if slots[SLOTS["fault_address"]] == self.window + self.top:
                self.engine.run(
                    self.state, record
                )  # perhaps only its base was outside (`stencils/source.py`)
