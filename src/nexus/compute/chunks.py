"""How large a chunk is and when one counts as stalled: the scheduler's rules, which the simulator uses too.

The first chunk of a device is FIRST of its share by measured rate; later ones are its share of half of what
remains, less what it holds already, down to the job's granule and to what is worth a message. So a device
that holds two has a long and a short one: enough to go on with while the next is on its way, and no more than
that bound to it.
"""

from __future__ import annotations

import math

FIRST = 0.6
STALL = 4.0
STALL_SECONDS = 0.25
"""A chunk is not called stalled before it is late by this much, whatever it was expected to take."""
SHORTEST = 0.002
"""Seconds a chunk on this machine should take at least: below this the message costs more than the work."""


def next_size(
    left: int, total: int, granule: int, rate: float, share: float, *, first: bool, held: int = 0,
    shortest: float = SHORTEST,
) -> int:  # fmt: skip
    """Units of a device's next chunk, out of `left` of a job's `total`.

    `rate` is in units per second, `share` the device's part of the rates of all devices at work; `first`
    tells that it had none of this job yet; it holds `held` units now; `shortest` in seconds.
    """
    whole = share >= 1.0 and not held
    size = float(left) if whole else total * share * FIRST if first else left * share / 2 - held
    return in_granules(max(size, rate * shortest), left, granule)


def in_granules(size: float, left: int, granule: int) -> int:
    """`size` rounded up to whole granules, but no more than `left`."""
    return min(left, max(1, math.ceil(size / granule)) * granule)


def late(seconds: float, expected: float) -> bool:
    """Whether a chunk that was expected to take `expected` seconds counts as stalled after `seconds`."""
    return seconds > max(STALL * expected, expected + STALL_SECONDS)
