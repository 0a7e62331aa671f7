"""What a few measured ratios say: a median with an interval, and means over kernels."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, exp, log

CONFIDENCE = 0.95
SPREAD = 0.05  # native against native may differ by so much


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The interval that covers the true median with 95 % confidence, whatever the distribution.

    It goes from the k-th smallest to the k-th largest value, k by the binomial distribution. None for fewer
    than 6 values, which are too few for any k.
    """
    n = len(values)
    best, outside = 0, 0.0
    for k in range(1, n // 2 + 1):  # the chance that fewer than k values lie on one side of the median
        outside += comb(n, k - 1) / 2**n
        if 2 * outside > 1 - CONFIDENCE:
            break
        best = k
    if not best:
        return None
    ordered = sorted(values)
    return ordered[best - 1], ordered[n - best]


def steady(native: Sequence[float]) -> bool:
    """Whether native against native came out as 1, so that other ratios of the run mean something: the
    interval of its median lies within 5 % of 1."""
    found = interval(native)
    return found is not None and found[0] >= 1 - SPREAD and found[1] <= 1 + SPREAD


def geometric_mean(values: Sequence[float]) -> float:
    return exp(sum(map(log, values)) / len(values))
