"""Checks that refute a wrong result for far less than computing it again.

A product C = A @ B is checked by Freivalds' projection: with a random vector x of +1 and -1, C @ x must equal
A @ (B @ x). Rounding makes the two differ by about sqrt(depth) * u * |a| * |B| in a row; more than MARGIN
times that is wrong. An element that is off by less than this cannot be told from rounding and passes.
"""

from __future__ import annotations

import numpy as np

from nexus.compute.errors import BadInput
from nexus.compute.formats import Array, Format

MARGIN = 16.0
ROUNDOFF = 2.0**-24
SAMPLES = 32


class Projection:
    """Checks row ranges of one product; `B @ x` is computed once."""

    def __init__(self, a: Array, b: Array, scale: float, rng: np.random.Generator) -> None:
        self.a = a
        self.scale = scale
        self.x = rng.choice(np.array([-1.0, 1.0], np.float32), b.shape[1])
        self.bx = b @ self.x
        size = max(b.shape)
        self.per_norm = MARGIN * ROUNDOFF * float(np.sqrt(size)) * float(np.linalg.norm(b))

    def check(self, c: Array, start: int, stop: int) -> str:
        """What is wrong with rows `start` to `stop` of `c`; empty when nothing is."""
        rows, got = self.a[start:stop], c[start:stop]
        with np.errstate(invalid="ignore", over="ignore"):
            wanted = (rows @ self.bx).astype(np.float64)
            residual = np.abs(got @ self.x / self.scale - wanted)
            bound = self.per_norm * np.sqrt(np.einsum("ij,ij->i", rows, rows)) + np.finfo(np.float32).tiny
            wrong = ~(residual <= bound)
        if not wrong.any():
            return ""
        first = int(np.argmax(wrong))
        return (
            f"row {start + first} is off by {residual[first]:.3g} in projection, "
            f"rounding explains {bound[first]:.3g}"
        )


def refuse_nonfinite(a: Array, b: Array, c: Array) -> None:
    """Raise for NaN or Inf in a product's operands, or for overflow.

    A non-finite number in a row of `a` reaches every element of that row of `c`, one in a column of `b` every
    element of that column: one column and one row of `c` tell.
    """
    if np.isfinite(c[:, 0]).all() and np.isfinite(c[0]).all():
        return
    for name, array in (("a", a), ("b", b)):
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            place = ", ".join(str(n) for n in bad[0])
            raise BadInput(
                f"{name}[{place}] is {array[tuple(bad[0])]}", hint="remove NaN and Inf from the operands"
            )
    raise BadInput("the product overflows fp32", hint="scale the operands")


def sampled_error(
    a: Array, b: Array, c: Array, wanted: Format, scales: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float, str]:
    """Largest error and the bound at that place over sampled elements against fp64, relative to |a| @ |b|.

    `a` and `b` are the operands before rounding. The bound is that of rounding both operands, which is
    rigorous, plus MARGIN times the statistical error of adding up in fp32. The text tells an element beyond
    its bound.
    """
    rows, columns = rng.integers(0, a.shape[0], SAMPLES), rng.integers(0, b.shape[1], SAMPLES)
    left, right = a[rows].astype(np.float64), b[:, columns].T.astype(np.float64)
    relative, worst, at_worst = wanted.relative if wanted.name != "fp32" else 0.0, 0.0, 0.0
    scaled = wanted.name != "fp32"
    steps = [wanted.absolute * scale if scaled else 0.0 for scale in scales]
    for n in range(SAMPLES):
        exact = float(left[n] @ right[n])
        size = float(np.abs(left[n]) @ np.abs(right[n]))
        norms = float(np.linalg.norm(left[n]) * np.linalg.norm(right[n]))
        bound = (2 * relative + relative**2) * size
        bound += steps[0] * (1 + relative) * float(np.abs(right[n]).sum())
        bound += steps[1] * (1 + relative) * float(np.abs(left[n]).sum()) + steps[0] * steps[1] * a.shape[1]
        bound += MARGIN * ROUNDOFF * (float(np.sqrt(a.shape[1])) * norms + abs(exact))
        bound += float(np.finfo(np.float32).tiny)
        error = abs(float(c[rows[n], columns[n]]) - exact)
        if not error <= bound:
            place = f"[{rows[n]}, {columns[n]}]"
            return error / size, bound / size, f"{place} is off by {error:.3g}, the bound is {bound:.3g}"
        if size and error / size >= worst:
            worst, at_worst = error / size, bound / size
    return worst, at_worst, ""
