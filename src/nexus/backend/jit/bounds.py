"""Which accesses need no look at their address, because an earlier one has told enough about it.

The window has guards on both sides, so an address that differs by less than their size from one inside is
safe: it faults where it has to. What a look tells, and what a successful access tells, is kept as facts: of
a sum of slots (`sums.py`), the interval in which it differs from some address inside. A pointer that goes
through an array is inside again with each access, so the fact is true whenever the loop begins anew; only on
the way into the loop somebody has to look. A fact about a base outlives an index of 32 bits, since the guards
are larger than eight times that.

Facts hold on every way to a block. Where a loop keeps a fact that one of the ways into the loop lacks, that
way gets a check; the same for entries of the region. A check that fails leaves to the interpreter, so facts
are only about speed until they are used, and then they are certain.
"""

from __future__ import annotations

from nexus.backend.jit.sums import OPAQUE, added, scaled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.jit.region import Region
    from nexus.backend.jit.sums import Access, Sum, Terms

    Interval = tuple[int, int]
    Facts = dict[Terms, Interval]  # how far the terms' sum can be from some address inside

NOTHING, BASE, ROOT = range(3)  # what an access has to look at
_SMALL = (1 << 32) - 1
_MOST_WANTED, _MOST_TURNS, _PATIENCE = 12, 3, 50
_FURTHEST = 9 * _SMALL  # that a symbol of known size may lead


class Room:
    """The window that code is compiled for: addresses are below `top`, and `reach` bytes on both sides are
    never mapped."""

    __slots__ = ("reach", "top")

    def __init__(self, top: int, guard: int) -> None:
        self.top = top
        self.reach = guard - (1 << 20)  # so that the size of an access and a carry of its own do not matter


class Bounds:
    """The facts of a region. `looks[pc]` tells for each access, by its op's position, what to look at;
    `checks` and `sizes` are by way, (from, to) with -1 for entries from outside: sums that have to be inside,
    slots that have to be below 2**32."""

    def __init__(self, region: Region, room: Room) -> None:
        self._region = region
        self._room = room
        self._traces = region.traces
        self._before = region.sources()
        self._open = set(region.entries)
        self._small = self._find_small()
        self._wanted = self._find_wanted()
        self._facts: dict[int, Facts] = {}
        self._assumed = {pc: set(self._wanted[pc]) for pc in region.headers}
        self._checked: set[tuple[int, int, Terms]] = set()  # ways that get a check for a sum
        while not self._settle():
            pass
        self.looks = {pc: self._flow(pc)[1] for pc in region.blocks}
        self.checks: dict[tuple[int, int], list[Sum]] = {}
        self.sizes: dict[tuple[int, int], list[int]] = {}
        for pc, facts in self._facts.items():
            after = {source: self._flow(source)[0] for source in self._before[pc]}
            for source in (-1, *after):
                if source < 0 and pc not in self._open:
                    continue
                for terms in facts:
                    if source < 0 or self._brought(source, pc, terms, after) is None:
                        self.checks.setdefault((source, pc), []).append((terms, self._wanted[pc][terms]))
        for pc in self._open:
            if self._small[pc]:
                self.sizes[-1, pc] = sorted(self._small[pc])

    def has_checks(self, source: int, target: int) -> bool:
        """Whether there is something to check on a way."""
        return (source, target) in self.checks or (source, target) in self.sizes

    # symbols of known size -------------------------------------------------------------------------

    def _find_small(self) -> dict[int, set[int]]:
        """The slots, of those that indices come from, that are below 2**32 when a block begins."""
        useful = {
            symbol
            for trace in self._traces.values()
            for access in trace.accesses
            for terms, _ in (access.base, access.root or access.base)
            for symbol, _ in terms
            if symbol < OPAQUE
        }
        start = self._region.entries[0]
        unknown = {start} | self._open - set(self._region.headers)
        small = {pc: set() if pc in unknown or not self._before[pc] else set(useful) for pc in self._before}
        changed = True
        while changed:
            changed = False
            for pc, sources in self._before.items():
                found = {slot for slot in small[pc] if all(self._is_small(p, slot, small) for p in sources)}
                if found != small[pc]:
                    small[pc], changed = found, True
        return small

    def _is_small(self, pc: int, slot: int, small: dict[int, set[int]]) -> bool:
        """Whether a slot is below 2**32 at the end of a block."""
        trace = self._traces[pc]
        terms, constant = trace.of(slot)
        low = high = constant
        for symbol, count in terms:
            largest = _SMALL if symbol in small[pc] else trace.largest.get(symbol)
            if largest is None:
                return False
            low, high = low + min(count * largest, 0), high + max(count * largest, 0)
        return low >= 0 and high <= _SMALL

    def _split(self, pc: int, terms: Terms) -> tuple[Terms, int, int]:
        """The terms that nothing is known about, and between what the others are."""
        largest, small = self._traces[pc].largest, self._small[pc]
        rest, low, high = [], 0, 0
        for symbol, count in terms:
            size = _SMALL if symbol in small else largest.get(symbol, _FURTHEST)
            if abs(size * count) < _FURTHEST:
                low, high = low + min(count * size, 0), high + max(count * size, 0)
            else:
                rest.append((symbol, count))
        return tuple(rest), low, high

    # facts -----------------------------------------------------------------------------------------

    def _find_wanted(self) -> dict[int, dict[Terms, int]]:
        """Sums of slots that it would be good to know something about when a block begins, each with the
        constant of an access that uses it."""
        wanted: dict[int, dict[Terms, int]] = {pc: {} for pc in self._before}
        for pc, trace in self._traces.items():
            for access in trace.accesses:
                terms, constant = self._choice(pc, access)[1]
                self._want(wanted[pc], self._split(pc, terms)[0], constant)
        left = list(wanted)
        while left:
            pc = left.pop()
            for source in self._before[pc]:
                size = len(wanted[source])
                for terms, constant in list(wanted[pc].items()):
                    found = self._substituted(source, terms)
                    if found is not None:
                        rest = self._split(source, found[0])[0]
                        self._want(wanted[source], rest, constant + found[1])
                if len(wanted[source]) > size and source not in left:
                    left.append(source)
        return wanted

    def _want(self, wanted: dict[Terms, int], terms: Terms, constant: int) -> None:
        if terms and len(wanted) < _MOST_WANTED and all(symbol < OPAQUE for symbol, _ in terms):
            wanted.setdefault(terms, constant)

    def _choice(self, pc: int, access: Access) -> tuple[int, Sum]:
        """What an access would have to look at: its base, if the index is known to be small enough."""
        if access.root is None:
            return BASE, access.base
        rest = self._split(pc, access.base[0])[0]
        others, low, high = self._split(pc, access.root[0])
        if rest and rest == others and max(-low, high) + abs(access.displacement) < self._room.reach:
            return BASE, access.base
        return ROOT, access.root

    def _substituted(self, source: int, terms: Terms) -> Sum | None:
        """A sum of slots after a block, in terms of what was before."""
        total: Sum | None = ((), 0)
        for slot, count in terms:
            total = added(total, scaled(self._traces[source].of(slot), count))
        return total

    def _bound(self, pc: int, facts: Facts, sum: Sum) -> tuple[int, int] | None:
        """How far a sum can be from an address inside, as far as that is known."""
        terms, constant = sum
        known = facts.get(terms)
        low = high = constant
        if known is None:
            rest, less, more = self._split(pc, terms)
            low, high = low + less, high + more
            known = facts.get(rest)
            if known is None and not rest:
                low, high, known = min(low, 0), max(high - self._room.top, 0), (0, 0)
            if known is None:
                return None
        low, high = low + known[0], high + known[1]
        return (low, high) if -self._room.reach < low and high < self._room.reach else None

    def _across(self, source: int, facts: Facts, terms: Terms) -> tuple[int, int] | None:
        """What is known of a sum of slots after a block with these facts at its end."""
        found = self._substituted(source, terms)
        return None if found is None else self._bound(source, facts, found)

    def _flow(self, pc: int) -> tuple[Facts, dict[int, int]]:
        """The facts at the end of a block, and what its accesses have to look at."""
        facts, looks = dict(self._facts.get(pc, {})), {}
        for access in self._traces[pc].accesses:
            whole = access.root or access.base
            address = whole[0], whole[1] + access.displacement
            if self._bound(pc, facts, address) is not None:
                looks[access.index] = NOTHING
            else:
                look, (terms, constant) = self._choice(pc, access)
                looks[access.index] = look
                rest, low, high = self._split(pc, terms)
                facts[rest] = -constant - high, -constant - low
            rest, low, high = self._split(pc, address[0])
            if rest and low == high:
                facts[rest] = -address[1], -address[1]
        return facts, looks

    def _settle(self) -> bool:
        """Find facts that hold on all ways, for as long as the assumptions about loops do; False if one of
        these was wrong."""
        facts = self._facts = {}
        turns: dict[tuple[int, int, Terms], set[Interval]] = {}
        known: dict[int, Facts] = {}
        left = list(self._before)
        for _ in range(_PATIENCE * len(left)):
            if not left:
                break
            pc = left.pop(0)
            facts[pc] = self._joined(pc, known, turns)
            after = self._flow(pc)[0]
            if known.get(pc) != after:
                known[pc] = after
                left += [target for target in self._region.targets(pc) if target not in left]
        if left:  # it does not end
            facts.clear()
            self._assumed = {pc: set() for pc in self._assumed}
            return True
        right = True
        for pc, assumed in self._assumed.items():
            closing = [source for source in self._before[pc] if (source, pc) in self._region.closing]
            for terms in list(assumed):
                if all(self._brought(source, pc, terms, known) is None for source in closing):
                    assumed.discard(terms)
                    right = False
        return right

    def _brought(self, source: int, pc: int, terms: Terms, known: dict[int, Facts]) -> Interval | None:
        """What a way brings, if it does not need a check anyway."""
        return None if (source, pc, terms) in self._checked else self._across(source, known[source], terms)

    def _joined(
        self, pc: int, known: dict[int, Facts], turns: dict[tuple[int, int, Terms], set[Interval]]
    ) -> Facts:
        """The facts when a block begins, from those after the blocks before it. `turns` has what each way has
        brought so far: one that closes a loop and brings more with every turn gets a check."""
        sources = [source for source in self._before[pc] if source in known]
        out = {}
        for terms, constant in self._wanted[pc].items():
            if pc in self._assumed and terms not in self._assumed[pc]:
                continue
            whole = []
            for source in sources:
                found = self._brought(source, pc, terms, known)
                if found is not None and (source, pc) in self._region.closing:
                    seen = turns.setdefault((source, pc, terms), set())
                    seen.add(found)
                    if len(seen) > _MOST_TURNS:
                        self._checked.add((source, pc, terms))
                        found = None
                if found is not None:
                    whole.append(found)
            missing = len(whole) < len(sources)
            if pc not in self._assumed and (missing or not whole):
                continue
            if pc in self._open or missing:  # there is a check on a way
                whole.append((-constant, -constant))
            if whole:
                out[terms] = min(one[0] for one in whole), max(one[1] for one in whole)
        return out
