"""User APCs: routines that a thread runs in the guest when it waits alertably (or at once, for special
ones).
"""

from __future__ import annotations


class Apc:
    """One queued call of `routine(arguments...)`; `owner` is the timer that queued it, for taking it back."""

    __slots__ = ("arguments", "owner", "routine", "special")

    def __init__(
        self, routine: int, arguments: tuple[int, int, int], owner: object = None, special: bool = False
    ) -> None:
        self.routine = routine
        self.arguments = arguments
        self.owner = owner
        self.special = special
