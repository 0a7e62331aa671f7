"""Hours of work in rounds on a machine whose nodes fail: checkpoints, what a failure throws back, restarts.

Operands lie in the memory of the nodes, so one that fails takes the state of the whole job back to the last
checkpoint. Spare nodes take its place after the restart. Events are failures and checkpoints only.
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from typing import Any

from nexus.compute.errors import BadInput


@dataclass(frozen=True)
class Campaign:
    """`seconds` of useful work to be done. `mtbf` is one node's mean time between failures, `checkpoint` the
    time one takes, `restart` the time from a failure until work goes on; all in seconds. `interval` between
    checkpoints is Young's sqrt(2 * checkpoint * mtbf / nodes) when 0.
    """

    seconds: float
    nodes: int
    mtbf: float
    checkpoint: float
    restart: float
    interval: float = 0.0

    def __post_init__(self) -> None:
        if (
            min(self.seconds, self.mtbf, self.nodes) <= 0
            or min(self.checkpoint, self.restart, self.interval) < 0
        ):
            raise BadInput("a campaign needs work, nodes and a time between failures above 0")

    @property
    def spacing(self) -> float:
        """Seconds of work between two checkpoints."""
        return self.interval or max(1e-6, math.sqrt(2 * self.checkpoint * self.mtbf / self.nodes))


@dataclass(frozen=True)
class Course:
    """What a campaign took. `repeated` is the work done again, `paused` the time of checkpoints and
    restarts.
    """

    seconds: float
    useful: float
    failures: int
    checkpoints: int
    repeated: float
    paused: float

    @property
    def efficiency(self) -> float:
        return self.useful / self.seconds

    def as_json(self) -> dict[str, Any]:
        return {"label": "simulated", **asdict(self), "efficiency": self.efficiency}


LONGEST = 100.0
"""A campaign that takes so many times its work makes no progress."""


def play(campaign: Campaign, seed: int = 0) -> Course:
    """Play a campaign to its end. Raises BadInput when failures come faster than it can get on."""
    chance, spacing = random.Random(seed), campaign.spacing
    rate = campaign.nodes / campaign.mtbf
    now, saved, done = 0.0, 0.0, 0.0
    failures, checkpoints, repeated, paused = 0, 0, 0.0, 0.0
    fails = chance.expovariate(rate)
    while done < campaign.seconds:
        step = min(spacing, campaign.seconds - saved)
        last = saved + step >= campaign.seconds
        needed = step + (0.0 if last else campaign.checkpoint)
        if now + needed <= fails:
            now += needed
            saved = done = saved + step
            if not last:
                checkpoints += 1
                paused += campaign.checkpoint
            continue
        repeated += min(step, fails - now)
        now = fails + campaign.restart
        paused += campaign.restart
        failures += 1
        fails = now + chance.expovariate(rate)
        if now > LONGEST * campaign.seconds:
            raise BadInput(f"with a failure every {1 / rate:.3g} s this work is never done")
    return Course(now, campaign.seconds, failures, checkpoints, repeated, paused)
