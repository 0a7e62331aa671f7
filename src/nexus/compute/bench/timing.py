"""How the benchmarks measure: in turns, by medians, on random operands."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nexus.compute.formats import Array

Row = dict[str, Any]


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def in_turns(actions: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Times of each action, round by round: what else the machine does meets all of them alike. Every other
    round goes backwards, so that none always comes first.
    """
    times: list[list[float]] = [[] for _ in actions]
    for turn in range(rounds):
        order = range(len(actions)) if turn % 2 == 0 else reversed(range(len(actions)))
        for n in order:
            times[n].append(seconds(actions[n]))
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of each round."""
    return statistics.median(one / two for one, two in zip(ours, theirs, strict=True))


def operands(size: int) -> tuple[Array, Array]:
    """Two random square matrices (zeros would be faster than any real data)."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((size, size), np.float32), rng.standard_normal((size, size), np.float32)
