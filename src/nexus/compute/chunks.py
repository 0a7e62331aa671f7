"""How large a chunk is and when one counts as stalled: the scheduler's rules, which the simulator uses too.

A device that has one chunk at a time gets FIRST of its share by measured rate, then its share of half of what
remains, down to the job's granule and to what is worth a message. One that has two begins with BEGIN of its
share, so that its work starts soon, and gets the rest of FIRST during that. Later a long chunk, sized as
above, and a short one take turns: enough to go on with while a long one travels, and no more than that bound
to it.
"""

from __future__ import annotations

import math

FIRST = 0.6
BEGIN = 0.1
QUEUED = 0.125
"""A short chunk's part of the long one before it."""
NODE_DEPTH = 2
"""Chunks that a node of a cluster holds at a time."""
STALL = 4.0
STALL_SECONDS = 0.25
"""A chunk is not called stalled before it is late by this much, whatever it was expected to take."""
NODE_GRACE = 1.0
"""The same for a chunk on a node, whose messages may wait for a busy machine or network."""
SHORTEST = 0.002
"""Seconds a chunk on this machine should take at least: below this the message costs more than the work."""


def next_size(
    left: int, total: int, granule: int, rate: float, share: float, *, given: int, held: int = 0,
    depth: int = 1, shortest: float = SHORTEST,
) -> int:  # fmt: skip
    """Units of a device's next chunk, out of `left` of a job's `total`.

    `rate` is in units per second, `share` the device's part of the rates of all devices at work. It was given
    `given` chunks of this job and has `held` units of them under way now, in up to `depth` chunks; `shortest`
    in seconds.
    """
    guided = left * share / 2
    if depth == 1:
        size = float(left) if share >= 1.0 else guided if given else total * share * FIRST
    elif given < 2:
        size = total * share * (FIRST if given else BEGIN) - held
    else:
        size = max(guided - held, min(guided, QUEUED * held))
    return in_granules(max(size, rate * shortest), left, granule)


def in_granules(size: float, left: int, granule: int) -> int:
    """`size` rounded up to whole granules, but no more than `left`."""
    return min(left, max(1, math.ceil(size / granule)) * granule)


def late(seconds: float, expected: float, grace: float) -> bool:
    """Whether a chunk that was expected to take `expected` seconds counts as stalled after `seconds`."""
    return seconds > max(STALL * expected, expected + grace)
