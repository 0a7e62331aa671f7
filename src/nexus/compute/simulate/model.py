"""What a simulation is given and what it returns. Seconds, bytes, watts; a unit is a job's unit of work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from nexus.compute.chunks import SHORTEST
from nexus.compute.errors import BadInput

TOPOLOGIES = ("star", "fat-tree")


@dataclass(frozen=True)
class Work:
    """One job: `units` of work, handed out in multiples of `granule`; bytes in and out for each unit.

    `shared` bytes go to every node once. `spread` units may differ from each other in length: the relative
    standard deviation of one unit's time.
    """

    units: int
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    shared: float = 0.0
    granule: int = 1
    spread: float = 0.0


@dataclass(frozen=True)
class Loss:
    """Node `node` goes away at `at` seconds and is noticed `noticed` seconds later; it does not come back."""

    node: int
    at: float
    noticed: float = 0.0


@dataclass(frozen=True)
class Machine:
    """Nodes and what connects them.

    `rates` are units per second, one for each node; the scheduler takes `believed` rates for true until it
    has seen others (default: the true ones). A node's chunk takes its kernel's time times a random factor
    of relative deviation `jitter`; the part `stragglers` of all chunks takes `slowdown` times longer. Each
    costs `start` seconds more at the node.

    `latency` is the time of an empty request and its answer, `bandwidth` that of one node's link. Where data
    comes from is the topology: in a `star` from the scheduler, through its one link of `root_bandwidth`; in a
    `fat-tree` operands lie with the nodes, each has its own link to all others. With a `fanout`, groups of so
    many nodes have a scheduler of their own, fed by the one above, and a star becomes a tree. A scheduler is
    busy for `dispatch` seconds with each chunk. A node or group holds up to `depth` chunks: above 1, the next
    one arrives during the work. When `streamed`, the data of a chunk's units arrives while those before are
    computed; else all of it comes first, which is what the engine does today.
    """

    rates: tuple[float, ...]
    believed: tuple[float, ...] = ()
    jitter: float = 0.0
    stragglers: float = 0.0
    slowdown: float = 1.0
    start: float = 0.0
    latency: float = 0.0
    bandwidth: float = float("inf")
    root_bandwidth: float = float("inf")
    topology: str = "star"
    fanout: int = 0
    dispatch: float = 0.0
    depth: int = 1
    streamed: bool = False
    shortest: float = SHORTEST
    losses: tuple[Loss, ...] = ()
    idle_watts: float = 0.0
    busy_watts: float = 0.0

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0:
            raise BadInput("a simulated machine needs nodes, and each a rate above 0")
        if self.believed and len(self.believed) != len(self.rates):
            raise BadInput(f"{len(self.rates)} nodes but {len(self.believed)} believed rates")
        if self.topology not in TOPOLOGIES:
            raise BadInput(
                f"there is no topology {self.topology!r}", hint=f"topologies: {' '.join(TOPOLOGIES)}"
            )
        if self.fanout == 1 or self.fanout < 0:
            raise BadInput("a fanout is at least 2, or 0 for one scheduler over all nodes")
        if min(self.latency, self.dispatch, self.start, self.jitter, self.stragglers) < 0:
            raise BadInput("times and deviations of a simulated machine are not negative")
        if min(self.bandwidth, self.root_bandwidth) <= 0 or self.depth < 1 or self.slowdown < 1:
            raise BadInput("bandwidths are above 0, depth and slowdown at least 1")
        if any(not 0 <= loss.node < len(self.rates) for loss in self.losses):
            raise BadInput("a loss names a node that is not there")


@dataclass
class Outcome:
    """What a simulated job took. `busy` is the seconds of kernels over all nodes; `overhead` the seconds that
    schedulers were busy; `recoveries` the seconds from the loss of each chunk until it was done again.
    """

    seconds: float = 0.0
    units: int = 0
    nodes: int = 0
    chunks: int = 0
    busy: float = 0.0
    overhead: float = 0.0
    busiest_scheduler: float = 0.0
    moved: float = 0.0
    joules: float = 0.0
    events: int = 0
    recoveries: list[float] = field(default_factory=list)

    @property
    def efficiency(self) -> float:
        """Kernel seconds over what all nodes could have done in the time."""
        return self.busy / (self.seconds * self.nodes) if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        return {"label": "simulated", **asdict(self), "efficiency": self.efficiency}
