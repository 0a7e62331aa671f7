"""Operands that every chunk of a job needs: sent to a node once, and found there again by their digest.

A node holds what the jobs under way need, and of what they needed before the newest IDLE_BYTES, so that a
product with the same second operand, or with one of the last few, moves no byte of it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

import numpy as np

from nexus.compute.formats import Array

IDLE_BYTES = 1 << 28
"""Bytes a node holds for jobs that are not there yet; larger operands are sent for every job."""
OWNERS = 8
"""Jobs whose operands a node holds at a time: one for each engine that uses it. The oldest is forgotten."""


def name_of(array: Array) -> str:
    """Equal for arrays of the same type, shape and bytes; never for those too large to be found again."""
    if array.nbytes > IDLE_BYTES:
        return uuid.uuid4().hex
    digest = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


class Operands:
    """What one node holds."""

    def __init__(self) -> None:
        self.held: dict[str, Array] = {}
        self.owners: dict[str, list[str]] = {}

    def keep(self, owner: str, names: Sequence[str], given: dict[str, Array]) -> list[str]:
        """Hold the operands of an owner's job, in this order, instead of those of its last; returns the names
        of those that are neither here nor `given`.
        """
        self.owners.pop(owner, None)
        self.owners[owner] = list(names)
        while len(self.owners) > OWNERS:
            del self.owners[next(iter(self.owners))]
        found = {name: given[name] if name in given else self.held.pop(name, None) for name in names}
        self.held.update((name, array) for name, array in found.items() if array is not None)
        self.forget()
        return [name for name, array in found.items() if array is None]

    def of(self, owner: str) -> list[Array]:
        """The operands of an owner's job; fewer when some are not here."""
        return [self.held[name] for name in self.owners.get(owner, []) if name in self.held]

    def drop(self, owner: str) -> None:
        """The job is over."""
        self.owners.pop(owner, None)
        self.forget()

    def forget(self) -> None:
        """Free the oldest of what no job under way needs, beyond IDLE_BYTES."""
        needed = {name for names in self.owners.values() for name in names}
        idle = [name for name in self.held if name not in needed]
        room = IDLE_BYTES
        for name in reversed(idle):
            room -= self.held[name].nbytes
            if room < 0:
                del self.held[name]
