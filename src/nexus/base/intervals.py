"""A map from integers to values that are equal over long runs, such as the protection of pages.

Neighbouring runs with equal values are one run, so the size of the map is the number of changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Generic, TypeVar

    T = TypeVar("T")
else:
    T = "T"

    class Generic:
        """Lets `IntervalMap[int]` be written without importing typing."""

        __slots__ = ()

        def __class_getitem__(cls, item):
            return cls


class IntervalMap(Generic[T]):
    """Every integer from 0 up has a value, at first `default`."""

    __slots__ = ("_starts", "_values", "default")

    def __init__(self, default: T) -> None:
        self.default = default
        self._starts = [0]
        self._values = [default]

    def __getitem__(self, point: int) -> T:
        return self._values[bisect_right(self._starts, point) - 1]

    def set(self, start: int, end: int, value: T) -> None:
        """Give `value` to start <= point < end."""
        starts, values = self._starts, self._values
        first = bisect_left(starts, start)  # the first run that begins in the range
        last = bisect_right(starts, end) - 1  # the run that holds `end`
        after = values[last]
        new_starts, new_values = [], []
        if first == 0 or values[first - 1] != value:
            new_starts.append(start)
            new_values.append(value)
        if after != value:
            new_starts.append(end)
            new_values.append(after)
        starts[first : last + 1] = new_starts
        values[first : last + 1] = new_values

    def run(self, point: int, limit: int) -> tuple[int, int, T]:
        """(start, end, value) of the run that holds `point`; the last run ends at `limit`."""
        index = bisect_right(self._starts, point) - 1
        end = self._starts[index + 1] if index + 1 < len(self._starts) else limit
        return self._starts[index], end, self._values[index]

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, T]]:
        """The runs of start <= point < end, cut to that range, as they were when the iteration began."""
        if start >= end:
            return
        index = bisect_right(self._starts, start) - 1
        last = bisect_left(self._starts, end)
        starts, values = self._starts[index:last], self._values[index:last]
        starts[0] = start
        for number, begin in enumerate(starts):
            yield begin, starts[number + 1] if number + 1 < len(starts) else end, values[number]

    def __len__(self) -> int:
        return len(self._starts)
