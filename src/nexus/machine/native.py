"""Guest code as host code: the translations of T1.

Each block has its records first, as on T0, and host code made from them when it is reached. The records stay:
they tell what an access that faulted was, and the interpreter does single steps with them.

Host code is written through one mapping and executed through another. All of it in this process lies in one
range, by which the fault handler knows it; every window has a piece of that.
"""

from __future__ import annotations

import ctypes
import os
from _thread import allocate_lock
from bisect import bisect_right

from nexus.backend.interp.engine import Lookup
from nexus.backend.interp.layout import LOOKUP_BYTES
from nexus.backend.stencils import engine as stencils
from nexus.base.errors import NexusError
from nexus.machine import host
from nexus.machine.translation import Translations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.engine import Interpreter
    from nexus.backend.stencils.assemble import HostCode
    from nexus.machine.translation import Translation
    from nexus.machine.window import Window

PIECE = 64 << 20  # host code of one window
_PIECES = 256
_DATA = 32 << 20  # what the host code of one window refers to
_MARGIN = 1 << 20  # no block has that much of either

_lock = allocate_lock()
_range = 0
_free: list[int] = []
_built: stencils.Stencils | None = None


def take_piece(interpreter: Interpreter) -> int:
    """The address of a piece of the range that nobody uses."""
    global _range
    with _lock:
        if not _range:
            _range = host.reserve(PIECE * _PIECES)
            _free.extend(range(_range, _range + PIECE * _PIECES, PIECE))
            stencils.claim(interpreter, _range, _range + PIECE * _PIECES, PIECE)
        if not _free:
            raise host.HostMemoryError(f"more than {_PIECES} processes with code at once")
        return _free.pop()


def prepare() -> stencils.Stencils:
    """The stencils of this process, built if they have to be when first asked for; a sandboxed process could
    not find them later. Raises NexusError where T1 cannot run."""
    global _built
    if _built is not None:
        return _built
    if not stencils.available():
        raise NexusError(
            "this host does not let programs set their GS base, which the engine t1 needs",
            hint="use --engine=t0",
        )
    _built = stencils.load()
    return _built


class Native:
    """The host code of a block: where it is, and how to get back from there to the records."""

    __slots__ = ("address", "block", "code")

    def __init__(self, block: Translation, address: int, code: HostCode) -> None:
        self.block = block
        self.address = address
        self.code = code


class NativeTranslations(Translations):
    """All translations of one window, with host code."""

    def __init__(self, window: Window, engine: Interpreter) -> None:
        built = prepare()
        super().__init__(window, engine)
        self._piece = take_piece(engine)
        fd = host.create_shared("nexus-code", PIECE)
        try:
            self._writable = host.map_anywhere(PIECE, host.PROT_READ | host.PROT_WRITE, fd)
            host.map_file(self._piece, PIECE, host.PROT_READ | host.PROT_EXEC, fd, 0, True)
        finally:
            os.close(fd)
        self._stencils = stencils.Engine(built, engine, self._writable, self._piece)
        self._data = host.allocate(_DATA)
        self._once_memory = host.allocate(LOOKUP_BYTES)
        self.lookup_once = Lookup(self._once_memory)  # stays empty: records and host code must not mix
        self._next_code, self._next_data = self._stencils.first, self._data
        self._forget_code()

    def close(self) -> None:
        super().close()
        host.release(self._writable, PIECE)
        host.forget(self._piece, PIECE)
        host.release(self._data, _DATA)
        host.release(self._once_memory, LOOKUP_BYTES)
        with _lock:
            _free.append(self._piece)

    def find(self, pc: int) -> Translation:
        block = super().find(pc)
        if block.entry == block.record:
            if (
                self._next_code + _MARGIN > self._piece + PIECE
                or self._next_data + _MARGIN > self._data + _DATA
            ):
                self.drop_all()
                block = super().find(pc)
            self._make(block)
        return block

    def _make(self, block: Translation) -> None:
        """Host code for a block."""
        links = {pointer: (stub, target) for stub, pointer, target in block.links}
        records = ctypes.string_at(block.record, block.size)
        at, entry = self._next_code, self._next_data
        code, data = self._stencils.assemble(records, links, at, entry + 16)
        self._stencils.put(code, at)
        ctypes.memmove(
            entry,
            self._stencils.enter.to_bytes(8, "little") + at.to_bytes(8, "little") + data,
            16 + len(data),
        )
        for site, exit in code.sites:
            self._sites[at + exit] = at + site
        for copy, record in code.copies.items():
            self._copies[copy] = block.record + record
        self._codes.append(at)
        self._natives.append(Native(block, at, code))
        self._next_code = at + len(code.data) + -len(code.data) % 16
        self._next_data = entry + 16 + len(data) + -len(data) % 16
        block.entry = entry
        self._code_of[entry] = at

    def link(self, stub: int, target: Translation) -> None:
        self._stencils.link(self._sites[stub], self._code_of[target.entry])
        target.incoming.append(stub)

    def _unlink(self, exit: int) -> None:
        self._stencils.link(self._sites[exit], exit)

    def remember(self, block: Translation) -> None:
        self.lookup.add(block.start, self._code_of[block.entry])

    def record_at(self, position: int) -> int:
        """From a host instruction, or a record that the interpreter did in its place."""
        if position in self._copies:
            return self._copies[position]
        index = bisect_right(self._codes, position) - 1
        if not self._piece <= position < self._next_code or index < 0:
            return position  # of a block that was run once
        native = self._natives[index]
        inside = bisect_right(native.code.offsets, position - native.address) - 1
        return native.block.record + native.code.records[inside]

    def drop_all(self) -> None:
        super().drop_all()
        self._forget_code()

    def _forget_code(self) -> None:
        self._next_code = self._stencils.first
        self._next_data = self._data
        self._sites: dict[int, int] = {}  # exit of host code -> the displacement that leads to it
        self._copies: dict[int, int] = {}
        self._codes: list[int] = []  # ascending; `_natives` in parallel, including dropped blocks
        self._natives: list[Native] = []
        self._code_of: dict[int, int] = {}
