"""A job: units of work that can be done in any order by any device, and how to check a part of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nexus.compute.formats import Array


class Job:
    """`kernel` is a name of `kernels.KERNELS`; `work` is the floating-point operations of one unit,
    `counted` or (a user's function) only assumed, to tell small jobs from large ones.

    `check(start, stop, roundoff)` returns what is wrong with those units of `out`, or an empty text;
    `roundoff` is the relative error of one addition on the device that computed them. `granule` is the
    fewest units worth a message; chunks are multiples of it, which deterministic mode relies on. A job that
    is a part of another one begins at unit `first` of the same inputs and output.
    """

    def __init__(
        self,
        kernel: str,
        units: int,
        inputs: tuple[Array, ...],
        out: Array,
        params: dict[str, Any],
        *,
        granule: int = 1,
        work: float = 1.0,
        counted: bool = True,
        check: Callable[[int, int, float], str] | None = None,
        dtype: str = "fp32",
        first: int = 0,
    ) -> None:
        self.kernel = kernel
        self.units = units
        self.inputs = inputs
        self.out = out
        self.params = {"memory": None, "tile": 0, **params}
        self.granule = max(1, granule)
        self.work = work
        self.counted = counted
        self.check = check
        self.dtype = dtype
        self.first = first

    @property
    def stop(self) -> int:
        """The unit after the last."""
        return self.first + self.units
