"""Measurements on this machine: the engine beside numpy and beside an equal split, and what a fault costs.

Every figure is measured in this run; nothing is compared with a figure from elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nexus.compute.calibration import Calibration
from nexus.compute.devices.base import Device
from nexus.compute.devices.discovery import usable_gpus
from nexus.compute.devices.host import HostDevice
from nexus.compute.devices.worker import WorkerDevice
from nexus.compute.engine import Engine
from nexus.compute.formats import FORMATS, Array
from nexus.compute.job import Job

Row = dict[str, Any]


class Flipping(WorkerDevice):
    """A worker whose first result has the sign and size of one element changed, to see the check find it."""

    flipped = False

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        super().run(job, start, stop)
        if not self.flipped:
            self.flipped = True
            place = (start, *(0 for _ in job.out.shape[1:]))
            job.out[place] = -job.out[place] - 10.0
        return None


def best(action: Callable[[], object], repeats: int) -> float:
    """The shortest time of an action."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def operands(size: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((size, size), np.float32), rng.standard_normal((size, size), np.float32)


def against_numpy(size: int, repeats: int) -> Row:
    """fp32 product on this process's processor: the engine and numpy in turns."""
    a, b = operands(size)
    with Engine([HostDevice()], calibration=Calibration("")) as engine:
        out = np.empty((size, size), np.float32)
        np.matmul(a, b, out=out)
        plain, ours, overheads = [], [], []
        for _ in range(repeats):
            plain.append(best(lambda: np.matmul(a, b), 1))
            ours.append(best(lambda: engine.matmul(a, b), 1))
            report = engine.last
            assert report is not None
            overheads.append(1.0 - report.devices[0].busy / ours[-1])
    work = 2.0 * size**3
    return {
        "what": "fp32 matmul, engine on the host beside numpy",
        "size": size,
        "numpy_gflops_measured": work / min(plain) / 1e9,
        "engine_gflops_measured": work / min(ours) / 1e9,
        "engine_over_numpy_time": min(ours) / min(plain),
        "overhead_of_the_engine_measured": min(overheads),
    }


def uneven(size: int, shares: Sequence[float]) -> list[Row]:
    """Workers with shares of a core: the engine's split and an equal one, on the same devices and
    operands.
    """
    a, b = operands(size)
    rows = []
    workers: list[Device] = [WorkerDevice(n, share) for n, share in enumerate(shares)]
    calibration = Calibration("")
    for equal in (True, False):
        engine = Engine(workers, calibration=calibration, equal_split=equal)
        engine.matmul(a, b)
        engine.matmul(a, b)
        report = engine.last
        assert report is not None
        row: Row = {
            "what": "equal split" if equal else "engine's split",
            "size": size,
            "shares": list(shares),
            "balance_measured": report.balance,
            "seconds_measured": report.seconds,
            "chunks": sum(part.chunks for part in report.devices),
            "devices": sum(1 for part in report.devices if part.units),
            "notes": report.notes,
        }
        if not equal:
            capacity = sum(part.units / part.busy for part in report.devices if part.busy)
            row["of_corun_capacity_measured"] = report.units / report.seconds / capacity
        rows.append(row)
    workers[0].close()
    for worker in workers:
        worker.close()
    return rows


def faults(size: int) -> list[Row]:
    """A worker killed in mid-job, and one that returns a wrong element."""
    a, b = operands(size)
    wanted = a @ b
    rows = []
    victim = WorkerDevice(0, 0.2)
    with Engine([HostDevice(), victim], equal_split=True) as engine:
        engine.matmul(a, b)
        timer = threading.Timer(engine.last.seconds / 3 if engine.last else 0.1, victim.abandon)
        timer.start()
        got = engine.matmul(a, b)
        timer.join()
        rows.append(fault_row("worker killed in mid-job", engine, got, wanted))
    with Engine([HostDevice(), Flipping(0)], equal_split=True) as engine:
        got = engine.matmul(a, b)
        rows.append(fault_row("one element changed in a chunk", engine, got, wanted))
    return rows


def fault_row(what: str, engine: Engine, got: Array, wanted: Array) -> Row:
    report = engine.last
    assert report is not None
    return {
        "what": what,
        "right": bool(np.allclose(got, wanted, rtol=1e-3, atol=1e-2)),
        "recovery_seconds_measured": report.recoveries,
        "notes": report.notes,
    }


def formats(size: int) -> list[Row]:
    """Every number format on this engine: rate, error found and its bound."""
    a, b = operands(size)
    rows = []
    with Engine([HostDevice()]) as engine:
        for name in FORMATS:
            engine.matmul(a, b, dtype=name)
            report = engine.last
            assert report is not None
            rows.append(
                {
                    "what": f"matmul {name}" + ("" if name == "fp32" else " (emulated in fp32)"),
                    "size": size,
                    "gflops_measured": report.work / report.seconds / 1e9,
                    "relative_error_sampled": report.error,
                    "relative_error_bound": report.bound,
                }
            )
    return rows


def gpus(size: int) -> list[Row]:
    """The engine's kernels on each GPU beside numpy on the processor."""
    a, b = operands(size)
    from nexus.compute.devices.gpu import GpuDevice

    rows: list[Row] = []
    for device in usable_gpus(None):
        with Engine([device]) as engine:
            engine.matmul(a, b)
            seconds = best(partial(engine.matmul, a, b), 2)
        plain = best(lambda: np.matmul(a, b), 2)
        work = 2.0 * size**3
        rows.append(
            {
                "what": f"fp32 matmul on {device.version} with transfers, beside numpy",
                "size": size,
                "kernel": device.variant.name if isinstance(device, GpuDevice) and device.variant else "",
                "gpu_gflops_measured": work / seconds / 1e9,
                "numpy_gflops_measured": work / plain / 1e9,
            }
        )
    return rows or [{"what": "matmul on a GPU", "absent": "no such device"}]
