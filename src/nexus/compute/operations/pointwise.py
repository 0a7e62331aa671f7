"""Maps and reductions. What a worker returns is checked by computing a random sample again in this
process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nexus.compute.errors import BadInput, ComputeError
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.kernels import REDUCERS

if TYPE_CHECKING:
    from nexus.compute.engine import Engine

BLOCK = 1 << 12
SAMPLE = 64
OPERATIONS_PER_SECOND = 1e10
"""What a second of a user's function counts as, to tell small jobs from large ones."""
CHUNK_SECONDS = 0.01


def map_blocks(engine: Engine, function: Callable[..., Any], data: Sequence[object]) -> Array:
    """Raises BadInput when arrays differ in length, are empty, or the function does not work element by
    element.

    An exception of the function ends the job as a ComputeError that names it.
    """
    if not data:
        raise BadInput("map needs at least one array")
    arrays = tuple(engine.take(value, f"data[{n}]", None) for n, value in enumerate(data))
    if any(not array.ndim for array in arrays):
        raise BadInput("map takes arrays, not single numbers")
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        raise BadInput(f"map of arrays with different lengths: {sorted(lengths)}")
    count = lengths.pop()
    if not count:
        raise BadInput("map of no elements")
    like = call(function, [array[:1] for array in arrays])
    if like.shape[:1] != (1,):
        raise BadInput(
            f"the function made {like.shape} of one element",
            hint="it gets a block of elements and returns as many",
        )
    out = engine.output((count, *like.shape[1:]), like.dtype)

    def check(start: int, stop: int, roundoff: float) -> str:
        """A random run of elements, as one block: within a few roundings, since block sizes differ."""
        size = min(SAMPLE, stop - start)
        first = start + int(engine.rng.integers(0, stop - start - size + 1))
        again = call(function, [array[first : first + size] for array in arrays])
        return "" if agree(out[first : first + size], again) else f"elements {first} to {first + size} differ"

    tile = BLOCK if engine.deterministic else 0
    seconds = seconds_per_element(function, arrays)
    granule = BLOCK if tile else max(1, min(BLOCK, int(CHUNK_SECONDS / seconds)))
    params = {"function": function, "tile": tile}
    job = Job(
        "map",
        count,
        arrays,
        out,
        params,
        granule=granule,
        work=seconds * OPERATIONS_PER_SECOND,
        counted=False,
        check=check,
        dtype=str(like.dtype),
    )
    try:
        engine.run(job)
    except ComputeError:
        raise
    except Exception as error:
        raise ComputeError(f"the mapped function raised {type(error).__name__}: {error}") from error
    return out


def call(function: Callable[..., Any], blocks: Sequence[Array]) -> Array:
    try:
        return np.asarray(function(*blocks))
    except Exception as error:
        raise ComputeError(f"the mapped function raised {type(error).__name__}: {error}") from error


def seconds_per_element(function: Callable[..., Any], arrays: Sequence[Array]) -> float:
    """How long the function takes, by one element or, when that is quick, by a few."""
    for size in (1, SAMPLE):
        began = time.perf_counter()
        call(function, [array[:size] for array in arrays])
        seconds = time.perf_counter() - began
        if seconds > CHUNK_SECONDS / 10:
            break
    return max(seconds, 1e-7) / min(size, len(arrays[0]))


def agree(got: Array, again: Array) -> bool:
    if got.dtype.kind in "fc":
        eps = float(np.finfo(got.dtype).eps)
        return bool(
            np.allclose(got, again, rtol=64 * eps, atol=64 * float(np.finfo(got.dtype).tiny), equal_nan=True)
        )
    return bool(np.array_equal(got, again))


def reduce(engine: Engine, data: object, how: str) -> Array:
    """Partial results of fixed tiles, combined pairwise: the bits depend on the data alone, not on the
    split.
    """
    if how not in REDUCERS:
        raise BadInput(f"there is no reduction {how!r}", hint=f"reductions: {' '.join(REDUCERS)}")
    array = engine.take(data, "data", None)
    if not array.ndim or not len(array):
        raise BadInput("reduce of no elements")
    tiles = -(-len(array) // BLOCK)
    reducer = REDUCERS[how]
    out = engine.output((tiles, *array.shape[1:]), np.asarray(reducer(array[:1])).dtype)

    def check(start: int, stop: int, roundoff: float) -> str:
        tile = int(engine.rng.integers(start, stop))
        again = np.asarray(reducer(array[tile * BLOCK : (tile + 1) * BLOCK]))
        return (
            ""
            if np.array_equal(out[tile], again, equal_nan=again.dtype.kind == "f")
            else f"tile {tile} differs"
        )

    work = float(BLOCK * array[:1].size)
    params = {"how": how, "span": BLOCK}
    engine.run(
        Job("reduce", tiles, (array,), out, params, granule=4, work=work, check=check, dtype=str(array.dtype))
    )
    parts = out
    while len(parts) > 1:
        half = len(parts) // 2
        pairs = np.stack([parts[:half], parts[half : 2 * half]])
        parts = np.concatenate([reducer(pairs), parts[2 * half :]])
    return np.asarray(parts[0])
