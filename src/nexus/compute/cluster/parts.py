"""Which part of a job's inputs a chunk needs. What is not listed is sent whole, once for a job and node."""

from __future__ import annotations

from nexus.compute.formats import Array
from nexus.compute.job import Job


def elements_per_unit(job: Job) -> tuple[int, ...]:
    """For each input how many of its rows one unit needs; 0 where every unit needs all of it."""
    if job.kernel in ("matmul", "transform"):
        return 1, 0
    if job.kernel == "map":
        return (1,) * len(job.inputs)
    if job.kernel == "reduce":
        return (job.params["span"],)
    return (0,) * len(job.inputs)


def whole(job: Job) -> list[Array]:
    """The inputs that every chunk needs."""
    return [array for array, rows in zip(job.inputs, elements_per_unit(job), strict=True) if not rows]


def slices(job: Job, start: int, stop: int) -> list[Array]:
    """The parts of the other inputs that units `start` to `stop` need."""
    return [
        array[start * rows : stop * rows]
        for array, rows in zip(job.inputs, elements_per_unit(job), strict=True)
        if rows
    ]
