"""A job over all nodes beside the rates at which the same nodes compute meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nexus.compute.calibration import Calibration
from nexus.compute.cluster.device import NodeDevice
from nexus.compute.cluster.engine import ClusterEngine, cluster
from nexus.compute.job import Job
from nexus.compute.kernels import gravity

SHARE = 0.05
"""Of a core for each local node: so little that eight of them have it even where others use the machine,
too.
"""
SECONDS = 10.0
SIZINGS = 3
"""Runs that find how large a job of SECONDS is; the first, of a small one, tells little."""
RUNS = 3
BODIES_AT_ONCE = 64


def measure(address: str | None, keys: str | None, count: int, size: int) -> dict[str, Any]:
    """Gravity and an fp32 product on the cluster at `address`, or on `count` local nodes.

    What a job reaches is held against the sum of the rates at which the nodes compute during it (units over
    seconds in the kernel, told by the nodes). Missing are messages, data on its way, waiting, an uneven
    end. The product moves `size` numbers in and out for each row, gravity next to nothing.
    """
    engine = cluster(address, keys=keys, nodes=[SHARE] * count)
    with engine:
        engine.calibration = Calibration("")
        nodes = engine.membership.refresh()
        jobs = [of_gravity(engine), of_products(engine, size)]
        overhead = message_seconds(nodes[0])
        copied = sum(node.copied for node in nodes)
    return {
        "what": f"{len(nodes)} nodes" + ("" if address else f", each {SHARE:g} of a core"),
        "nodes": len(nodes),
        "jobs": jobs,
        "overhead_of_a_chunk_seconds_measured": overhead,
        "copied_bytes": copied,
        "right": all(job["right"] for job in jobs),
    }


def of_gravity(engine: ClusterEngine) -> dict[str, Any]:
    """Accelerations of so many bodies that the nodes need about SECONDS."""
    rng = np.random.default_rng(1)
    params = {"softening": 0.01, "g": 1.0, "tile": 0}

    def job(bodies: int) -> Job:
        x, m = rng.standard_normal((bodies, 3)), rng.random(bodies)
        work = 20.0 * bodies
        return Job(
            "gravity", bodies, (x, m), np.empty((bodies, 3)), params, granule=16, work=work, dtype="fp64"
        )

    bodies = 2048
    for _ in range(SIZINGS):
        engine.run(job(bodies))
        assert engine.last is not None
        bodies = int(bodies * (SECONDS / engine.last.seconds) ** 0.5)
    made = job(bodies)
    found = runs(engine, lambda: engine.run(made))
    again = np.empty_like(made.out)
    gravity(made.params, made.inputs, 0, BODIES_AT_ONCE, again)
    right = bool(np.allclose(made.out[:BODIES_AT_ONCE], again[:BODIES_AT_ONCE], rtol=1e-9))
    return {"job": f"fp64 gravity between {bodies} bodies", "right": right, **found}


def of_products(engine: ClusterEngine, size: int) -> dict[str, Any]:
    """fp32 products with so many rows that the nodes need about SECONDS."""
    rng = np.random.default_rng(1)
    rows = 512
    results: list[tuple[Any, Any]] = []

    def multiply() -> None:
        # Another second operand every time: one that the nodes know would not be sent.
        b = rng.standard_normal((size, size), np.float32)
        results[:] = [(b, engine.matmul(a, b))]

    for _ in range(SIZINGS):
        a = rng.standard_normal((rows, size), np.float32)
        multiply()
        assert engine.last is not None
        rows = int(rows * SECONDS / engine.last.seconds)
    a = rng.standard_normal((rows, size), np.float32)
    found = runs(engine, multiply)
    b, got = results[0]
    right = bool(np.allclose(got, a @ b, rtol=1e-3, atol=1e-2))
    return {"job": f"fp32 product {rows} by {size} by {size}", "right": right, **found}


def runs(engine: ClusterEngine, action: Callable[[], object]) -> dict[str, Any]:
    """RUNS times the same job, after one that calibrates."""
    action()
    shares, balances, seconds, loads, chunks = [], [], [], [], 0
    for _ in range(RUNS):
        nodes = list(engine.membership.nodes.values())
        before = {node.name: node.kernel_seconds for node in nodes}
        action()
        report = engine.last
        assert report is not None
        kernels = {node.name: node.kernel_seconds - before[node.name] for node in nodes}
        meanwhile = sum(part.units / kernels[part.device.name] for part in report.devices if part.units)
        shares.append(report.units / report.seconds / meanwhile)
        balances.append(report.balance)
        seconds.append(report.seconds)
        loads.append(os.getloadavg()[0])
        chunks = sum(part.chunks for part in report.devices)
    return {
        "chunks": chunks,
        "seconds_measured": seconds,
        "load_average_measured": loads,
        "balance_measured": balances,
        "of_corun_rates_measured": shares,
        "of_corun_rates_median_measured": sorted(shares)[RUNS // 2],
    }


def message_seconds(node: NodeDevice, repeats: int = 25) -> float:
    """Median time of a chunk with next to no work: message, queue on the node, answer."""
    x = np.zeros((8, 8))
    job = Job("reduce", 8, (x,), np.empty((8, 8)), {"how": "sum", "span": 1}, dtype="fp64")
    times = []
    for _ in range(repeats):
        began, kernel = time.perf_counter(), node.kernel_seconds
        node.run(job, 0, 8)
        times.append(time.perf_counter() - began - (node.kernel_seconds - kernel))
    return sorted(times)[repeats // 2]


def text(found: dict[str, Any]) -> str:
    lines = [found["what"]]
    for job in found["jobs"]:
        shares, balances, loads = (
            ", ".join(format(one, form) for one in job[name])
            for name, form in (
                ("of_corun_rates_measured", ".3f"),
                ("balance_measured", ".3f"),
                ("load_average_measured", ".1f"),
            )
        )
        lines += [
            f"{job['job']}: {job['chunks']} chunks, {'right' if job['right'] else 'WRONG'}",
            f"  of the sum of the nodes' rates during the job: {shares} (measured)",
            f"  balance: {balances} (measured); load average here: {loads}",
        ]
    message = found["overhead_of_a_chunk_seconds_measured"]
    return "\n".join([*lines, f"a chunk without work takes {1e3 * message:.2f} ms (measured)"])
