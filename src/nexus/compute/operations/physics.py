"""Physics as matrix work: gravity between all pairs of bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nexus.compute.errors import BadInput
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.kernels import gravity

if TYPE_CHECKING:
    from nexus.compute.engine import Engine

BODIES = 64
SAMPLE = 4


def nbody(
    engine: Engine,
    positions: object,
    velocities: object,
    masses: object,
    dt: float,
    steps: int,
    softening: float,
    g: float,
) -> tuple[Array, Array]:
    """Leapfrog (kick, drift, kick) in double precision; raises BadInput for shapes other than n by 3, 3
    and n.
    """
    given = engine.take(positions, "positions", np.float64)
    x = engine.output(given.shape, np.float64)
    x[...] = given
    engine.copied += x.nbytes
    v = engine.take(velocities, "velocities", np.float64).copy()
    m = engine.take(masses, "masses", np.float64)
    if x.ndim != 2 or x.shape[1] != 3 or v.shape != x.shape or m.shape != x.shape[:1] or not len(x):
        raise BadInput(f"nbody takes n by 3, n by 3 and n numbers, not {x.shape}, {v.shape}, {m.shape}")
    if not (np.isfinite(x).all() and np.isfinite(v).all() and np.isfinite(m).all()):
        raise BadInput("nbody was given NaN or Inf")
    if steps < 1 or not softening > 0:
        raise BadInput("nbody takes at least one step and a softening above 0")
    out = engine.output(x.shape, np.float64)
    tile = BODIES if engine.deterministic else 0
    params = {"softening": softening, "g": g, "tile": tile}

    def check(start: int, stop: int, roundoff: float) -> str:
        again = np.empty_like(out)
        for body in engine.rng.integers(start, stop, SAMPLE):
            gravity({**params, "tile": 0}, (x, m), int(body), int(body) + 1, again)
            size = float(np.abs(again[body]).max())
            if not np.abs(out[body] - again[body]).max() <= 1e-9 * size + 1e-300:
                return f"the acceleration of body {body} differs"
        return ""

    job = Job(
        "gravity", len(x), (x, m), out, params, granule=BODIES, work=20.0 * len(x), check=check, dtype="fp64"
    )
    engine.run(job)
    for _ in range(steps):
        v += 0.5 * dt * out
        x += dt * v
        engine.run(job)
        v += 0.5 * dt * out
    return np.array(x), v
