"""A cloth as masses and damped springs: each step is a sparse matrix, made anew from the lengths, times the
positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nexus.compute import kernels
from nexus.compute.errors import BadInput, ComputeError
from nexus.compute.formats import Array
from nexus.compute.job import Job

if TYPE_CHECKING:
    from nexus.compute.engine import Engine

POINTS = 64
SAMPLE = 4
OPERATIONS_PER_SPRING = 30.0


class Net:
    """Springs between points: m by 2 numbers of points, rest `lengths` (None: those at the start), and what
    all of them share. `stiffness` in force per length, `damping` in force per speed along the spring, `mass`
    of each point, `pinned` points that do not move.
    """

    def __init__(
        self,
        springs: object,
        lengths: object | None,
        stiffness: float,
        damping: float,
        mass: float,
        pinned: Sequence[int],
        gravity: Sequence[float],
    ) -> None:
        self.springs = np.asarray(springs)
        self.lengths = None if lengths is None else np.asarray(lengths, np.float64)
        self.pinned = np.asarray(pinned, np.int64)
        self.params: dict[str, Any] = {
            "stiffness": float(stiffness),
            "damping": float(damping),
            "mass": float(mass),
            "gravity": np.asarray(gravity, np.float64),
        }

    def check(self, count: int) -> None:
        """Raise BadInput for what makes no net over `count` points."""
        springs, params = self.springs, self.params
        if springs.ndim != 2 or springs.shape[1:] != (2,) or springs.dtype.kind not in "iu":
            raise BadInput(f"springs are m by 2 whole numbers, not {springs.shape} of {springs.dtype}")
        numbers = np.concatenate([springs.ravel(), self.pinned])
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < count):
            raise BadInput(f"a spring or a pin names a point that is not among the {count}")
        if (springs[:, 0] == springs[:, 1]).any():
            raise BadInput("a spring holds a point to itself")
        if self.lengths is not None and self.lengths.shape != (len(springs),):
            raise BadInput(f"{len(springs)} springs have rest lengths of shape {self.lengths.shape}")
        figures = (
            params["stiffness"],
            params["damping"],
            *params["gravity"],
            *([] if self.lengths is None else self.lengths),
        )
        if params["gravity"].shape != (3,) or not np.isfinite(figures).all():
            raise BadInput("stiffness, damping, three numbers of gravity and lengths must be finite")
        if not params["mass"] > 0 or params["stiffness"] < 0 or params["damping"] < 0:
            raise BadInput("a mass is above 0, stiffness and damping are not below")

    def table(self, positions: Array) -> tuple[Array, Array]:
        """For each point the other ends of its springs and their rest lengths, filled up with itself."""
        count = len(positions)
        both = np.concatenate([self.springs, self.springs[:, ::-1]]).astype(np.int64)
        lengths = self.lengths
        if lengths is None:
            lengths = np.linalg.norm(positions[self.springs[:, 0]] - positions[self.springs[:, 1]], axis=1)
        order = np.argsort(both[:, 0], kind="stable")
        owners, degree = both[order, 0], np.bincount(both[:, 0], minlength=count)
        slot = np.arange(len(order)) - np.repeat(np.cumsum(degree) - degree, degree)
        width = max(1, int(degree.max(initial=0)))
        ends = np.repeat(np.arange(count)[:, None], width, axis=1)
        rests = np.zeros((count, width))
        ends[owners, slot] = both[order, 1]
        rests[owners, slot] = np.concatenate([lengths, lengths])[order]
        return ends, rests


def simulate(
    engine: Engine, positions: object, velocities: object, net: Net, dt: float, steps: int
) -> tuple[Array, Array]:
    """Symplectic Euler (speed first, then place) in double precision.

    Raises BadInput for shapes other than n by 3, NaN or Inf, and springs that do not fit; ComputeError when
    the steps are too long for the stiffness, so that the net flies apart.
    """
    places, speeds = (
        engine.take(value, name, np.float64)
        for value, name in ((positions, "positions"), (velocities, "velocities"))
    )
    given = (places, speeds)
    if places.ndim != 2 or places.shape[1:] != (3,) or places.shape != speeds.shape or not len(places):
        raise BadInput(f"cloth takes n by 3 and n by 3 numbers, not {places.shape} and {speeds.shape}")
    if not all(np.isfinite(array).all() for array in given) or not np.isfinite(dt):
        raise BadInput("cloth was given NaN or Inf")
    if steps < 1:
        raise BadInput("cloth takes at least one step")
    net.check(len(places))
    x, v = (engine.output(array.shape, np.float64) for array in given)
    x[...], v[...] = given
    engine.copied += x.nbytes + v.nbytes
    ends, rests = net.table(x)
    out = engine.output(x.shape, np.float64)
    params = {**net.params, "tile": POINTS if engine.deterministic else 0}

    def check(start: int, stop: int, roundoff: float) -> str:
        again = np.empty_like(out)
        for point in engine.rng.integers(start, stop, SAMPLE):
            place = int(point)
            kernels.cloth({**params, "tile": 0}, (x, v, ends, rests), place, place + 1, again)
            size = float(np.abs(again[place]).max())
            if not np.abs(out[place] - again[place]).max() <= 1e-9 * size + 1e-12:
                return f"the acceleration of point {place} differs"
        return ""

    job = Job(
        "cloth", len(x), (x, v, ends, rests), out, params,
        granule=POINTS, work=OPERATIONS_PER_SPRING * ends.shape[1], check=check, dtype="fp64",
    )  # fmt: skip
    for step in range(steps):
        engine.run(job)
        v += dt * out
        v[net.pinned] = 0.0
        x += dt * v
        if not np.isfinite(x).all():
            stiffest = 2.0 * net.params["stiffness"] * ends.shape[1] / net.params["mass"]
            raise ComputeError(
                f"the cloth flew apart at step {step + 1}: dt = {dt:g} is too long for its springs",
                hint=f"take dt below {2.0 / max(stiffest, 1e-30) ** 0.5:.3g}",
            )
    return np.array(x), np.array(v)


def sheet(rows: int, columns: int, spacing: float = 1.0) -> tuple[Array, Array]:
    """Points of a flat sheet (rows * columns by 3, row by row) and its springs: along both sides, across, and
    over every second point, so that it resists stretching, shearing and bending.
    """
    if rows < 1 or columns < 1:
        raise BadInput(f"a sheet has at least one row and one column, not {rows} and {columns}")
    y, x = np.mgrid[0:rows, 0:columns]
    points = np.stack([x.ravel() * spacing, y.ravel() * spacing, np.zeros(rows * columns)], axis=1)
    number = np.arange(rows * columns).reshape(rows, columns)
    pairs = []
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0)):
        left, right = max(0, -across), columns - max(0, across)
        if down < rows and left < right:
            near = number[: rows - down, left:right]
            far = number[down:, left + across : right + across]
            pairs.append(np.stack([near.ravel(), far.ravel()], axis=1))
    return points, np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)
