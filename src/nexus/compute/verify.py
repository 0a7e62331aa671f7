"""Checks that refute a wrong result for far less than computing it again.

A product C = A @ B is checked by Freivalds' projection: with a random vector x of +1 and -1, C @ x must equal
A @ (B @ x). Rounding makes the two differ by about sqrt(depth) * u * |a| * |B| in a row, where u is the
relative error of one addition on the device, and by the rounding of the result's own format; more than MARGIN
times that is wrong. An element that is off by less than this cannot be told from rounding and passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nexus.compute.devices.base import ROUNDOFF
from nexus.compute.devices.library import Maths
from nexus.compute.errors import BadInput
from nexus.compute.formats import Array, Format

MARGIN = 16.0
SAMPLES = 32


class Projection:
    """Checks row ranges of one product; `B @ x` is computed once. `maths` is where the operands are.

    `final` is the relative rounding of the result's format.
    """

    def __init__(
        self,
        a: Any,
        b: Any,
        scale: float,
        rng: np.random.Generator,
        maths: Maths | None = None,
        final: float = 0.0,
    ) -> None:
        self.a = a
        self.scale = scale
        self.maths = maths or Maths()
        self.final = final
        self.x = self.maths.signs(rng, b.shape[1])
        self.bx = self.maths.times(b, self.x)
        self.per_norm = MARGIN * float(np.sqrt(max(b.shape))) * self.maths.norm(b)

    def check(self, c: Any, start: int, stop: int, roundoff: float) -> str:
        """What is wrong with rows `start` to `stop` of `c`; empty when nothing is."""
        maths, rows, got = self.maths, self.a[start:stop], c[start:stop]
        with np.errstate(invalid="ignore", over="ignore"):
            wanted = maths.to_host(maths.times(rows, self.bx))
            residual = np.abs(maths.to_host(maths.times(got, self.x)) / self.scale - wanted)
            bound = self.per_norm * roundoff * maths.to_host(maths.row_norms(rows))
            if self.final:
                bound += MARGIN * self.final / self.scale * maths.to_host(maths.row_norms(got))
            bound += np.finfo(np.float32).tiny
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
        refuse_operand(name, array)
    raise BadInput("the product overflows fp32", hint="scale the operands")


def refuse_operand(name: str, array: Array) -> None:
    """Raise for the first NaN or Inf; a sum that overflowed without one is fine."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = ", ".join(str(n) for n in bad[0])
        raise BadInput(
            f"{name}[{place}] is {array[tuple(bad[0])]}", hint="remove NaN and Inf from the operands"
        )


class Sampled:
    """Which elements of a product are compared with double precision."""

    def __init__(self, rows: int, columns: int, rng: np.random.Generator) -> None:
        self.rows = rng.integers(0, rows, SAMPLES)
        self.columns = rng.integers(0, columns, SAMPLES)

    def error(
        self,
        left: Array,
        right: Array,
        got: Array,
        wanted: Format,
        scales: tuple[float, float],
        roundoff: float = ROUNDOFF,
        final: float = 0.0,
    ) -> tuple[float, float, str]:
        """Largest error and the bound at that place, relative to |a| @ |b|.

        `left` and `right` (SAMPLES by depth) are the operands' rows and columns before rounding, `got` the
        elements. The bound is that of rounding both operands, which is rigorous, plus MARGIN times the
        statistical error of adding up and the rounding of the result. The text tells an element beyond it.
        """
        left, right = left.astype(np.float64), right.astype(np.float64)
        depth = left.shape[1]
        rounded = wanted.name != "fp32"
        relative = wanted.relative if rounded else 0.0
        steps = [wanted.absolute * scale if rounded else 0.0 for scale in scales]
        exact = np.einsum("ij,ij->i", left, right)
        size = np.einsum("ij,ij->i", np.abs(left), np.abs(right))
        norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        bound = (2 * relative + relative**2) * size
        bound += steps[0] * (1 + relative) * np.abs(right).sum(axis=1)
        bound += steps[1] * (1 + relative) * np.abs(left).sum(axis=1) + steps[0] * steps[1] * depth
        bound += MARGIN * (roundoff * float(np.sqrt(depth)) * norms + ROUNDOFF * np.abs(exact))
        bound += final * (np.abs(exact) + bound) + float(np.finfo(np.float32).tiny)
        error = np.abs(got.astype(np.float64) - exact)
        relative_to = np.where(size > 0, size, 1.0)
        beyond = ~(error <= bound)
        worst = int(np.argmax(beyond)) if beyond.any() else int(np.argmax(error / relative_to))
        told = ""
        if beyond.any():
            place = f"[{self.rows[worst]}, {self.columns[worst]}]"
            told = f"{place} is off by {error[worst]:.3g}, the bound is {bound[worst]:.3g}"
        return float(error[worst] / relative_to[worst]), float(bound[worst] / relative_to[worst]), told
