"""Which engine runs a block: the interpreter first, host code once it has run often.

Every block counts down in its first record how often it may still run (`interp/records.py`). The first time
the count is used up, the host code that an earlier run kept for its page is taken over. If there is none, the
block counts again, and then host code is made.

Making host code needs modules and stencils that a run with everything in the cache does without. They are
loaded when so many blocks have used up their counts that interpreting them has cost about as much.

Neither changes what the guest does or when a thread is interrupted: host code is made block by block, charges
the budget as the interpreter does, and the two go on from each other between blocks.
"""

from __future__ import annotations

from nexus.backend.interp.engine import Lookup
from nexus.backend.interp.layout import LOOKUP_BYTES
from nexus.machine.page_cache import FIRST_COUNT
from nexus.machine.translation import Translations, count_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.engine import Interpreter
    from nexus.machine.native import HostCodes
    from nexus.machine.page_cache import Saved
    from nexus.machine.page_file import KeptCode, PageFile
    from nexus.machine.translation import Translation
    from nexus.machine.window import Window


class Policy:
    """`first` runs of a block before kept host code is taken over, `again` more before host code is made, and
    `patience` used-up counts before anything is loaded for that."""

    __slots__ = ("again", "first", "patience")

    def __init__(self, first: int, again: int, patience: int) -> None:
        self.first = first
        self.again = again
        self.patience = patience


USUAL = Policy(FIRST_COUNT, 2000, 300)
AT_ONCE = Policy(0, 0, 0)  # host code for every block, when it runs first


class TieredTranslations(Translations):
    """All translations of one window, with host code for those that run often."""

    def __init__(self, window: Window, engine: Interpreter, policy: Policy = USUAL) -> None:
        super().__init__(window, engine)
        self._policy = policy
        self._first_count = policy.first
        self._codes: HostCodes | None = None
        self._waiting = 0  # used-up counts before there was anything to make host code with
        self._kept: dict[int, PageFile] = {}  # of pages whose kept host code nobody has asked for

    def close(self) -> None:
        super().close()
        if self._codes is not None:
            self._codes.close()

    # getting host code -----------------------------------------------------------------------------

    def heat(self, block: Translation) -> None:
        if not block.saved:  # it has been compiled in the meantime
            return
        codes = self._host_codes()
        if codes is None:
            count_of(block.record).value = self._policy.first
            return
        if codes.full:
            self.drop_all()
            return
        page = block.pages[0]
        file = self._kept.pop(page, None)
        if file is not None:
            self._take_over(codes, file.host_code(page))
        if block.native is not None:
            return
        if block.counted or not self._policy.again:
            self._waiting += 1
            if codes.engine.ready or self._waiting > self._policy.patience:
                codes.make(block)
                self.counts.host_code_made += 1
                self._made(codes, block)
                self._cache.note_host_code(block)
                return
        block.counted = True
        count_of(block.record).value = self._policy.again

    def _host_codes(self) -> HostCodes | None:
        """None while what it takes is being built."""
        if self._codes is None:
            from nexus.machine import native

            stencils = native.built()
            if stencils is None:
                return None
            self._codes = native.HostCodes(self.engine, stencils)
            self._lookup_host = Lookup(self.lookup.address + LOOKUP_BYTES)
        return self._codes

    def _take_over(self, codes: HostCodes, kept: KeptCode | None) -> None:
        """Host code that an earlier run kept, if it was made of the same stencils for just these blocks."""
        check, code, parts = kept or (0, b"", ())
        if check != codes.check:
            return
        found = []
        for start, size, begin, length, rest in parts:
            block = self._blocks.get(start)
            if block is None or block.size != size or block.native is not None:
                return
            found.append((block, begin, length, rest))
        codes.place(code, found)
        self.counts.host_code_kept += len(found)
        for block, *_ in found:
            self._made(codes, block)

    def _made(self, codes: HostCodes, block: Translation) -> None:
        """Let host code that went on at the block's records go to its host code."""
        for exit in block.incoming:
            if codes.holds(exit):
                codes.link(exit, block)
        self._lookup_host.replace(block.start, codes.address(block))

    def _adopt(self, page: int) -> Saved | None:
        saved = super()._adopt(page)
        if saved is not None:
            if saved.file.has_host_code(page):
                self._kept[page] = saved.file
            if self._policy.first != FIRST_COUNT:
                for block in self._pages[page]:
                    count_of(block.record).value = self._policy.first
        return saved

    def _keep(self, page: int, blocks: list[Translation]) -> KeptCode | None:
        natives = [block.native for block in blocks if block.native is not None and block.pages == (page,)]
        if self._codes is None or not any(native.is_new for native in natives):
            return None
        return self._codes.check, *self._codes.pack(natives)

    # joining ---------------------------------------------------------------------------------------

    def link(self, stub: int, target: Translation) -> None:
        if self._codes is not None and self._codes.holds(stub):
            self._codes.link(stub, target)
            target.incoming.append(stub)
        else:
            super().link(stub, target)

    def _unlink(self, exit: int) -> None:
        if self._codes is not None and self._codes.holds(exit):
            self._codes.unlink(exit)
        else:
            super()._unlink(exit)

    def remember(self, block: Translation, table: int) -> None:
        if table and self._codes is not None:
            self._lookup_host.add(block.start, self._codes.address(block))
        else:
            super().remember(block, table)

    def restore(self, position: int, state: int) -> None:
        if self._codes is not None and self._codes.holds(position):
            self._codes.restore(position, state)

    def record_at(self, position: int) -> int:
        if self._codes is not None and self._codes.holds(position):
            return self._codes.record_at(position)
        return position

    def _leave(self, block: Translation) -> None:
        super()._leave(block)
        if self._codes is not None:
            self._lookup_host.remove(block.start)

    # dropping --------------------------------------------------------------------------------------

    def _drop_page(self, page: int) -> None:
        self._kept.pop(page, None)
        super()._drop_page(page)

    def drop_all(self) -> None:
        super().drop_all()
        self._kept.clear()
        if self._codes is not None:
            self._codes.forget()
            self._lookup_host.clear()
