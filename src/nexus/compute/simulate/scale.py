"""The curve to 1 EFLOP/s: block products on nodes of eight H200 GPUs, by precision, with uncertainty.

The job is a large product C = A @ B. Each unit is one product of two square blocks on a node, whose GPUs
share them; operands come from other nodes over the node's own links while the block before is computed, C
stays where it is. Every figure that is not known is a range; a sample draws all of them, plays one round of
the job on the farm and a day of such rounds with failures. The curve is the median of the samples, its band
the 5th to the 95th percentile. The result is the rate of a simulated matrix product: it is neither HPL nor
HPL-MxP.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nexus.compute.errors import BadInput
from nexus.compute.simulate.campaign import Campaign, play
from nexus.compute.simulate.farm import simulate
from nexus.compute.simulate.model import Machine, Work
from nexus.compute.simulate.records import RECORDS

GOAL = 1e18
GPUS = 8
DAY = 86400.0
UNITS_PER_NODE = 400
FANOUT = 64


@dataclass(frozen=True)
class Range:
    """A figure that lies between `low` and `high`; every value is as likely. `label` is measured, published,
    peak or assumed.
    """

    low: float
    high: float
    label: str
    source: str

    def draw(self, chance: random.Random) -> float:
        return chance.uniform(self.low, self.high)

    def as_json(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "label": self.label, "source": self.source}


@dataclass(frozen=True)
class Precision:
    """`rate` of one GPU in flop/s, `peak` of its data sheet; `side` of the blocks, `size` bytes of an
    element.
    """

    name: str
    rate: Range
    peak: float
    side: int
    size: int


PRECISIONS = {
    row.name: row
    for row in (
        Precision(
            "fp8",
            Range(
                1.3e15, 1.55e15, "published", "fp8 products on Hopper: at most 1,550 TFLOP/s (DeepGEMM, H800)"
            ),
            1.979e15,
            65536,
            1,
        ),
        Precision(
            "bf16",
            Range(7.69e14, 7.98e14, "measured", "one H200, PyTorch 2.11, 8192^3, random operands, other day"),
            0.989e15,
            65536,
            2,
        ),
        Precision(
            "fp64",
            Range(5.0e13, 6.2e13, "assumed", "75 to 93 % of the 67 TFLOP/s of the tensor cores"),
            6.7e13,
            32768,
            8,
        ),
    )
}

UNKNOWN = {
    "link": Range(0.6 * 400e9, 0.9 * 400e9, "assumed", "8 links of 400 Gbit/s a node, 60 to 90 % of it"),
    "latency": Range(1e-5, 1e-4, "assumed", "request and answer over an InfiniBand network"),
    "dispatch": Range(2e-4, 2e-3, "assumed", "scheduler's time for a chunk; see docs/cluster.md for ours"),
    "start": Range(1e-3, 2e-2, "assumed", "a node's own time for a chunk"),
    "between_nodes": Range(0.005, 0.03, "assumed", "deviation of the speed of GPUs of one kind"),
    "jitter": Range(0.005, 0.02, "assumed", "deviation of the time of equal chunks"),
    "stragglers": Range(0.0, 0.01, "assumed", "part of all chunks that is late"),
    "slowdown": Range(1.2, 2.0, "assumed", "how much later"),
    "gpu_mtbf": Range(
        25e3 * 3600, 100e3 * 3600, "published", "Llama 3: 419 failures, 16,384 GPUs, 54 days; x/ 2"
    ),
    "checkpoint": Range(20.0, 120.0, "assumed", "writing the results in memory to storage"),
    "restart": Range(180.0, 900.0, "assumed", "notice, replace, load"),
    "busy_watts": Range(8.0e3, 10.2e3, "published", "DGX H200 user guide: at most 10.2 kW"),
    "idle_watts": Range(2.0e3, 3.5e3, "assumed", "a node that waits"),
    "around": Range(1.15, 1.45, "assumed", "network, storage and cooling on top of the nodes"),
}


@dataclass(frozen=True)
class Sample:
    """One draw at one size: flop/s sustained over a day, part of the GPUs' kernel rate, watts."""

    flops: float
    farm: float
    campaign: float
    watts: float


@dataclass(frozen=True)
class Band:
    """Median and the 5th and 95th percentile."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Band:
        ordered = sorted(values)

        def at(part: float) -> float:
            place = part * (len(ordered) - 1)
            below = int(place)
            above = min(below + 1, len(ordered) - 1)
            return ordered[below] + (ordered[above] - ordered[below]) * (place - below)

        return cls(at(0.05), at(0.5), at(0.95))

    def as_json(self) -> dict[str, float]:
        return {"p5": self.low, "median": self.middle, "p95": self.high}


def sample(precision: Precision, nodes: int, seed: int) -> Sample:
    """Draw everything unknown and play it."""
    chance = random.Random(f"{precision.name} {seed}")
    drawn = {name: row.draw(chance) for name, row in UNKNOWN.items()}
    unit = 2.0 * precision.side**3
    rate = GPUS * precision.rate.draw(chance) / unit
    rates = tuple(max(0.5, chance.gauss(1.0, drawn["between_nodes"])) * rate for _ in range(nodes))
    work = Work(units=UNITS_PER_NODE * nodes, bytes_in=2.0 * precision.side**2 * precision.size)
    machine = Machine(
        rates=rates,
        believed=(rate,) * nodes,
        jitter=drawn["jitter"],
        stragglers=drawn["stragglers"],
        slowdown=drawn["slowdown"],
        start=drawn["start"],
        latency=drawn["latency"],
        bandwidth=drawn["link"],
        topology="fat-tree",
        fanout=FANOUT if nodes > 2 * FANOUT else 0,
        dispatch=drawn["dispatch"],
        depth=2,
        streamed=True,
        shortest=1.0 / rate,
        idle_watts=drawn["idle_watts"],
        busy_watts=drawn["busy_watts"],
    )
    outcome = simulate(work, machine, seed)
    course = play(Campaign(DAY, nodes, drawn["gpu_mtbf"] / GPUS, drawn["checkpoint"], drawn["restart"]), seed)
    return Sample(
        flops=work.units * unit / outcome.seconds * course.efficiency,
        farm=outcome.efficiency,
        campaign=course.efficiency,
        watts=outcome.joules / outcome.seconds * drawn["around"],
    )


def curve(
    precision: Precision, samples: int, sizes: Sequence[float], show: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Points at `sizes` times the GPUs that peak would need, and what it takes to reach 1 EFLOP/s."""
    if samples < 1:
        raise BadInput("a curve needs at least one sample")
    points = []
    for part in sizes:
        nodes = max(1, round(part * GOAL / precision.peak / GPUS))
        show(f"{precision.name} on {nodes * GPUS} GPUs")
        drawn = [sample(precision, nodes, seed) for seed in range(samples)]
        points.append(
            {
                "gpus": nodes * GPUS,
                "flops": Band.of([one.flops for one in drawn]).as_json(),
                "farm_efficiency": Band.of([one.farm for one in drawn]).as_json(),
                "campaign_efficiency": Band.of([one.campaign for one in drawn]).as_json(),
                "watts": Band.of([one.watts for one in drawn]).as_json(),
            }
        )
    return {
        "label": "simulated",
        "what": f"block products in {precision.name}, a day with failures; neither HPL nor HPL-MxP",
        "precision": precision.name,
        "gpu_rate": precision.rate.as_json(),
        "gpu_peak": precision.peak,
        "points": points,
        "at_1_eflops": crossing(points, precision.peak),
    }


def crossing(points: list[dict[str, Any]], peak: float) -> dict[str, Any]:
    """GPUs, watts and efficiency where the curve reaches GOAL; empty where it does not within its points."""
    found: dict[str, Any] = {}
    for part, name in (("median", "gpus"), ("p95", "gpus_at_best"), ("p5", "gpus_at_worst")):
        for below, above in pairwise(points):
            low, high = below["flops"][part], above["flops"][part]
            if low <= GOAL <= high:
                share = (GOAL - low) / (high - low)
                found[name] = round(below["gpus"] + share * (above["gpus"] - below["gpus"]))
                if name == "gpus":
                    for row in ("p5", "median", "p95"):
                        first, last = below["watts"][row], above["watts"][row]
                        found[f"watts_{row}"] = first + share * (last - first)
                    found["of_peak"] = GOAL / (found["gpus"] * peak)
    return found


def report(
    names: Sequence[str], samples: int, show: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Curves of some precisions, the ranges they come from, and what others measured."""
    sizes = (0.5, 1.0, 1.25, 1.5, 2.0)
    return {
        "version": 1,
        "label": "simulated",
        "samples": samples,
        "curves": [curve(PRECISIONS[name], samples, sizes, show) for name in names],
        "ranges": {name: row.as_json() for name, row in UNKNOWN.items()},
        "records": [record.as_json() for record in RECORDS],
    }
