"""GPUs: our WGSL kernels, matrix units beside the vendor's library, and points beside a plain copy.

Where no such device is, a row says so and the same is measured on the processor, at a smaller size.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from nexus.compute.bench import host
from nexus.compute.bench.timing import Row, in_turns, operands
from nexus.compute.calibration import Calibration
from nexus.compute.devices.accelerator import Accelerator
from nexus.compute.devices.discovery import accelerators, usable_gpus
from nexus.compute.devices.gpu import GpuDevice
from nexus.compute.devices.host import HostDevice
from nexus.compute.engine import Engine

ABSENT = "no such device"
ROUNDS = 5
CALLS = 20
"""Products asked for in a row, so that one launch hides behind the work before it."""
CHECKED = 1 / 16
HOST_SIZE = 1024
HOST_POINTS = 4_000_000
BYTES_PER_POINT = 32
PEAKS = {
    "NVIDIA H200": {
        "bf16": 989e12, "fp16": 989e12, "tf32": 494e12, "fp8_e4m3": 1979e12, "int8": 1979e12, "fp32": 67e12,
        "memory": 4.8e12,
    },
}  # fmt: skip
"""Operations and bytes per second by the vendor's data sheet, without sparsity."""


def gpus(size: int) -> list[Row]:
    """Our WGSL kernels on each GPU that wgpu shows, with transfers, beside numpy on the processor."""
    a, b = operands(size)
    rows: list[Row] = []
    for device in usable_gpus(None):
        if not isinstance(device, GpuDevice):
            continue
        with Engine([device]) as engine:
            engine.matmul(a, b)
            ours, plain = in_turns([lambda: engine.matmul(a, b), lambda: np.matmul(a, b)], ROUNDS)
        work = 2.0 * size**3 / 1e9
        rows.append(
            {
                "what": f"matmul {size}^3 on {device.version} with transfers, beside numpy",
                "precision": "fp32",
                "kernel": device.variant.name if device.variant else "",
                "gpu_gflops_measured": work / median(ours),
                "numpy_gflops_measured": work / median(plain),
            }
        )
    return rows or [{"what": "our WGSL product on a GPU", "precision": "fp32", "absent": ABSENT}]


def tensor(size: int) -> list[Row]:
    """Products on matrix units, operands and results on the device, beside the vendor's library."""
    rows: list[Row] = []
    for device in found():
        a, b = (device.library.upload(array) for array in operands(size))
        for dtype in ("bf16", "fp8_e4m3", "fp16", "tf32", "int8", "fp32"):
            if device.library.name == "torch" or dtype == "fp32":
                rows.append(product(device, a, b, dtype, size))
        device.close()
    if rows:
        return rows
    absent: Row = {
        "what": f"matmul {size}^3 on matrix units",
        "precision": "bf16, fp8_e4m3",
        "absent": ABSENT,
    }
    return [absent, *host.formats(min(size, HOST_SIZE))]


def found() -> list[Accelerator]:
    return [device for device in accelerators(None) if isinstance(device, Accelerator)]


def product(device: Accelerator, a: Any, b: Any, dtype: str, size: int) -> Row:
    """One format: the library's own call, the engine checking every job, and one job in sixteen."""
    library = device.library
    units = library.units(dtype)
    x, _ = library.quantise(a, dtype)
    y, _ = library.quantise(b, dtype)
    if units == "fp8_e4m3":
        y = library.contiguous(y.T).T
    every, some = (Engine([device], checks=share, seed=1) for share in (1.0, CHECKED))
    out = every.matmul(x, y, dtype=dtype)
    report = every.last
    assert report is not None

    def repeated(call: Callable[[], object]) -> Callable[[], None]:
        def calls() -> None:
            with device.told():
                for _ in range(CALLS):
                    call()
                library.wait()

        return calls

    vendor, checked, sampled = in_turns(
        [
            repeated(lambda: library.multiply(x, y, units, 1.0, out)),
            repeated(lambda: every.matmul(x, y, dtype=dtype)),
            repeated(lambda: some.matmul(x, y, dtype=dtype)),
        ],
        ROUNDS,
    )
    work = 2.0 * size**3 * CALLS / 1e12
    row: Row = {
        "what": f"matmul {size}^3 on {device.version}, random data on the device",
        "precision": dtype,
        "units": units,
        "vendor_library_tflops_measured": work / median(vendor),
        "engine_tflops_measured": work / median(sampled),
        "engine_checking_every_job_tflops_measured": work / median(checked),
        "relative_error_sampled": report.error,
        "relative_error_bound": report.bound,
    }
    peak = peak_of(device, dtype)
    if peak:
        row["tflops_peak"] = peak / 1e12
        row["engine_of_peak_measured"] = row["engine_tflops_measured"] / row["tflops_peak"]
    return row


def peak_of(device: Accelerator, what: str) -> float | None:
    """The vendor's figure for a device, by the start of its name."""
    for name, peaks in PEAKS.items():
        if device.version.startswith(name):
            return peaks.get(what)
    return None


def bandwidth(count: int) -> list[Row]:
    """Points times a matrix, in bytes read and written per second, beside a copy of as many bytes."""
    matrix = np.random.default_rng(2).standard_normal((4, 4), np.float32)
    rows: list[Row] = []
    for device in found():
        library = device.library
        points = library.upload(random_points(count))
        turned, out = library.upload(np.ascontiguousarray(matrix.T)), library.empty((count, 4), "fp32")
        library.transform(points, turned, out)

        def repeated(call: Callable[[], object], library: Any = library) -> Callable[[], None]:
            def calls() -> None:
                for _ in range(CALLS):
                    call()
                library.wait()

            return calls

        engine = Engine([device], checks=CHECKED, seed=1)
        there = library.upload(matrix)
        kernel, ours, copy = in_turns(
            [  # all called before the loop goes on
                repeated(lambda: library.transform(points, turned, out)),  # noqa: B023
                repeated(lambda: engine.transform(points, there)),  # noqa: B023
                repeated(lambda: out.__setitem__(slice(None), points)),  # noqa: B023
            ],
            ROUNDS,
        )
        rows.append(points_row(str(device.version), count, CALLS, median(kernel), median(ours), median(copy)))
        peak = peak_of(device, "memory")
        if peak:
            rows[-1]["gigabytes_per_second_peak"] = peak / 1e9
            rows[-1]["of_peak_measured"] = rows[-1]["kernel_gigabytes_per_second_measured"] * 1e9 / peak
    if not rows:
        rows.append({"what": "points on a GPU", "precision": "fp32", "absent": ABSENT})
    return [*rows, points_on_host(min(count, HOST_POINTS), matrix)]


def random_points(count: int) -> Any:
    return np.random.default_rng(1).standard_normal((count, 4), np.float32)


def points_row(where: str, count: int, calls: int, kernel: float, ours: float, copy: float) -> Row:
    moved = BYTES_PER_POINT * count * calls / 1e9
    return {
        "what": f"{count} points times a 4x4 matrix on {where}, beside a copy of as many bytes",
        "precision": "fp32",
        "kernel_gigabytes_per_second_measured": moved / kernel,
        "engine_gigabytes_per_second_measured": moved / ours,
        "copy_gigabytes_per_second_measured": moved / copy,
        "kernel_of_copy_measured": copy / kernel,
    }


def points_on_host(count: int, matrix: Any) -> Row:
    points = random_points(count)
    out, turned = np.empty_like(points), np.ascontiguousarray(matrix.T)
    np.copyto(out, points)
    with Engine([HostDevice()], calibration=Calibration("")) as engine:
        kernel, ours, copy = in_turns(
            [
                lambda: np.matmul(points, turned, out=out),
                lambda: engine.transform(points, matrix),
                lambda: np.copyto(out, points),
            ],
            ROUNDS,
        )
    row = points_row("the processor (kernel: numpy's)", count, 1, median(kernel), median(ours), median(copy))
    row["engine_over_numpy_time_measured"] = median(ours) / median(kernel)
    return row
