"""The kernel's timer queue: what becomes due when, on the kernel clock."""

from __future__ import annotations

import heapq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Expiring(Protocol):
        def expired(self) -> None: ...


class TimerQueue:
    """Each object has at most one entry; `expired()` is called on it when its moment has passed."""

    __slots__ = ("_heap", "_live", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Expiring]] = []
        self._live: dict[int, int] = {}
        self._sequence = 0

    def add(self, due: int, target: Expiring) -> None:
        self._sequence += 1
        self._live[id(target)] = self._sequence
        heapq.heappush(self._heap, (due, self._sequence, target))

    def remove(self, target: Expiring) -> None:
        self._live.pop(id(target), None)

    def next_due(self) -> int | None:
        """The earliest moment anything is due."""
        heap = self._heap
        while heap and self._live.get(id(heap[0][2])) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run(self, now: int) -> None:
        """Expire everything that is due."""
        while True:
            due = self.next_due()
            if due is None or due > now:
                return
            target = heapq.heappop(self._heap)[2]
            del self._live[id(target)]
            target.expired()
