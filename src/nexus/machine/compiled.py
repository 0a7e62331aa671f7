"""T2 in a running machine: which code is hot, and putting compiled regions in its place.

A slice of the scheduler ends every millisecond or so wherever the guest happens to be, so the ends of slices
are a fair sample of where it spends its time, and cost nothing. A block that is met there twice becomes the
entry of a region: the blocks that have been run and can be reached from it. While it is compiled the guest
goes on; then the unit's entries take the places of their blocks.
"""

from __future__ import annotations

import ctypes
import os
from _thread import allocate_lock

from nexus.backend.jit.unit import ENTRY, JUMP, JUMPS, Unit, unpack
from nexus.machine import host
from nexus.machine.compiler import Compiler
from nexus.machine.host import PAGE
from nexus.machine.kept_regions import KeptRegions
from nexus.machine.translation import Translation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.engine import Interpreter
    from nexus.machine.translation import Translations

    # the bytes of its pages, and the blocks that they had
    Asked = tuple[dict[int, bytes], list[tuple[int, list[Translation] | None]]]

SAMPLES = 2  # that make a block hot
_BLOCKS, _INSTRUCTIONS = 150, 1500  # of a region
_NOTES, _WATCHED_SLICES = 300, 20  # of computed jumps, when a unit is new
_WORTH = 30  # of these, those of the unit that are worth compiling it again
_RARE, _TARGETS = 0.02, 16  # of what a jump has done; of what it does in a region
_ALLOWANCE, _SHARE = 2_000_000_000, 500_000  # ns of compiling, and more of it with each slice
"""A program that does not stay anywhere pays that in vain."""
_ARENA = 64 << 20
_ACCESSES = 1 << 21
_FAILURES = 3  # of the compiling process before it is left alone
_LONGEST = 15  # bytes of an instruction


class Arena:
    """The compiled code of this process, and the table by which the signal handler finds a way on.

    Code is never freed: a unit whose guest code has changed is not entered any more."""

    def __init__(self, engine: Interpreter) -> None:
        fd = host.create_shared("nexus-compiled", _ARENA)
        try:
            self._writable = host.map_anywhere(_ARENA, host.PROT_READ | host.PROT_WRITE, fd)
            self.address = host.reserve(_ARENA)
            host.map_file(self.address, _ARENA, host.PROT_READ | host.PROT_EXEC, fd, 0, True)
        finally:
            os.close(fd)
        self._table = host.allocate(8 * _ACCESSES)
        self._used = self._count = 0
        self._known = (ctypes.c_uint64 * 4).from_address(engine.symbols["compiled"])
        self._known[:] = [self.address, self.address + _ARENA, self._table, 0]

    def put(self, code: bytes, accesses: list[tuple[int, int]]) -> int | None:
        """Take code in; its host address, or None when there is no room."""
        at = self._used
        if at + len(code) > _ARENA or self._count + len(accesses) > _ACCESSES:
            return None
        ctypes.memmove(self._writable + at, code, len(code))
        flat = [at + offset for pair in accesses for offset in pair]
        rows = (ctypes.c_uint32 * len(flat))(*flat)
        ctypes.memmove(self._table + 8 * self._count, rows, ctypes.sizeof(rows))
        self._count += len(accesses)
        self._known[3] = self._count
        self._used = at + len(code) + -len(code) % 64
        return self.address + at


_lock = allocate_lock()
_arena: Arena | None = None


def arena(engine: Interpreter) -> Arena:
    """The arena of this process, made when first asked for."""
    global _arena
    with _lock:
        if _arena is None:
            _arena = Arena(engine)
        return _arena


class Compiled(Translation):
    """An entry of a unit. `original` is the block in whose place it is. The last entry of a unit has the
    starts of the blocks with its `jumps`, and where their records lie."""

    __slots__ = ("jumps", "jumps_at", "original")
    saved = False
    jumps: list[int]
    jumps_at: int
    original: Translation | None


class Hot:
    """The hot code of one window."""

    def __init__(self, translations: Translations) -> None:
        self._translations = translations
        self._samples: dict[int, int] = {}
        self._wanted: list[int] = []
        self._settled: set[int] = set()  # blocks that are in a region, or cannot be an entry
        self._asked: Asked | None = None
        self.compiler: Compiler | None = None
        self._failures = 0
        self._seen: dict[int, dict[int, int]] = {}  # by block: where its computed jump has led, how often
        self._followed: set[int] = set()  # blocks whose jumps have been watched
        self._watched: tuple[int, list[int]] | None = None  # entry and jumps of the unit that is
        self._notes = self._slices = 0
        self._missed = 0  # of the notes, those of the unit's own jumps
        self._turns = 0  # slices that have ended, of about a millisecond each
        self._kept = KeptRegions(translations.window, translations.engine)
        self._looked: set[int] = set()  # pages whose kept regions have been asked for
        self._made: list[tuple[Unit, Compiled, dict[int, bytes]]] = []  # compiled in this run
        self.units = 0  # regions that have been put in their place
        self.kept = 0  # of these, those that an earlier run has compiled

    def close(self) -> None:
        for unit, block, pages in self._made:
            start = unit.entries[0]
            codes = {page: self._kept.code(page) for page in pages}
            if self._translations.known(start) is block and codes == pages:
                self._kept.add(start & -PAGE, pages, unit.pack())
        self._kept.save()
        if self.compiler is not None:
            self.compiler.close()
            self.compiler = None

    def sample(self, pc: int) -> None:
        """A slice has ended here."""
        self._turns += 1
        if self._asked is not None:
            self._take()
        if self._watched is not None:
            self._slices += 1
            if self._slices > _WATCHED_SLICES:
                self._unwatch()
        if pc & -PAGE not in self._looked:
            self._look(pc & -PAGE)
        if pc not in self._settled:
            count = self._samples[pc] = self._samples.get(pc, 0) + 1
            if count == SAMPLES:
                self._wanted.append(pc)
        spent = 0 if self.compiler is None else self.compiler.spent
        affordable = spent <= _ALLOWANCE + self._turns * _SHARE
        if self._wanted and affordable and self._asked is None and self._failures < _FAILURES:
            wanted = self._wanted.pop(0)
            if wanted not in self._settled:
                self._ask(wanted)

    # where computed jumps lead ---------------------------------------------------------------------

    def _watch(self, entry: int, jumps: list[int]) -> None:
        """Have the jumps of a new unit noted for a while, if that has not been done."""
        fresh = [pc for pc in jumps if pc not in self._followed]
        if fresh and self._watched is None:
            self._watched, self._notes, self._missed, self._slices = (entry, fresh), 0, 0, 0
            self._translations.watching = True

    def note(self, record: int, target: int) -> None:
        """A computed jump has led to a block; 0 if nobody knows which jump it was."""
        self._notes += 1
        if record:
            block = self._translations.owner(record)
            source = block.start
            if isinstance(block, Compiled):
                source = block.jumps[(record - block.jumps_at) // JUMP]
            counts = self._seen.setdefault(source, {})
            counts[target] = counts.get(target, 0) + 1
            self._missed += self._watched is not None and source in self._watched[1]
        if self._notes >= _NOTES:
            self._unwatch()

    def _unwatch(self) -> None:
        """Compile the unit again if there is something to gain."""
        assert self._watched is not None
        (entry, jumps), self._watched = self._watched, None
        self._translations.watching = False
        self._followed.update(jumps)
        if self._missed >= _WORTH:
            self._settled.discard(entry)
            self._wanted.insert(0, entry)

    def _targets(self, pc: int) -> list[int]:
        """Where the computed jump of a block has led, but for what is rare."""
        counts = self._seen.get(pc, {})
        least = sum(counts.values()) * _RARE
        often = sorted((target for target in counts if counts[target] >= least), key=lambda t: -counts[t])
        return often[:_TARGETS]

    def forget(self, page: int) -> None:
        """The code of a page has changed; what is hot there may be so again."""
        self._settled = {pc for pc in self._settled if pc & -PAGE != page}
        self._samples = {pc: count for pc, count in self._samples.items() if pc & -PAGE != page}
        self._looked.discard(page)

    def forget_all(self) -> None:
        self._settled.clear()
        self._samples.clear()
        self._looked.clear()

    # compiling -------------------------------------------------------------------------------------

    def _ask(self, pc: int) -> None:
        self._settled.add(pc)
        starts, pages = self._region(pc)
        translations = self._translations
        if not starts:
            return
        window = translations.window
        if self.compiler is None:
            self.compiler = Compiler([(window.host, window.top)])
        code = {page: window.read_forced(page, PAGE) for page in pages}
        self._asked = code, [(page, translations.blocks_of(page)) for page in pages]
        room = window.top, window.guard
        seen = {start: self._targets(start) for start in starts if start in self._seen}
        self.compiler.ask((pc, starts, sorted(translations.hooks), code, room, seen))

    def _region(self, pc: int) -> tuple[list[int], list[int]]:
        """The blocks that have been run around `pc`, nearest first, and their pages."""
        translations = self._translations
        starts: list[int] = []
        pages: set[int] = set()
        seen, left, instructions = {pc}, [pc], 0
        while left and len(starts) < _BLOCKS and instructions < _INSTRUCTIONS:
            block = translations.known(left.pop(0))
            while isinstance(block, Compiled):
                block = block.original
            if block is None:
                continue
            starts.append(block.start)
            pages.update(block.pages)
            instructions += len(block.addresses)
            last = block.addresses[-1]
            behind = next((at for at in range(last + 1, last + 1 + _LONGEST) if translations.known(at)), pc)
            links = (target for _, _, target in block.links)
            for target in (*links, *self._targets(block.start), behind):
                if target not in seen:
                    seen.add(target)
                    left.append(target)
        return starts, sorted(pages)

    def _take(self) -> None:
        """Put the unit that was asked for in its place, if it is there and its code still as it was."""
        assert self.compiler is not None and self._asked is not None
        answer = self.compiler.take()
        if self.compiler.dead:
            self._failures += 1
            self.compiler.close()
            self.compiler = self._asked = None
            return
        if answer is None:
            return
        (code, pages), self._asked = self._asked, None
        translations = self._translations
        if not answer or any(translations.blocks_of(page) is not blocks for page, blocks in pages):
            return
        unit = unpack(answer)
        block = self._install(unit, tuple(code))
        if block is not None:
            self._made.append((unit, block, code))

    def _look(self, page: int) -> None:
        """Take over the regions that an earlier run has compiled, where nothing has a hook."""
        self._looked.add(page)
        hooked = {pc & -PAGE for pc in self._translations.hooks}
        for pages, data in reversed(self._kept.find(page)):  # the newest is the last to be put in its place
            if hooked.isdisjoint(pages):
                self._translations.lock(pages)
                self.kept += self._install(unpack(data), pages) is not None

    def _install(self, unit: Unit, pages: tuple[int, ...]) -> Compiled | None:
        """Put a unit that was made from these pages in its place; its first entry, None without room."""
        translations = self._translations
        code = arena(translations.engine).put(unit.code, unit.accesses)
        if code is None:
            self._failures = _FAILURES
            return None
        self._settled.update(unit.starts)
        self.units += 1
        at = translations.place(unit.size())
        records = unit.records(translations.engine.symbols, at, code)
        ctypes.memmove(at, records, len(records))
        blocks = []
        for number, pc in enumerate(unit.entries):
            links = () if number else unit.links()
            block = Compiled(pc, at + ENTRY * number, ENTRY, pages, [0], [pc], links)
            block.jumps, block.jumps_at = unit.jumps, at + ENTRY * len(unit.entries) + JUMPS
            block.original = translations.known(pc)
            translations.replace(block)
            blocks.append(block)
        self._watch(unit.entries[0], unit.jumps)
        return blocks[0]
