"""Guest code as records of the interpreter, kept while the guest's bytes stay what they were.

A block is translated when it is first reached, from executable pages only, and ends at a branch or at the
end of its page (an instruction that crosses a page has a block of its own). Pages with translations are
locked (`Window.lock`): a write to one, like any change of its mapping, drops all its blocks and unlinks them.
Memory of dropped blocks is reused only when everything is dropped, so a vCPU can finish what it is in.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right

from nexus.backend.interp.engine import Lookup
from nexus.backend.interp.layout import COUNT, LOOKUP_BYTES, NEVER, OutOfSlots
from nexus.machine import host
from nexus.machine.host import PAGE, HostMemoryError
from nexus.machine.page_cache import PageCache
from nexus.machine.window import CODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus.backend.interp.assemble import Code
    from nexus.backend.interp.engine import Interpreter
    from nexus.machine.compiled import Hot
    from nexus.machine.native import Native
    from nexus.machine.page_cache import Saved
    from nexus.machine.page_file import KeptCode
    from nexus.machine.window import Window

ARENA_BYTES = 256 << 20
_ONCE_BYTES = 1 << 20  # at the start of the arena: the block that is run once and then forgotten
_LARGEST = 1 << 20  # no block has that many bytes of records
_INSTRUCTIONS = 100  # in a block, at most
_LOOKUPS = 4 * LOOKUP_BYTES
"""Of records, of host code, and both again empty: a block that is run once ends with its jump, and so does
everything while somebody wants to see where jumps lead."""


class Translation:
    """One block: guest addresses, records, the pages it was made from, the link records that lead to it."""

    __slots__ = (
        "addresses",
        "counted",
        "incoming",
        "links",
        "native",
        "offsets",
        "pages",
        "record",
        "size",
        "start",
    )
    saved = True  # for the next run

    def __init__(
        self,
        start: int,
        record: int,
        size: int,
        pages: tuple[int, ...],
        offsets: Sequence[int],
        addresses: Sequence[int],
        links: tuple[tuple[int, int, int], ...],
    ) -> None:
        self.start = start
        self.record = record
        self.size = size
        self.pages = pages
        self.offsets = offsets  # of the first record of each instruction, and their addresses
        self.addresses = addresses
        self.links = links  # offset of a link record, offset of the pointer that leads to it, target
        self.incoming: list[int] = []
        self.native: Native | None = None  # its host code
        self.counted = False  # has it run often once?


class Counts:
    """How many blocks were translated and taken over from the cache: as records, as host code."""

    __slots__ = ("host_code_kept", "host_code_made", "kept", "made")

    def __init__(self) -> None:
        self.made = self.kept = self.host_code_made = self.host_code_kept = 0


class Translations:
    """All translations of one window."""

    def __init__(self, window: Window, engine: Interpreter) -> None:
        self.window = window
        self.engine = engine
        self.generation = 0  # counts how often everything was dropped
        self._arena_bytes = ARENA_BYTES
        self._arena = host.allocate(self._arena_bytes)
        self._lookup_memory = host.allocate(_LOOKUPS)
        self.lookup = Lookup(self._lookup_memory)
        self.lookup_once = Lookup(self._lookup_memory + 2 * LOOKUP_BYTES)
        Lookup(self._lookup_memory + 3 * LOOKUP_BYTES)
        self._next = self._arena + _ONCE_BYTES
        self._blocks: dict[int, Translation] = {}
        self._pages: dict[int, list[Translation]] = {}
        self._records: list[int] = []  # ascending; `_owners` in parallel, including dropped blocks
        self._owners: list[Translation] = []
        self.hooks: set[int] = set()  # no block contains or is linked to these
        self.floats_alone = False  # since the guest has unmasked an exception of MXCSR
        self.floats: dict[int, tuple[int, int, int]] = {}  # blocks of one instruction that may raise it
        self._asked: set[int] = set()  # pages that the cache was asked for
        self._hooked: set[int] = set()  # pages that had a hook, whose blocks are not those of other runs
        self.counts = Counts()
        self._once: Translation | None = None
        self._first_count = NEVER
        self._cache = PageCache(window, engine)
        self.hot: Hot | None = None  # since there is something to compile
        self.watching = False  # does somebody want to see where computed jumps lead?
        window.on_code_write = self._drop_page
        window.on_change.append(self._drop_range)

    def close(self) -> None:
        if self.hot is not None:
            self.hot.close()
        if not self.floats_alone:
            pages = {
                page: [block for block in blocks if block.saved]
                for page, blocks in self._pages.items()
                if page not in self._hooked
            }
            self._cache.save(pages, self._keep)
        self._cache.close()
        self.window.on_code_write = None
        self.window.on_change.remove(self._drop_range)
        for page in self._pages:
            self.window.unlock(page, CODE)
        host.release(self._arena, self._arena_bytes)
        host.release(self._lookup_memory, _LOOKUPS)

    def hook(self, address: int) -> None:
        """Keep an address out of all blocks."""
        if address not in self.hooks:
            self.hooks.add(address)
            page = address & -PAGE
            self._hooked.add(page)
            self._drop_range(page, page + PAGE)

    def isolate_floats(self) -> None:
        """From now on, instructions that may raise an exception of MXCSR have blocks of their own, which are
        in `floats` and not linked to or from. No vCPU may be running.
        """
        self.floats_alone = True
        self.drop_all()

    # finding ---------------------------------------------------------------------------------------

    def find(self, pc: int) -> Translation:
        """The block at a guest address, translated now if it has to be; raises FetchFault."""
        block = self._blocks.get(pc)
        if block is not None:
            return block
        page = pc & -PAGE
        if page not in self._asked and not self.floats_alone and page not in self._hooked:
            self._asked.add(page)
            self._adopt(page)
            if pc in self._blocks:
                return self._blocks[pc]
        return self._translate(pc)

    def known(self, pc: int) -> Translation | None:
        """The block at a guest address, if it has been translated."""
        return self._blocks.get(pc)

    def blocks_of(self, page: int) -> list[Translation] | None:
        """The blocks made from a page; another object once the page has changed."""
        return self._pages.get(page)

    def once(self, pc: int, instructions: int, locked: bool) -> int:
        """Translate at most so many instructions to be run once; returns their record.

        Without `locked`, a write to the page they come from is not seen: for a single instruction, which may
        overwrite itself.
        """
        from nexus.machine.lowering import lower_block

        block, pages = lower_block(self.window, pc, instructions, self.hooks)
        if locked:
            self.lock(pages)
        code = self.engine.assemble(block, self._arena)
        self._once = _put(code, self._arena, pages, NEVER)
        return self._arena

    def locate(self, record: int) -> tuple[int, int]:
        """The guest address of the instruction a record belongs to, and how many of its block follow it."""
        owner = self.owner(record)
        index = max(bisect_right(owner.offsets, record - owner.record) - 1, 0)
        return owner.addresses[index], len(set(owner.addresses[index:])) - 1

    def owner(self, record: int) -> Translation:
        """The block that a record belongs to."""
        if record >= self._arena + _ONCE_BYTES:
            return self._owners[bisect_right(self._records, record) - 1]
        assert self._once is not None
        return self._once

    def link(self, stub: int, target: Translation) -> None:
        """Let a link record's branch go to a block directly from now on."""
        self.engine.link(stub, target.record)
        target.incoming.append(stub)

    def remember(self, block: Translation, table: int) -> None:
        """Let indirect jumps go to a block directly from now on; `table` is the argument of the LOOKUP."""
        self.lookup.add(block.start, block.record)

    def heat(self, block: Translation) -> None:
        """A block has run as often as its count said. It may be another one at this address afterwards."""
        count_of(block.record).value = NEVER

    def _keep(self, page: int, blocks: list[Translation]) -> KeptCode | None:
        """The host code of a page to be kept; None if there is nothing that was not kept before."""
        return None

    def restore(self, position: int, state: int) -> None:
        """After a fault at a position of the engine: the state, which lies at `state`, as records know it."""

    def record_at(self, position: int) -> int:
        """The record that the engine was at when it left with FAULT."""
        return position

    def _unlink(self, exit: int) -> None:
        self.engine.unlink(exit)

    # making ----------------------------------------------------------------------------------------

    def _translate(self, pc: int) -> Translation:
        from nexus.machine.lowering import float_result, lower_block

        limit = _INSTRUCTIONS
        while True:
            block, pages = lower_block(self.window, pc, limit, self.hooks, self.floats_alone)
            self._ensure_room()
            self.lock(pages)
            try:
                code = self.engine.assemble(block, self._next)
                break
            except OutOfSlots:
                if limit == 1:
                    raise
                limit //= 2
        block.drop()
        found = _put(code, self._next, pages, self._first_count)
        self._next += found.size
        self._add(found)
        self.counts.made += 1
        if not self.floats_alone:
            self._cache.note(found)
            return found
        result = float_result(self.window, pc)
        if result is None:
            self.floats.pop(pc, None)
        else:
            self.floats[pc] = result
            count_of(found.record).value = NEVER  # it is run alone
        return found

    def _adopt(self, page: int) -> Saved | None:
        """Take over what an earlier run translated."""
        saved = self._cache.find(page)
        if saved is None:
            return None
        self._ensure_room()
        self.lock((page,))
        data = self._cache.place(saved, self._next)
        ctypes.memmove(self._next, data, len(data))
        for start, begin, size, pages, offsets, addresses, links in saved.blocks:
            if start not in self._blocks:
                if len(pages) > 1:
                    self.lock(pages)
                self._add(Translation(start, self._next + begin, size, pages, offsets, addresses, links))
                self.counts.kept += 1
        self._next += len(data)
        return saved

    def _ensure_room(self) -> None:
        if self._next + _LARGEST > self._arena + self._arena_bytes:
            self.drop_all()

    def _add(self, block: Translation) -> None:
        self._records.append(block.record)
        self._owners.append(block)
        self._blocks[block.start] = block
        for page in block.pages:
            self._pages[page].append(block)

    def lock(self, pages: tuple[int, ...]) -> None:
        """See to it that a write to pages is noticed, since there are translations of them."""
        for page in pages:
            if page not in self._pages:
                try:
                    self.window.lock(page, CODE)
                except HostMemoryError:
                    self.drop_all()
                    self.window.lock(page, CODE)
                self._pages[page] = []

    def place(self, size: int) -> int:
        """The host address of room for so many bytes of records."""
        at = self._next
        self._next += size + -size % 16
        return at

    def replace(self, block: Translation) -> None:
        """Let a block take the place of the one at the same address; its pages have translations already."""
        old = self._blocks.get(block.start)
        if old is not None:
            self._leave(old)
        self._add(block)

    def _leave(self, block: Translation) -> None:
        """Nothing leads to a block any more."""
        del self._blocks[block.start]
        self.lookup.remove(block.start)
        for stub in block.incoming:
            self._unlink(stub)

    # dropping --------------------------------------------------------------------------------------

    def _drop_page(self, page: int) -> None:
        """The page's lock is gone already."""
        self._asked.discard(page)
        for block in self._pages.pop(page, ()):
            if self._blocks.get(block.start) is block:
                self._leave(block)
        if self.hot is not None:
            self.hot.forget(page)

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
        self._asked.clear()
        self._blocks.clear()
        self._records.clear()
        self._owners.clear()
        self.floats.clear()
        self.lookup.clear()
        self._next = self._arena + _ONCE_BYTES
        self.generation += 1
        if self.hot is not None:
            self.hot.forget_all()


def count_of(record: int) -> ctypes.c_int64:
    """How often the block that begins with a record may still run."""
    return ctypes.c_int64.from_address(record + COUNT)


def _put(code: Code, at: int, pages: tuple[int, ...], count: int) -> Translation:
    """Copy an assembled block to where it was assembled for."""
    data = code.data
    ctypes.memmove(at, data, len(data))
    count_of(at).value = count
    links = tuple(
        (stub, int.from_bytes(data[stub + 24 : stub + 32], "little") - at, target)
        for stub, target in code.links.items()
    )
    return Translation(code.start, at, len(data), pages, code.offsets, code.addresses, links)
