"""Guest code as records of the interpreter, kept while the guest's bytes stay what they were.

A block is translated when it is first reached, from executable pages only, and ends at a branch or at the
end of its page (an instruction that crosses a page has a block of its own). Pages with translations are
locked (`Window.lock`): a write to one, like any change of its mapping, drops all its blocks and unlinks them.
Memory of dropped blocks is reused only when everything is dropped, so a vCPU can finish what it is in.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right

from nexus.backend.interp.assemble import OutOfSlots
from nexus.backend.interp.engine import Lookup
from nexus.backend.interp.records import LOOKUP_BYTES
from nexus.base.errors import GuestFault
from nexus.ir.rewrite import rewrite
from nexus.ir.values import Block
from nexus.isa.x86.decode import LONGEST, decode, instructions
from nexus.isa.x86.semantics import lower
from nexus.machine import host
from nexus.machine.host import PAGE, HostMemoryError
from nexus.machine.window import CODE, EXECUTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.assemble import Code
    from nexus.backend.interp.engine import Interpreter
    from nexus.machine.window import Window

ARENA_BYTES = 256 << 20
_ONCE_BYTES = 1 << 20  # at the start of the arena: the block that is run once and then forgotten
_LARGEST = 1 << 20  # no block has that many bytes of records
_INSTRUCTIONS = 100  # in a block, at most


class FetchFault(Exception):
    """The guest went to an address that it may not execute."""

    def __init__(self, pc: int, address: int) -> None:
        super().__init__(f"{address:#x} cannot be executed")
        self.pc = pc
        self.address = address


class Translation:
    """One block: guest addresses, records, the pages it was made from, the link records that lead to it."""

    __slots__ = ("addresses", "incoming", "offsets", "pages", "record", "start")

    def __init__(self, code: Code, record: int, pages: tuple[int, ...]) -> None:
        self.start = code.start
        self.addresses = code.addresses
        self.offsets = code.offsets
        self.record = record
        self.pages = pages
        self.incoming: list[int] = []


class Translations:
    """All translations of one window."""

    def __init__(self, window: Window, engine: Interpreter) -> None:
        self.window = window
        self.engine = engine
        self.generation = 0  # counts how often everything was dropped
        self._arena_bytes = ARENA_BYTES
        self._arena = host.allocate(self._arena_bytes)
        self._lookup_memory = host.allocate(LOOKUP_BYTES)
        self.lookup = Lookup(self._lookup_memory)
        self._next = self._arena + _ONCE_BYTES
        self._blocks: dict[int, Translation] = {}
        self._pages: dict[int, list[Translation]] = {}
        self._records: list[int] = []  # ascending; `_owners` in parallel, including dropped blocks
        self._owners: list[Translation] = []
        self._once: Translation | None = None
        window.on_code_write = self._drop_page
        window.on_change.append(self._drop_range)

    def close(self) -> None:
        self.window.on_code_write = None
        self.window.on_change.remove(self._drop_range)
        for page in list(self._pages):
            self._drop_page(page)
            self.window.unlock(page, CODE)
        host.release(self._arena, self._arena_bytes)
        host.release(self._lookup_memory, LOOKUP_BYTES)

    # finding ---------------------------------------------------------------------------------------

    def find(self, pc: int) -> Translation:
        """The block at a guest address, translated now if it has to be; raises FetchFault."""
        block = self._blocks.get(pc)
        return block if block is not None else self._translate(pc)

    def once(self, pc: int, instructions: int, locked: bool) -> int:
        """Translate at most so many instructions to be run once; returns their record.

        Without `locked`, a write to the page they come from is not seen: for a single instruction, which may
        overwrite itself.
        """
        block, pages = self._lower(pc, instructions)
        if locked:
            self._lock(pages)
        code = self.engine.assemble(block, self._arena)
        ctypes.memmove(self._arena, code.data, len(code.data))
        self._once = Translation(code, self._arena, pages)
        return self._arena

    def locate(self, record: int) -> tuple[int, int]:
        """The guest address of the instruction a record belongs to, and how many of its block follow it."""
        if record < self._arena + _ONCE_BYTES:
            owner = self._once
        else:
            owner = self._owners[bisect_right(self._records, record) - 1]
        assert owner is not None
        index = max(bisect_right(owner.offsets, record - owner.record) - 1, 0)
        return owner.addresses[index], len(owner.addresses) - index - 1

    def link(self, stub: int, target: Translation) -> None:
        """Let a link record's branch go to a block directly from now on."""
        self.engine.link(stub, target.record)
        target.incoming.append(stub)

    # making ----------------------------------------------------------------------------------------

    def _translate(self, pc: int) -> Translation:
        limit = _INSTRUCTIONS
        while True:
            block, pages = self._lower(pc, limit)
            rewrite(block)
            if self._next + _LARGEST > self._arena + self._arena_bytes:
                self.drop_all()
            self._lock(pages)
            try:
                code = self.engine.assemble(block, self._next)
                break
            except OutOfSlots:
                if limit == 1:
                    raise
                limit //= 2
        found = Translation(code, self._next, pages)
        ctypes.memmove(self._next, code.data, len(code.data))
        self._next += len(code.data)
        self._records.append(found.record)
        self._owners.append(found)
        self._blocks[pc] = found
        for page in pages:
            self._pages[page].append(found)
        return found

    def _lower(self, pc: int, limit: int) -> tuple[Block, tuple[int, ...]]:
        """The IR of the instructions at `pc`, and the pages they are in."""
        page = pc & -PAGE
        pages: tuple[int, ...] = (page,)
        code = self._fetch(pc, pc, page + PAGE - pc)
        block = Block(pc)
        at = pc
        for instruction in instructions(code, pc):
            at = instruction.next_ip
            if lower(instruction, block):
                return block, pages
            limit -= 1
            if not limit:
                break
        if at == pc:
            code += self._fetch(pc, page + PAGE, LONGEST)
            pages = (page, page + PAGE)
            instruction = decode(code, pc)
            if lower(instruction, block):
                return block, pages
            at = instruction.next_ip
        block.goto(at)
        return block, pages

    def _fetch(self, pc: int, address: int, size: int) -> bytes:
        if not (self.window.access(address) or 0) & EXECUTE:
            raise FetchFault(pc, address)
        try:
            return self.window.read(address, size)
        except GuestFault:  # a page beyond the end of its file
            raise FetchFault(pc, address) from None

    def _lock(self, pages: tuple[int, ...]) -> None:
        for page in pages:
            if page not in self._pages:
                try:
                    self.window.lock(page, CODE)
                except HostMemoryError:
                    self.drop_all()
                    self.window.lock(page, CODE)
                self._pages[page] = []

    # dropping --------------------------------------------------------------------------------------

    def _drop_page(self, page: int) -> None:
        """The page's lock is gone already."""
        for block in self._pages.pop(page, ()):
            if self._blocks.get(block.start) is block:
                del self._blocks[block.start]
                self.lookup.remove(block.start)
                for stub in block.incoming:
                    self.engine.unlink(stub)

    def _drop_range(self, start: int, end: int) -> None:
        pages = self._pages
        if (end - start) // PAGE < len(pages):
            doomed = [page for page in range(start, end, PAGE) if page in pages]
        else:
            doomed = [page for page in pages if start <= page < end]
        for page in doomed:
            self.window.unlock(page, CODE)
            self._drop_page(page)

    def drop_all(self) -> None:
        """Forget every block and reuse the memory; no vCPU may be running."""
        for page in self._pages:
            self.window.unlock(page, CODE)
        self._pages.clear()
        self._blocks.clear()
        self._records.clear()
        self._owners.clear()
        self.lookup.clear()
        self._next = self._arena + _ONCE_BYTES
        self.generation += 1
