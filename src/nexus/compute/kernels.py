"""The work itself, on numpy. The host and every worker run these same functions.

A kernel gets the job's parameters and inputs, a range of units and the output of the whole job, and fills
`out[start:stop]`. `params["memory"]` bounds the bytes a matrix product touches at a time (None: no bound);
`params["tile"]`, when not 0, makes a product compute fixed tiles of that many units, so that its bits do not
depend on the split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nexus.compute.errors import BadInput
from nexus.compute.formats import Array
from nexus.compute.tiling import steps, tile_sizes

Params = dict[str, Any]
EXACT_DEPTH = 1024
"""Products of two int8 add up exactly in fp32 up to this depth: 1024 * 127**2 < 2**24."""


POINTS_AT_ONCE = 1 << 12
"""Points whose block stays in the first cache levels."""


def matmul(params: Params, inputs: Sequence[Array], start: int, stop: int, out: Array) -> None:
    """Rows of `inputs[0] @ inputs[1] * scale`."""
    a, b = inputs
    for low, high in steps(start, stop, params["tile"] or stop - start):
        _product(params, a[low:high], b, out[low:high])
    if params["scale"] != 1.0:
        out[start:stop] *= np.float32(params["scale"])


def _product(params: Params, a: Array, b: Array, out: Array) -> None:
    rows, columns, depth = tile_sizes(a.shape[0], b.shape[1], a.shape[1], params["memory"])
    if params["exact"]:
        depth = min(depth, EXACT_DEPTH)
    if (rows, columns, depth) == (a.shape[0], b.shape[1], a.shape[1]):
        np.matmul(a, b, out=out)
        return
    for top, bottom in steps(0, a.shape[0], rows):
        for left, right in steps(0, b.shape[1], columns):
            total = np.zeros((bottom - top, right - left), np.float64 if params["exact"] else out.dtype)
            for near, far in steps(0, a.shape[1], depth):
                total += a[top:bottom, near:far] @ b[near:far, left:right]
            out[top:bottom, left:right] = total


def transform(params: Params, inputs: Sequence[Array], start: int, stop: int, out: Array) -> None:
    """Points (x, y, z, w) as rows, times a 4x4 matrix: `points @ matrix.T`."""
    points, matrix = inputs
    turned = np.ascontiguousarray(matrix.T)
    for low, high in steps(start, stop, POINTS_AT_ONCE):
        np.matmul(points[low:high], turned, out=out[low:high])


def map_blocks(params: Params, inputs: Sequence[Array], start: int, stop: int, out: Array) -> None:
    """`function` of a block of elements."""
    for low, high in steps(start, stop, params["tile"] or stop - start):
        got = np.asarray(params["function"](*(array[low:high] for array in inputs)))
        if got.shape != (high - low, *out.shape[1:]):
            raise BadInput(
                f"the function made {got.shape} of {high - low} elements, not {(high - low, *out.shape[1:])}",
                hint="it gets a block of elements and must return one result for each",
            )
        out[low:high] = got


REDUCERS: dict[str, Callable[[Array], Any]] = {
    "sum": lambda block: np.sum(block, axis=0, dtype=np.float64 if block.dtype.kind == "f" else None),
    "max": lambda block: np.max(block, axis=0),
    "min": lambda block: np.min(block, axis=0),
}


def reduce_tiles(params: Params, inputs: Sequence[Array], start: int, stop: int, out: Array) -> None:
    """One partial result for each tile of `params["span"]` elements."""
    (data,) = inputs
    reducer, span = REDUCERS[params["how"]], params["span"]
    for tile in range(start, stop):
        out[tile] = reducer(data[tile * span : (tile + 1) * span])


def gravity(params: Params, inputs: Sequence[Array], start: int, stop: int, out: Array) -> None:
    """Softened gravitational acceleration of bodies, as products of distance matrices with the positions.

    With w[i,j] = m[j] / d[i,j]**3 the acceleration is w @ x - rowsum(w) * x.
    """
    positions, masses = inputs
    squares = np.einsum("ij,ij->i", positions, positions)
    for low, high in steps(start, stop, params["tile"] or min(512, stop - start)):
        mine = positions[low:high]
        distance = squares[low:high, None] + squares[None, :] - 2.0 * (mine @ positions.T)
        np.maximum(distance, 0.0, out=distance)
        distance += params["softening"] ** 2
        weight = masses[None, :] * distance**-1.5
        weight[np.arange(high - low), np.arange(low, high)] = 0.0
        out[low:high] = params["g"] * (weight @ positions - weight.sum(axis=1, keepdims=True) * mine)


def cloth(params: Params, inputs: Sequence[Array], start: int, stop: int, out: Array) -> None:
    """Acceleration of the points of a net of damped springs: a sparse matrix times the positions.

    Row i of the matrix has w = stiffness * (1 - rest / length) at the ends of point i's springs: the force
    is w @ x - rowsum(w) * x, and that of the damping likewise along each spring. `inputs` are positions,
    velocities, the other ends of each point's springs (its own number fills a row up) and their rest lengths.
    """
    positions, velocities, ends, rests = inputs
    for low, high in steps(start, stop, params["tile"] or min(POINTS_AT_ONCE, stop - start)):
        to = positions[ends[low:high]] - positions[low:high, None, :]
        length = np.sqrt(np.einsum("ijk,ijk->ij", to, to))
        there = length > 0.0
        inverse = np.divide(1.0, length, out=np.zeros_like(length), where=there)
        towards = velocities[ends[low:high]] - velocities[low:high, None, :]
        speed = np.einsum("ijk,ijk->ij", towards, to) * inverse
        pull = params["stiffness"] * (length - rests[low:high]) + params["damping"] * speed
        force = np.einsum("ij,ijk->ik", pull * inverse, to)
        out[low:high] = force / params["mass"] + params["gravity"]


KERNELS: dict[str, Callable[[Params, Sequence[Array], int, int, Array], None]] = {
    "matmul": matmul,
    "transform": transform,
    "map": map_blocks,
    "reduce": reduce_tiles,
    "gravity": gravity,
    "cloth": cloth,
}
