"""The memory that the host code of one window lies in, and what lies where in it.

Host code is written through one mapping and executed through another. All of it in this process lies in one
range, by which the fault handler knows it; every window has a piece of that, with the data of its code
behind.

The first record of a block with host code leads there, so whatever leads to the records leads to host code
too. The records stay: they tell what an access that faulted was. Host code reaches a block that has none
through a few instructions that put the registers into the state and go on at its records.
"""

from __future__ import annotations

import ctypes
import os
from _thread import allocate_lock
from bisect import bisect_right

from nexus.backend.stencils import engine as stencils
from nexus.backend.stencils.code import HostCode
from nexus.backend.stencils.layout import FRONT, PIECE
from nexus.base.errors import NexusError
from nexus.machine import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus.backend.interp.engine import Interpreter
    from nexus.backend.stencils.code import Parts
    from nexus.backend.stencils.store import Stencils
    from nexus.machine.page_file import KeptBlock
    from nexus.machine.translation import Translation

_PIECES = 256
_MARGIN = 1 << 20  # neither a block nor a page of blocks has that much

_lock = allocate_lock()
_range = 0
_free: list[int] = []
_built: Stencils | None = None
_path = ""  # where they will be


def take_piece(interpreter: Interpreter) -> int:
    """The address of a piece of the range that nobody uses: PIECE bytes for code, as many for data."""
    global _range
    with _lock:
        if not _range:
            _range = host.reserve(2 * PIECE * _PIECES)
            end = _range + 2 * PIECE * _PIECES
            _free.extend(range(_range, end, 2 * PIECE))
            stencils.claim(interpreter, _range, end, 2 * PIECE)
        if not _free:
            raise host.HostMemoryError(f"more than {_PIECES} processes with code at once")
        return _free.pop()


def prepare(meanwhile: bool = False) -> None:
    """Have the stencils of this process built if they have to be; a sandboxed process could not do that
    later. With `meanwhile`, that goes on while guest code is interpreted, and after this process if it has
    to. Raises NexusError where T1 cannot run."""
    global _built, _path
    if _built is not None:
        return
    if not stencils.available():
        raise NexusError(
            "this host does not let programs set their GS base, which the engine t1 needs",
            hint="use --engine=t0",
        )
    if not meanwhile:
        _built = stencils.load()
    elif not _path:
        _path = stencils.path_of()
        _built = stencils.load_if_there(_path)
        if _built is None:
            stencils.build_meanwhile(_path)


def built() -> Stencils | None:
    """The stencils of this process, if they are built by now."""
    global _built
    if _built is None:
        if not _path:
            prepare()
        else:
            _built = stencils.load_if_there(_path)
    return _built


class Native:
    """The host code of a block: where it is, and how to get back from there to the records."""

    __slots__ = ("_code", "_parts", "address", "block", "front", "size")

    def __init__(
        self,
        block: Translation,
        address: int,
        size: int,
        front: int,
        code: HostCode | None,
        parts: Parts | None,
    ) -> None:
        """`front` is where `HostCode.bases` lead. `code`, or the `parts` of it that were kept."""
        self.block = block
        self.address = address
        self.size = size
        self.front = front
        self._code = code
        self._parts = parts

    @property
    def code(self) -> HostCode:
        if self._code is None:
            assert self._parts is not None
            self._code = HostCode.of(self._parts)
        return self._code

    @property
    def is_new(self) -> bool:
        """Was it made in this run?"""
        return self._parts is None


class HostCodes:
    """All host code of one window."""

    def __init__(self, interpreter: Interpreter, built: Stencils) -> None:
        self._piece = take_piece(interpreter)
        fd = host.create_shared("nexus-code", PIECE)
        try:
            self._writable = host.map_anywhere(PIECE, host.PROT_READ | host.PROT_WRITE, fd)
            host.map_file(self._piece, PIECE, host.PROT_READ | host.PROT_EXEC, fd, 0, True)
        finally:
            os.close(fd)
        host.protect(self._piece + PIECE, PIECE, host.PROT_READ | host.PROT_WRITE)
        self.engine = stencils.Engine(built, interpreter, self._writable, self._piece)
        self.check = built.check  # of the stencils all this is made of
        self._next = self.engine.first
        self._codes: list[int] = []  # ascending; `_natives` in parallel, including dropped blocks
        self._natives: list[Native] = []
        self._ways_back: dict[int, int] = {}  # record -> host code that goes on there

    def close(self) -> None:
        host.release(self._writable, PIECE)
        host.forget(self._piece, 2 * PIECE)
        with _lock:
            _free.append(self._piece)

    def forget(self) -> None:
        """Use the memory again; nothing may run or lead there."""
        self._next = self.engine.first
        self._codes.clear()
        self._natives.clear()
        self._ways_back.clear()

    @property
    def full(self) -> bool:
        return self._next + _MARGIN > self._piece + PIECE

    def holds(self, position: int) -> bool:
        return self._piece <= position < self._piece + 2 * PIECE

    # making ----------------------------------------------------------------------------------------

    def make(self, block: Translation) -> None:
        """Host code for a block that has none."""
        links = {pointer: (stub, target) for stub, pointer, target in block.links}
        records = ctypes.string_at(block.record, block.size)
        at = self._next
        code = self.engine.assemble(records, links, at)
        self.engine.put(code.data, at)
        self._add(Native(block, at, len(code.data), self._piece, code, None), code)
        self._advance(len(code.data))

    def place(self, code: bytes, natives: Iterable[tuple[Translation, int, int, Parts]]) -> None:
        """Put code that was kept in place: of each block where it begins, its size, and the rest."""
        at = self._next
        self.engine.put(self.engine.front(at) + code[FRONT:], at)
        for block, begin, size, parts in natives:
            native = Native(block, at + begin, size, at, None, parts)
            self._add(native, native.code if parts[6] or parts[7] else None)  # copies or constants
        self._advance(len(code))

    def _add(self, native: Native, code: HostCode | None) -> None:
        """`code` if it has data."""
        block = native.block
        if code is not None:
            self.engine.put_copies(code.copies, block.record, native.address)
            self.engine.put_constants(code.constants, native.address)
        entering = self.engine.enter.to_bytes(8, "little") + native.address.to_bytes(8, "little")
        ctypes.memmove(block.record, entering, len(entering))
        block.native = native
        self._codes.append(native.address)
        self._natives.append(native)

    def _advance(self, size: int) -> None:
        self._next += size + -size % 16

    def pack(self, natives: Iterable[Native]) -> tuple[bytes, tuple[KeptBlock, ...]]:
        """Host code to be kept, for `place`: that of some blocks behind FRONT bytes, joined where one of them
        leads to another."""
        out = bytearray(FRONT)
        begins = {}
        for native in natives:
            begins[native.block.start] = len(out)
            out += self.engine.read(native.address, native.size)
            out += bytes(-len(out) % 16)
        kept = []
        for native in natives:
            block, code = native.block, native.code
            begin = begins[block.start]
            aims = [(site, self._base(native, site) - begin) for site in code.bases]
            for site, exit, target in zip(code.sites, code.exits, code.targets, strict=True):
                aims.append((site, begins[target] - begin if target in begins else exit))
            for site, aim in aims:
                out[begin + site : begin + site + 4] = (aim - site - 4).to_bytes(4, "little", signed=True)
            kept.append((block.start, block.size, begin, native.size, code.parts()))
        return bytes(out), tuple(kept)

    def _base(self, native: Native, site: int) -> int:
        """Where a displacement leads to, as an offset into what the piece, or kept code, begins with."""
        lead = ctypes.c_int32.from_address(native.address + site).value
        return native.address + site + 4 + lead - native.front

    # joining ---------------------------------------------------------------------------------------

    def address(self, block: Translation) -> int:
        """Where host code goes to reach a block."""
        if block.native is not None:
            return block.native.address
        found = self._ways_back.get(block.record)
        if found is None:
            found = self._ways_back[block.record] = self._next
            self._advance(self.engine.put_way_back(found, block.record))
        return found

    def link(self, exit: int, block: Translation) -> None:
        """Let the jump that leads to an exit go to a block."""
        self.engine.link(self._site(exit), self.address(block))

    def unlink(self, exit: int) -> None:
        self.engine.link(self._site(exit), exit)

    def _site(self, exit: int) -> int:
        native = self._native_at(exit)
        return native.address + native.code.sites[native.code.exits.index(exit - native.address)]

    # finding ---------------------------------------------------------------------------------------

    def _native_at(self, position: int) -> Native:
        return self._natives[bisect_right(self._codes, position) - 1]

    def restore(self, position: int, state: int) -> None:
        """After a fault in host code: make the state what the block's records know."""
        if position < self._piece + PIECE:
            native = self._native_at(position)
            self.engine.restore(native.code, position - native.address, state)

    def record_at(self, position: int) -> int:
        """The record that host code, or a copied record, was made from."""
        is_data = position >= self._piece + PIECE
        native = self._native_at(position - PIECE if is_data else position)
        return native.block.record + native.code.record(position - native.address)
