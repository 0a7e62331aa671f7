"""One job on a simulated machine, chunk by chunk, with the scheduler's own rules for sizes and stalls.

An event is a moment at which something changes: a chunk reaches its node, a result reaches its scheduler, a
node goes away. Memory is bounded by nodes times chunks in flight; nothing is kept of what is over but sums.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from functools import partial

from nexus.compute.chunks import NODE_GRACE, STALL, late, next_size
from nexus.compute.errors import ComputeError
from nexus.compute.simulate.model import Machine, Outcome, Work


class Part:
    """Units handed to a child of a scheduler; `lost_at` when another child lost them before. `done` by the
    child, `over` when nobody waits for it any more.
    """

    __slots__ = ("began", "child", "done", "expected", "lost_at", "over", "units")

    def __init__(self, units: int, lost_at: float = -1.0) -> None:
        self.units = units
        self.lost_at = lost_at
        self.child: Child | None = None
        self.began = 0.0
        self.expected = 0.0
        self.done = False
        self.over = False


class Child:
    """What a scheduler hands chunks to: a node, or the scheduler of a group of nodes.

    `rate` is what the parent believes, `true` what a node does; `held` are its chunks, `link` and `free` are
    when its link and its processor are done with what they have; `ended` is when its last result arrived.
    """

    __slots__ = ("ended", "free", "given", "group", "held", "link", "out", "rate", "seconds", "true", "units")

    def __init__(self, rate: float, true: float, group: Scheduler | None = None) -> None:
        self.rate = rate
        self.true = true
        self.group = group
        self.held: list[Part] = []
        self.given = 0
        self.out = False
        self.free = 0.0
        self.link = 0.0
        self.ended = 0.0
        self.units = 0
        self.seconds = 0.0


class Scheduler:
    """Hands the units of blocks to its children. `done` is called with the time when those of a block are
    back; a block that comes before the last one is done is added to it.
    """

    def __init__(self, farm: Farm, children: list[Child], done: Callable[[float], None]) -> None:
        self.farm = farm
        self.children = children
        self.done = done
        self.rates = sum(child.rate for child in children)
        self.left = 0
        self.total = 0
        self.missing = 0
        self.blocks: deque[int] = deque()
        self.credit = 0
        self.returned: deque[Part] = deque()
        self.waiting: deque[Child] = deque()
        self.free = 0.0
        self.sending = 0.0
        self.receiving = 0.0
        self.busy = 0.0
        self.watching = math.inf
        self.shared_sent: set[int] = set()

    def block(self, now: float, units: int) -> None:
        """Start on a block: every child gets as many chunks as it may hold."""
        self.blocks.append(units)
        self.missing += units
        self.left += units
        self.total = self.left
        for child in self.children:
            child.given = 1 if child.held else 0
        self.waiting.clear()
        for n in range(self.farm.machine.depth):
            for child in self.children:
                if len(child.held) == n:
                    self.serve(now, child)

    def serve(self, now: float, child: Child) -> None:
        """Give a child its next chunk, or let it wait for one that another may lose."""
        if child.out or not self.missing:
            return
        part = self.next_part(now, child)
        if part is None:
            self.waiting.append(child)
            self.watch(now)
            return
        machine = self.farm.machine
        began = max(now, self.free)
        self.free = began + machine.dispatch
        self.busy += machine.dispatch
        part.child = child
        part.began = began
        part.expected = (part.units + sum(before.units for before in child.held)) / child.rate
        child.held.append(part)
        if child.group is None and self.waiting:
            self.look_at(now, self.lateness(part))
        self.farm.outcome.chunks += child.group is None
        arrives = self.sent(self.free, part, child)
        if child.group is None:
            self.farm.at(arrives, self.farm.work_on, part, self)
        else:
            self.farm.at(arrives, child.group.block, part.units)

    def next_part(self, now: float, child: Child) -> Part | None:
        while self.returned:
            part = self.returned.popleft()
            if not part.over:
                return part
        if not self.left:
            return self.stalled(now)
        units = next_size(
            self.left,
            self.total,
            self.farm.work.granule,
            child.rate,
            child.rate / self.rates if self.rates > child.rate else 1.0,
            given=child.given,
            held=sum(part.units for part in child.held),
            # A group has chunks for its nodes at hand until the next block arrives.
            depth=1 if child.group else self.farm.machine.depth,
            shortest=self.farm.machine.shortest,
        )
        child.given += 1
        self.left -= units
        return Part(units)

    def sent(self, now: float, part: Part, child: Child) -> float:
        """When a chunk and what comes with it have reached the child."""
        machine, work = self.farm.machine, self.farm.work
        half = machine.latency / 2
        if machine.topology == "fat-tree" and child.group is not None:
            return now + half
        size = part.units * work.bytes_in
        self.farm.outcome.moved += size
        if machine.streamed:
            size = min(size, work.granule * work.bytes_in)
        if machine.topology == "fat-tree":
            child.link = max(now, child.link, self.farm.broadcast) + size / machine.bandwidth
            return child.link + half
        if id(child) not in self.shared_sent:
            self.shared_sent.add(id(child))
            size += work.shared
            self.farm.outcome.moved += work.shared
        self.sending = max(now, self.sending) + size / machine.root_bandwidth
        return self.sending + half + max(0.0, size / machine.bandwidth - size / machine.root_bandwidth)

    def result(self, now: float, part: Part) -> None:
        """A chunk's result leaves its child; it counts when it has arrived here."""
        machine = self.farm.machine
        grouped = part.child is not None and part.child.group is not None
        fat = machine.topology == "fat-tree"
        size = 0.0 if fat and grouped else part.units * self.farm.work.bytes_out
        self.farm.outcome.moved += size
        if fat:
            arrives = now + machine.latency / 2 + size / machine.bandwidth
        else:
            slower = max(0.0, size / machine.bandwidth - size / machine.root_bandwidth)
            self.receiving = max(now + slower, self.receiving) + size / machine.root_bandwidth
            arrives = self.receiving + machine.latency / 2
        self.farm.at(arrives, self.arrived, part)

    def arrived(self, now: float, part: Part) -> None:
        child = part.child
        assert child is not None
        if part.over or child.out:
            return
        part.over = True
        child.held.remove(part)
        self.missing -= part.units
        child.units += part.units
        child.seconds += now - max(part.began, child.ended)
        child.ended = now
        self.believe(child, child.units / child.seconds)
        if part.lost_at >= 0:
            self.farm.outcome.recoveries.append(now - part.lost_at)
        self.credit += part.units
        while self.blocks and self.credit >= self.blocks[0]:
            self.credit -= self.blocks.popleft()
            self.done(now)
        self.serve(now, child)

    def believe(self, child: Child, rate: float) -> None:
        self.rates += rate - child.rate
        child.rate = rate

    def lost(self, now: float, child: Child) -> None:
        """A child is known to be gone: its chunks go to whoever waits or asks next."""
        if child.out:
            return
        self.give_up(now, child)
        for waiting in [self.waiting.popleft() for _ in range(len(self.waiting))]:
            self.serve(now, waiting)

    def give_up(self, now: float, child: Child) -> None:
        child.out = True
        self.rates -= child.rate
        for part in child.held:
            part.over = True
            self.returned.append(Part(part.units, part.lost_at if part.lost_at >= 0 else now))
        child.held.clear()

    def stalled(self, now: float) -> Part | None:
        """The chunk of a child that is far behind; the child is given up."""
        if now < self.watching < math.inf:
            return None
        for other in self.children:
            for part in other.held:
                if other.group is None and late(now - part.began, part.expected, NODE_GRACE):
                    self.give_up(now, other)
                    return self.returned.popleft()
        return None

    def lateness(self, part: Part) -> float:
        return part.began + max(STALL * part.expected, part.expected + NODE_GRACE) + 1e-9

    def watch(self, now: float) -> None:
        """Look again when the next chunk in work becomes late, while somebody waits."""
        if self.watching == math.inf:
            held = (part for child in self.children if child.group is None for part in child.held)
            self.look_at(now, min(map(self.lateness, held), default=math.inf))

    def look_at(self, now: float, moment: float) -> None:
        if moment < self.watching:
            self.watching = max(now, moment)
            self.farm.at(self.watching, self.look)

    def look(self, now: float) -> None:
        if now < self.watching:
            return
        self.watching = math.inf
        if self.missing and self.waiting:
            self.serve(now, self.waiting.popleft())
            if self.waiting:
                self.watch(now)


class Farm:
    """One job on one machine. `run` plays it to its end."""

    def __init__(self, work: Work, machine: Machine, seed: int = 0) -> None:
        self.work = work
        self.machine = machine
        self.random = random.Random(seed)
        self.outcome = Outcome(nodes=len(machine.rates))
        self.heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.ended = -1.0
        steps = math.ceil(math.log2(max(2, len(machine.rates))))
        self.broadcast = steps * machine.latency / 2 + work.shared / machine.bandwidth if work.shared else 0.0
        believed = machine.believed or machine.rates
        self.nodes = [Child(seen, rate) for seen, rate in zip(believed, machine.rates, strict=True)]
        self.owner: dict[int, Scheduler] = {}
        self.schedulers: list[Scheduler] = []
        self.root = self.tree()

    def scheduler(self, children: list[Child], done: Callable[[float], None]) -> Scheduler:
        made = Scheduler(self, children, done)
        self.schedulers.append(made)
        for child in children:
            self.owner[id(child)] = made
        return made

    def tree(self) -> Scheduler:
        """Groups of `fanout`, groups of those, until one scheduler is over all."""
        level, fanout = self.nodes, self.machine.fanout or len(self.nodes)
        while len(level) > fanout:
            above = []
            for start in range(0, len(level), fanout):
                members = level[start : start + fanout]
                group = Child(sum(child.rate for child in members), 0.0)
                group.group = self.scheduler(members, partial(self.give_back, group))
                above.append(group)
            level = above
        return self.scheduler(level, self.end)

    def give_back(self, group: Child, now: float) -> None:
        """A group has done the first of its blocks that is not on its way back yet."""
        part = next(part for part in group.held if not part.done)
        part.done = True
        self.owner[id(group)].result(now, part)

    def at(self, time: float, action: Callable[..., None], *arguments: object) -> None:
        self.outcome.events += 1
        heapq.heappush(self.heap, (time, self.outcome.events, action, arguments))

    def run(self) -> Outcome:
        """Raises ComputeError when no node is left."""
        for loss in self.machine.losses:
            node = self.nodes[loss.node]
            self.at(loss.at, self.vanish, node)
            self.at(loss.at + loss.noticed, self.owner[id(node)].lost, node)
        self.root.block(0.0, self.work.units)
        while self.heap and self.ended < 0:
            time, _, action, arguments = heapq.heappop(self.heap)
            action(time, *arguments)
        if self.ended < 0:
            raise ComputeError("no simulated node is left that could do the rest")
        outcome, machine = self.outcome, self.machine
        outcome.seconds = self.ended
        outcome.units = self.work.units
        outcome.overhead = sum(scheduler.busy for scheduler in self.schedulers)
        outcome.busiest_scheduler = max(scheduler.busy for scheduler in self.schedulers)
        idle = outcome.seconds * outcome.nodes - outcome.busy
        outcome.joules = outcome.busy * machine.busy_watts + max(0.0, idle) * machine.idle_watts
        return outcome

    def end(self, now: float) -> None:
        self.ended = now

    def vanish(self, now: float, node: Child) -> None:
        """The node computes nothing more; whether anybody knows is another matter."""
        node.free = math.inf

    def work_on(self, now: float, part: Part, scheduler: Scheduler) -> None:
        """A chunk has reached its node, which does it when it is done with those before."""
        child, machine = part.child, self.machine
        assert child is not None
        if part.over or child.free == math.inf:
            return
        took = part.units / child.true * self.luck(part.units)
        needed = part.units * self.work.bytes_in / machine.bandwidth if machine.streamed else 0.0
        child.free = max(now, child.free) + max(took, needed) + machine.start
        self.at(child.free, self.finished, part, took, scheduler)

    def finished(self, now: float, part: Part, took: float, scheduler: Scheduler) -> None:
        assert part.child is not None
        if part.child.free == math.inf:
            return
        self.outcome.busy += took
        scheduler.result(now, part)

    def luck(self, units: int) -> float:
        """How much longer than usual a chunk takes."""
        machine, factor = self.machine, 1.0
        deviation = math.hypot(machine.jitter, self.work.spread / math.sqrt(units))
        if deviation:
            sigma = math.sqrt(math.log1p(deviation**2))
            factor = math.exp(self.random.gauss(-(sigma**2) / 2, sigma))
        if machine.stragglers and self.random.random() < machine.stragglers:
            factor *= machine.slowdown
        return factor


def simulate(work: Work, machine: Machine, seed: int = 0) -> Outcome:
    """Play one job; the same seed gives the same outcome."""
    return Farm(work, machine, seed).run()
