"""A region: blocks that are compiled together, and the loops among them.

A block is known by a number. That of an original is its address; a copy's has the copy's number above
(`COPY`). Short loops without others inside are copied so that several turns cost one look at the budget.
"""

from __future__ import annotations

from nexus.backend.jit.flags import ALL_FLAGS, liveness
from nexus.backend.jit.sums import Trace
from nexus.ir.ops import ROWS, STORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from nexus.ir.values import Block, Value

COPY = 1 << 64
_NONE: frozenset[int] = frozenset()
_BRANCHES = ("goto", "branch")
_OUTSIDE = ("x87", "fx", "mmx", "mxcsr", "string", "atomic", "cpuid")
_PARTLY = ("load.mask.", "store.mask.", "load.if.")
_LONG, _TURNS = 32, 4  # instructions of a loop with its copies, and how many there are at most


class Region:
    """`blocks` by their number; control comes in at `entries`, the first of which is the reason for it all.

    `ways[number]` tells which block a block's guest target is. The block after a call belongs to the region
    too, and a return looks for its target among those of the calls of its function. `jumps` are the starts of
    blocks with a computed jump. `ends` has the position of the first op that is left to the interpreter, with
    the rest of its block; `closing` are the ways that close a loop, `headers` where they lead."""

    def __init__(
        self, entry: int, blocks: dict[int, Block], seen: Mapping[int, Collection[int]] = {}
    ) -> None:
        """`seen`: where the computed jump at the end of a block has led."""
        calls = {pc: site for pc, block in blocks.items() if (site := return_site(block)) in blocks}
        self._seen = seen
        self._returns: dict[int, set[int]] = {}
        self._find_returns(blocks, calls)
        after = {pc: self._within(block, blocks) for pc, block in blocks.items()}
        reached, left = {entry}, [entry]
        while left:
            pc = left.pop()
            for target in (*after[pc], calls.get(pc, pc)):
                if target not in reached:
                    reached.add(target)
                    left.append(target)
        sites = [site for pc, site in calls.items() if pc in reached]
        self.blocks = {pc: blocks[pc] for pc in sorted(reached)}
        self.ends = {pc: left_at(block) for pc, block in self.blocks.items()}
        cut = {pc for pc, block in self.blocks.items() if self.ends[pc] < len(block.ops)}
        self.ways = {
            pc: {} if pc in cut else {t: t for t in self._within(self.blocks[pc], reached)}
            for pc in self.blocks
        }
        self.closing = self._find_closing((entry, *sites))
        self.headers = {target for _, target in self.closing}
        entries = {target for pc in cut for target in after[pc]} | self.headers
        for pc, site in calls.items():
            if pc in reached:
                entries |= set(self.ways[pc]) or {site}
        self.entries = [entry, *sorted(entries - {entry})]
        for header in sorted(self.headers):
            self._unroll(header)
        self.closing = self._find_closing((entry, *sites))
        self.headers = {target for _, target in self.closing}
        self.jumps = sorted(
            {block.start for number, block in self.blocks.items() if is_jump(block) and number not in cut}
        )
        self.traces = {number: Trace(block, self.ends[number]) for number, block in self.blocks.items()}
        self.live_in = self._live_in()

    def _within(self, block: Block, blocks: Collection[int]) -> list[int]:
        """Where a block can lead, of those blocks."""
        return [target for target in self._leads(block) if target in blocks]

    def _leads(self, block: Block) -> Iterator[int]:
        """Where a block can lead: from a computed jump, where it has led and where calls come from."""
        for op in block.ops:
            if op.row.name in _BRANCHES:
                yield op.imm
        if is_jump(block):
            known = self._returns.get(block.start, set())
            yield from sorted(known | set(self._seen.get(block.start, ())))

    def _find_returns(self, blocks: dict[int, Block], calls: dict[int, int]) -> None:
        """For the blocks that end with a return, where the calls are followed that may have led there."""
        ends: dict[int, list[int]] = {}
        for pc, site in calls.items():
            for start in self._within(blocks[pc], blocks):
                if start not in ends:
                    ends[start] = self._ends_of(start, blocks, calls)
                for end in ends[start]:
                    self._returns.setdefault(end, set()).add(site)

    def _ends_of(self, start: int, blocks: dict[int, Block], calls: dict[int, int]) -> list[int]:
        """The blocks with computed jumps that a function leads to, without those that it calls."""
        found, reached, left = [], {start}, [start]
        while left:
            pc = left.pop()
            if pc in calls:
                targets = [calls[pc]]
            elif is_jump(blocks[pc]):
                found.append(pc)
                continue
            else:
                targets = self._within(blocks[pc], blocks)
            left += [target for target in targets if target not in reached]
            reached.update(targets)
        return found

    def targets(self, number: int) -> Collection[int]:
        """The blocks that a block leads to."""
        return self.ways[number].values()

    def sources(self) -> dict[int, list[int]]:
        """For each block those that lead to it."""
        found: dict[int, list[int]] = {number: [] for number in self.blocks}
        for number in self.blocks:
            for target in set(self.targets(number)):
                found[target].append(number)
        return found

    def only_ways(self) -> dict[int, int]:
        """Blocks that are reached from one other block only, and that block."""
        closed = self.blocks.keys() - self.headers - set(self.entries)
        return {
            number: ways[0] for number, ways in self.sources().items() if number in closed and len(ways) == 1
        }

    def _find_closing(self, starts: Collection[int]) -> set[tuple[int, int]]:
        """The edges that close a loop."""
        closing: set[tuple[int, int]] = set()
        done: set[int] = set()
        for start in (*starts, *self.blocks):
            if start in done:
                continue
            on_path = {start}
            path = [(start, iter(self.targets(start)))]
            while path:
                number, targets = path[-1]
                target = next((t for t in targets if t not in done), None)
                if target is None:
                    path.pop()
                    on_path.discard(number)
                    done.add(number)
                elif target in on_path:
                    closing.add((number, target))
                else:
                    on_path.add(target)
                    path.append((target, iter(self.targets(target))))
        return closing

    def _unroll(self, header: int) -> None:
        """Copy the loop of a header, if it is short, has no other in it and no other way in."""
        sources = self.sources()
        loop, left = {header}, [source for source, target in self.closing if target == header]
        while left:
            number = left.pop()
            if number not in loop:
                loop.add(number)
                left += sources[number]
        inside = loop - {header}
        if inside & (self.headers | set(self.entries)) or any(
            set(sources[number]) - loop for number in inside
        ):
            return
        turns = min(_TURNS, _LONG // max(1, sum(len(self.blocks[number].marks) for number in loop)))
        for turn in range(1, turns):
            for number in loop:
                copy = number + turn * COPY
                self.blocks[copy], self.ends[copy] = self.blocks[number], self.ends[number]
                self.ways[copy] = {
                    pc: target + turn * COPY if target in inside else target
                    for pc, target in self.ways[number].items()
                }
        for turn in range(turns - 1):
            for number in loop:
                for pc, target in self.ways[number + turn * COPY].items():
                    if target == header:
                        self.ways[number + turn * COPY][pc] = header + (turn + 1) * COPY

    def _live_in(self) -> dict[int, frozenset[int]]:
        """The flags that may be read after a block is entered; outside the region all are."""
        live = {number: _NONE for number in self.blocks}
        changed = True
        while changed:
            changed = False
            for number, block in self.blocks.items():
                found = liveness(block, self.live_out(number, live))[0]
                if found != live[number]:
                    live[number] = found
                    changed = True
        return live

    def live_out(self, number: int, live: dict[int, frozenset[int]] | None = None) -> frozenset[int]:
        """The flags that may be read after a block."""
        known = self.live_in if live is None else live
        block, ways = self.blocks[number], self.ways[number]
        leads = [op.imm for op in block.ops if op.row.name in _BRANCHES]
        if not leads or self.ends[number] < len(block.ops):
            return ALL_FLAGS
        return _NONE.union(*(known[ways[pc]] if pc in ways else ALL_FLAGS for pc in leads))


def is_jump(block: Block) -> bool:
    """Whether a block ends with a computed jump."""
    return bool(block.ops) and block.ops[-1].row.name == "jump"


def left_at(block: Block) -> int:
    """The position of the first op of the first instruction that is left to the interpreter."""
    at = next((at for at, op in enumerate(block.ops) if is_outside(op)), None)
    return len(block.ops) if at is None else max(start for start, _ in block.marks if start <= at)


def is_outside(op: Value) -> bool:
    """Whether the instruction of an op is left to the interpreter."""
    head = op.row.name.partition(".")[0]
    partly = op.row.name.startswith(_PARTLY)
    return head in _OUTSIDE or op.row.indirect or head == "exit" or partly


_STORE = ROWS["store.i64"]
assert _STORE.effect == STORE


def return_site(block: Block) -> int | None:
    """Where a block returns to if it ends in a call, which stores the address of what follows it."""
    for op in block.ops:
        if op.row is _STORE and op.args[1].row.name == "const.i64" and op.args[1].imm == block.end:
            return block.end
    return None
