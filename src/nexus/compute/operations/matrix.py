"""Matrix products: GEMM in several number formats, and points times a 4x4 matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nexus.compute.devices.base import Device
from nexus.compute.devices.library import row_sums
from nexus.compute.errors import BadInput, WrongResult
from nexus.compute.formats import Array, format_of, quantise
from nexus.compute.job import Job
from nexus.compute.kernels import POINTS_AT_ONCE
from nexus.compute.tiling import steps
from nexus.compute.verify import Projection, Sampled, refuse_nonfinite, refuse_operand

if TYPE_CHECKING:
    from nexus.compute.engine import Engine

TILE_ROWS = 128
"""Rows of a tile in deterministic mode."""
ROWS = 8
"""Fewest rows handed out otherwise: small, so that the last pieces end together."""
TILE_POINTS = 1 << 14


def matmul(engine: Engine, a: object, b: object, dtype: str) -> Array:
    """`a` is m by k, `b` k by n; the result is m by n in float32, verified and within the bound of the
    report.

    Raises BadInput for shapes that do not match, an empty side, NaN, Inf, overflow, or an unknown format.
    """
    wanted = format_of(dtype)
    left, right = engine.take(a, "a"), engine.take(b, "b")
    if left.ndim != 2 or right.ndim != 2:
        raise BadInput(f"matmul takes two matrices, not {left.ndim} and {right.ndim} dimensions")
    if left.shape[1] != right.shape[0]:
        raise BadInput(
            f"matmul of {left.shape} by {right.shape}: {left.shape[1]} columns meet {right.shape[0]} rows"
        )
    if not left.size or not right.size:
        raise BadInput(f"matmul of {left.shape} by {right.shape}: nothing to multiply")
    (x, scale_a), (y, scale_b) = quantise(left, wanted, "a"), quantise(right, wanted, "b")
    out = engine.output((left.shape[0], right.shape[1]), np.float32)
    scale = scale_a * scale_b
    checker: list[Projection] = []

    def check(start: int, stop: int, roundoff: float) -> str:
        if not checker:
            checker.append(Projection(x, y, scale, engine.rng))
        return checker[0].check(out, start, stop, roundoff)

    for name, array in (("a", left), ("b", right)):
        if any(not device.trusted for device in engine.devices) and not np.isfinite(np.sum(array)):
            refuse_operand(name, array)
    params = {
        "scale": scale,
        "exact": wanted.name == "int8",
        "tile": TILE_ROWS if engine.deterministic else 0,
    }
    work = 2.0 * right.shape[0] * right.shape[1]
    job = Job(
        "matmul",
        len(left),
        (x, y),
        out,
        params,
        granule=TILE_ROWS if engine.deterministic else ROWS,
        work=work,
        check=check,
        dtype=wanted.name,
    )
    with np.errstate(over="ignore", invalid="ignore"):
        report = engine.run(job)
    refuse_nonfinite(left, right, out)
    working = [row.device for row in report.devices if row.units]
    report.notes += how_multiplied(working, wanted.name)
    sampled = Sampled(len(left), right.shape[1], engine.rng)
    report.error, report.bound, wrong = sampled.error(
        left[sampled.rows],
        right[:, sampled.columns].T,
        out[sampled.rows, sampled.columns],
        wanted,
        (scale_a, scale_b),
        max(device.roundoff(job) for device in working),
    )
    if wrong:
        raise WrongResult(f"the product is wrong: {wrong}")
    return out


def how_multiplied(devices: Sequence[Device], dtype: str) -> list[str]:
    """What is to be known about a result in `dtype` from these devices: who has units for it."""
    ways: dict[str, list[str]] = {}
    for device in devices:
        ways.setdefault(device.multiplies_as(dtype), []).append(device.name)
    notes = []
    for units, names in ways.items():
        if units == dtype:
            continue
        who = ", ".join(names)
        if units == "fp32":
            notes.append(f"{dtype} is emulated on {who}: operands rounded to it, products and sums in fp32")
        else:
            notes.append(f"{dtype} is multiplied on {units} units of {who}, which hold its numbers exactly")
    return notes


def transform(engine: Engine, points: object, matrix4: object) -> Array:
    """Rows of `points` times a 4x4 matrix; raises BadInput for other shapes and for NaN or Inf."""
    rows, matrix = engine.take(points, "points"), engine.take(matrix4, "matrix")
    if matrix.shape != (4, 4):
        raise BadInput(f"transform takes a 4 by 4 matrix, not {matrix.shape}")
    if rows.ndim != 2 or rows.shape[1] not in (3, 4) or not len(rows):
        raise BadInput(f"transform takes n points of 3 or 4 numbers, not {rows.shape}")
    if rows.shape[1] == 3:
        rows = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
        engine.copied += rows.nbytes
    for name, array in (("points", rows), ("matrix", matrix)):
        if not np.isfinite(np.sum(array)):
            refuse_operand(name, array)
    out = engine.output(rows.shape, np.float32)
    sums, ones = matrix.sum(axis=0), np.ones(4, np.float32)
    slack = float(np.linalg.norm(matrix)) * 2.0**-18

    def check(start: int, stop: int, roundoff: float) -> str:
        """Every point against the sum over its coordinates: x + y + z + w of the result."""
        for low, high in steps(start, stop, POINTS_AT_ONCE):
            part = rows[low:high]
            bound = np.sqrt(np.einsum("ij,ij->i", part, part)) * slack
            wrong = ~(
                np.abs(row_sums(out[low:high], ones) - row_sums(part, sums))
                <= bound + np.finfo(np.float32).tiny
            )
            if wrong.any():
                return f"point {low + int(np.argmax(wrong))} is off"
        return ""

    engine.run(
        Job("transform", len(rows), (rows, matrix), out, {}, granule=TILE_POINTS, work=28.0, check=check)
    )
    return out
