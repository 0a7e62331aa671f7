"""The engine's split beside an equal one and beside what the devices could do, and what a fault costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from nexus.compute.bench.timing import Row, operands
from nexus.compute.calibration import Calibration
from nexus.compute.devices.base import Device
from nexus.compute.devices.discovery import usable_gpus
from nexus.compute.devices.host import HostDevice
from nexus.compute.devices.worker import WorkerDevice
from nexus.compute.engine import Engine
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.report import Report
from nexus.compute.shared import allocate


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


ROUNDS = 7
FEW_ROUNDS = 3
"""With software GPUs, whose equal part takes them many times as long as the others."""
CAPACITY_SECONDS = 0.7


def uneven(size: int, shares: Sequence[float], gpus: bool) -> list[Row]:
    """Workers with shares of a core: the engine's split and an equal one in turns, on the same devices and
    operands. With `gpus` the processor itself and what wgpu shows take part too.
    """
    devices: list[Device] = [WorkerDevice(n, share) for n, share in enumerate(shares)]
    if gpus:
        devices = [HostDevice(), *usable_gpus(None), *devices]
    calibration = Calibration("")
    equal, ours = (Engine(devices, calibration=calibration, equal_split=split) for split in (True, False))
    a, b = ours.empty((size, size)), ours.empty((size, size))
    a[...], b[...] = operands(size)
    kept = chosen(ours, a, b)
    reports: dict[str, list[Report]] = {"equal": [], "engine": []}
    of_capacity = []
    rounds = min(ROUNDS, FEW_ROUNDS) if gpus else ROUNDS
    for _ in range(rounds):
        rate = capacity(kept, a, b)
        for name, engine in (("equal", equal), ("engine", ours)):
            engine.matmul(a, b)
            assert engine.last is not None
            reports[name].append(engine.last)
        last = reports["engine"][-1]
        of_capacity.append(last.units / last.seconds / rate)
    ours.close()
    rows: list[Row] = []
    for name, what in (("equal", "equal split"), ("engine", "the engine's split")):
        last = reports[name][-1]
        rows.append(
            {
                "what": f"matmul {size}^3, {what}, median of {rounds} rounds in turns",
                "precision": "fp32",
                "devices": [row.device.name for row in last.devices if row.units],
                "shares": list(shares),
                "balance_measured": median([report.balance for report in reports[name]]),
                "seconds_measured": median([report.seconds for report in reports[name]]),
                "chunks": sum(row.chunks for row in last.devices),
                "notes": last.notes,
            }
        )
    rows[1]["of_corun_capacity_measured"] = median(of_capacity)
    rows[1]["equal_over_engine_time_measured"] = rows[0]["seconds_measured"] / rows[1]["seconds_measured"]
    return rows


def chosen(engine: Engine, a: Array, b: Array) -> list[Device]:
    """The devices that calibration keeps for a product."""
    engine.matmul(a, b)
    assert engine.last is not None
    return [row.device for row in engine.last.devices]


def capacity(devices: Sequence[Device], a: Array, b: Array) -> float:
    """Rows per second that the devices do together when each multiplies rows of its own for a while, without
    a scheduler: what a perfect split could reach.
    """
    out = allocate((len(a), b.shape[1]), a.dtype)
    params = {"scale": 1.0, "exact": False}
    job = Job("matmul", len(a), (a, b), out, params, work=2.0 * b.shape[0] * b.shape[1])
    rates = [0.0] * len(devices)
    ready = threading.Barrier(len(devices))
    room = len(a) // len(devices)

    def work(n: int) -> None:
        device, start = devices[n], n * room
        device.prepare(job)
        step = max(1, room // 8)
        ready.wait()
        began, done = time.monotonic(), 0
        while time.monotonic() - began < CAPACITY_SECONDS:
            device.run(job, start, start + step)
            done += step
        rates[n] = done / (time.monotonic() - began)
        device.finish(job)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(devices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def faults(size: int) -> list[Row]:
    """A worker killed in mid-job, and one that returns a wrong element."""
    a, b = operands(size)
    wanted = a @ b
    rows = []
    victim = WorkerDevice(0, 0.2)
    with Engine([HostDevice(), victim], equal_split=True) as engine:
        for _ in range(2):
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
        "precision": "fp32",
        "right": bool(np.allclose(got, wanted, rtol=1e-3, atol=1e-2)),
        "recovery_seconds_measured": report.recoveries,
        "notes": report.notes,
    }
