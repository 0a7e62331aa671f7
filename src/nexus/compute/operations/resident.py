"""Products and point transformations of arrays that already lie on an accelerator: nothing is copied to it.

The result stays there, in the library of the first operand. Several accelerators of one model share the
rows; what they need is copied from device to device (directly where the driver offers it). With
`engine(checks=share)` below 1 only that share of such jobs, chosen at random, is checked: a check costs a few
per cent of a large product.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from nexus.compute.devices.accelerator import Accelerator
from nexus.compute.devices.library import ArrayLibrary
from nexus.compute.errors import BadInput, WrongResult
from nexus.compute.formats import FORMATS, format_of
from nexus.compute.job import Job
from nexus.compute.report import Report
from nexus.compute.verify import SAMPLES, Projection, Sampled

if TYPE_CHECKING:
    from nexus.compute.engine import Engine

RESULTS = {"bf16": "bf16", "fp16": "fp16", "fp8_e4m3": "bf16", "fp8_e5m2": "bf16", "int8": "int32"}
"""Formats of results where they are not fp32."""
WORTH_SPLITTING = 2e11
"""Operations from which on several accelerators are faster than one: copying an operand takes as long."""
ROWS = 256
POINTS = 1 << 20
MATRIX_SLACK = 2.0**-18


def home(engine: Engine, operands: tuple[object, ...]) -> Accelerator | None:
    """The accelerator on which the first operand lies that is not in this process's memory."""
    for value in operands:
        where = getattr(value, "__dlpack_device__", None)
        if where is None or isinstance(value, np.ndarray):
            continue
        place = tuple(int(part) for part in where())
        for device in engine.devices:
            if isinstance(device, Accelerator) and device.library.place == place and not device.dead:
                return device
    return None


def matmul(engine: Engine, device: Accelerator, a: Any, b: Any, dtype: str) -> Any:
    """`a @ b` on `device` and its peers: bf16 for bf16 and fp8, fp16 for fp16, int32 for int8 (fp32 when
    operands had to be scaled), else fp32.

    Raises BadInput as `matrix.matmul` does.
    """
    wanted, library = format_of(dtype), device.library
    if not library.units(wanted.name):
        raise BadInput(
            f"{device.name} has no units for {wanted.name}", hint="copy the operands to this process's memory"
        )
    with device.told():
        left, right = library.adopt(a), library.adopt(b)
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
            raise BadInput(f"matmul of {tuple(left.shape)} by {tuple(right.shape)}")
        if 0 in left.shape or 0 in right.shape:
            raise BadInput(f"matmul of {tuple(left.shape)} by {tuple(right.shape)}: nothing to multiply")
        checked = engine.rng.random() < engine.checks
        if checked:
            refuse_infinite(library, left, right)
        (x, scale_a), (y, scale_b) = library.quantise(left, wanted.name), library.quantise(right, wanted.name)
        scale = scale_a * scale_b
        result = RESULTS.get(wanted.name, "fp32")
        if wanted.name == "int8" and scale != 1.0:
            result = "fp32"
        out = library.empty((x.shape[0], y.shape[1]), result)
    final = FORMATS[result].relative if result in ("bf16", "fp16") else 0.0
    checker: list[Projection] = []

    def check(start: int, stop: int, roundoff: float) -> str:
        with device.told():
            if not checker:
                checker.append(Projection(x, y, scale, engine.rng, library, final))
            return checker[0].check(out, start, stop, roundoff)

    work = 2.0 * right.shape[0] * right.shape[1]
    params = {"scale": scale, "exact": False, "result": result}
    job = Job(
        "matmul", x.shape[0], (x, y), out, params,
        granule=ROWS, work=work, check=check if checked else None, dtype=wanted.name,
    )  # fmt: skip
    report = run(engine, device, job, copied=(left is not a, right is not b), operands=(a, b))
    if not checked:
        report.notes.append("not checked: a share of jobs is, by the engine's setting")
        return like(a, out)
    with device.told():
        if not all(np.isfinite(library.to_host(edge)).all() for edge in (out[0], out[:, 0])):
            raise BadInput(f"the product overflows {result}", hint="scale the operands")
        sampled = Sampled(x.shape[0], y.shape[1], engine.rng)
        report.error, report.bound, wrong = sampled.error(
            library.to_host(library.pick(left, sampled.rows, 0)),
            library.to_host(library.pick(right, sampled.columns, 1)).T,
            library.to_host(library.pick(out, sampled.rows, 0))[range(SAMPLES), sampled.columns],
            wanted,
            (scale_a, scale_b),
            max(row.device.roundoff(job) for row in report.devices),
            final,
        )
    if wrong:
        raise WrongResult(f"the product is wrong: {wrong}")
    return like(a, out)


def transform(engine: Engine, device: Accelerator, points: Any, matrix4: Any) -> Any:
    """Points (n by 4, float32) on a device times a 4 by 4 matrix."""
    library = device.library
    with device.told():
        rows, matrix = library.adopt(points), library.adopt(matrix4)
        if tuple(matrix.shape) != (4, 4) or rows.ndim != 2 or rows.shape[1] != 4 or not len(rows):
            raise BadInput(
                f"transform takes n by 4 points and a 4 by 4 matrix on a device, "
                f"not {tuple(rows.shape)} and {tuple(matrix.shape)}"
            )
        rows, _ = library.quantise(library.contiguous(rows), "fp32")
        matrix, _ = library.quantise(matrix, "fp32")
        out = library.empty(tuple(rows.shape), "fp32")
    checked = engine.rng.random() < engine.checks
    slack = library.norm(matrix) * MATRIX_SLACK if checked else 0.0

    def check(start: int, stop: int, roundoff: float) -> str:
        """Every point against the sum over its coordinates."""
        with device.told():
            sums, ones = matrix.sum(0), matrix[0] * 0.0 + 1.0
            difference = abs(library.times(out[start:stop], ones) - library.times(rows[start:stop], sums))
            beyond = difference - slack * library.row_norms(rows[start:stop])
            return "" if float(beyond.max()) <= float(np.finfo(np.float32).tiny) else "points are off"

    job = Job(
        "transform", len(rows), (rows, matrix), out, {},
        granule=POINTS, work=28.0, check=check if checked else None,
    )  # fmt: skip
    run(engine, device, job, copied=(False, False), operands=(points, matrix4))
    return like(points, out)


def run(
    engine: Engine, device: Accelerator, job: Job, copied: tuple[bool, bool], operands: tuple[Any, Any]
) -> Report:
    """The job on its device, and on peers of the same model when it is large."""
    peers: list[Any] = [device]
    if job.units * job.work >= WORTH_SPLITTING:
        peers += [
            other
            for other in engine.devices
            if isinstance(other, Accelerator)
            and other is not device
            and other.family == device.family
            and not other.dead
        ]
    for moved, array in zip(copied, operands, strict=True):
        if moved and isinstance(array, np.ndarray):
            engine.copied += array.nbytes
    return engine.work(job, peers, [1.0] * len(peers))


def refuse_infinite(library: ArrayLibrary, a: Any, b: Any) -> None:
    """Raise for NaN or Inf in an operand."""
    for name, array in (("a", a), ("b", b)):
        if not np.isfinite(library.norm(array)):
            raise BadInput(f"{name} holds NaN or Inf, or numbers whose squares overflow fp32")


def like(wanted: Any, result: Any) -> Any:
    """The result as an array of the library `wanted` is from, sharing its memory, where that reads DLPack."""
    maker = type(wanted).__module__.partition(".")[0]
    if maker == "cupy" and type(result) is not type(wanted):
        return importlib.import_module("cupy").from_dlpack(result)
    if maker in ("jax", "jaxlib"):
        return importlib.import_module("jax.dlpack").from_dlpack(result)
    return result
