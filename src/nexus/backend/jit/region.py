"""A region: blocks that are compiled together, the loops among them, and the flags that anybody reads."""

from __future__ import annotations

from nexus.ir.ops import ROWS, STORE
from nexus.ir.state import FLAGS, SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus.ir.values import Block, Value

ALL_FLAGS = frozenset(SLOTS[name] for name in FLAGS)
_NONE: frozenset[int] = frozenset()
_BRANCHES = ("goto", "branch")


class Region:
    """`blocks` by their address; control comes in at `entries`, the first of which is the reason for it all.

    The block after a call belongs to the region too: its address is one of the `sites`, among which an
    indirect jump, a return perhaps, looks for its target first."""

    def __init__(self, entry: int, blocks: dict[int, Block]) -> None:
        calls = {pc: site for pc, block in blocks.items() if (site := return_site(block)) in blocks}
        self.blocks = blocks
        self.sites = sorted(calls.values())
        self._after = {pc: tuple(self._successors(pc, block)) for pc, block in blocks.items()}
        reached, left = {entry}, [entry]
        while left:
            pc = left.pop()
            for target in (*self._after[pc], calls.get(pc, pc)):
                if target in blocks and target not in reached:
                    reached.add(target)
                    left.append(target)
        self.blocks = {pc: blocks[pc] for pc in sorted(reached)}
        self.sites = [site for site in self.sites if site in reached]
        self._after = {pc: tuple(self._successors(pc, block)) for pc, block in self.blocks.items()}
        self.headers = self._find_headers(entry)
        entries = set(self.headers)
        for pc, site in calls.items():
            if pc in reached:
                inside = set(self._after[pc]) & reached
                entries |= inside or {site}
        self.entries = [entry, *sorted(entries - {entry})]
        self.live_in = self._live_in()

    def _successors(self, pc: int, block: Block) -> Iterator[int]:
        for op in block.ops:
            if op.row.name in _BRANCHES:
                yield op.imm
            elif op.row.name == "jump" and return_site(block) is None:
                yield from self.sites

    def only_ways(self) -> dict[int, int]:
        """Blocks that are reached from one other block only, and that block."""
        sources: dict[int, list[int]] = {}
        for pc in self.blocks:
            for target in self._after[pc]:
                sources.setdefault(target, []).append(pc)
        open_to_others = {*self.entries, *self.headers}
        return {
            pc: sources[pc][0]
            for pc in self.blocks
            if pc not in open_to_others and len(sources.get(pc, ())) == 1
        }

    def targets(self, pc: int) -> tuple[int, ...]:
        """Where a block goes on, in the region or not, as far as that is known."""
        return self._after[pc]

    def _find_headers(self, entry: int) -> set[int]:
        """The targets of the edges that close a loop."""
        headers: set[int] = set()
        done: set[int] = set()
        for start in (entry, *self.sites):
            if start in done:
                continue
            on_path = {start}
            path = [(start, iter(self._after[start]))]
            while path:
                pc, targets = path[-1]
                target = next((t for t in targets if t in self.blocks and t not in done), None)
                if target is None:
                    path.pop()
                    on_path.discard(pc)
                    done.add(pc)
                elif target in on_path:
                    headers.add(target)
                else:
                    on_path.add(target)
                    path.append((target, iter(self._after[target])))
        return headers

    def _live_in(self) -> dict[int, frozenset[int]]:
        """The flags that may be read after a block is entered; outside the region all are."""
        live = {pc: _NONE for pc in self.blocks}
        changed = True
        while changed:
            changed = False
            for pc, block in self.blocks.items():
                found = liveness(block, self.live_out(pc, live))[0]
                if found != live[pc]:
                    live[pc] = found
                    changed = True
        return live

    def live_out(self, pc: int, live: dict[int, frozenset[int]] | None = None) -> frozenset[int]:
        """The flags that may be read after a block."""
        known = self.live_in if live is None else live
        after = self._after[pc]
        if not after or self.blocks[pc].ops[-1].row.name == "jump":
            return ALL_FLAGS
        return _NONE.union(*(known.get(target, ALL_FLAGS) for target in after))


def liveness(block: Block, live: frozenset[int]) -> list[frozenset[int]]:
    """For each op, and the end, the flags that are read from there on before they are set; `live` are those
    at the end."""
    out = [live]
    for op in reversed(block.ops):
        live = (live - flags_written(op)) | flags_read(op)
        out.append(live)
    out.reverse()
    return out


def flags_written(op: Value) -> frozenset[int]:
    if op.row.name.startswith("put."):
        return ALL_FLAGS & {op.imm} if not op.row.operands[0].is_vector else _NONE
    return frozenset(SLOTS[name] for name in op.row.writes) & ALL_FLAGS


def flags_read(op: Value) -> frozenset[int]:
    if op.row.name.startswith("get."):
        return ALL_FLAGS & {op.imm} if op.type is not None and not op.type.is_vector else _NONE
    if op.row.indirect or op.row.name == "exit":
        return ALL_FLAGS
    return frozenset(SLOTS[name] for name in op.row.reads) & ALL_FLAGS


_STORE = ROWS["store.i64"]
assert _STORE.effect == STORE


def return_site(block: Block) -> int | None:
    """Where a block returns to if it ends in a call, which stores the address of what follows it."""
    for op in block.ops:
        if op.row is _STORE and op.args[1].row.name == "const.i64" and op.args[1].imm == block.end:
            return block.end
    return None
