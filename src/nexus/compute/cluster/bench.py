"""A job over all nodes beside what the same nodes do side by side without sharing it."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from nexus.compute.calibration import Calibration
from nexus.compute.cluster.device import NodeDevice
from nexus.compute.cluster.engine import cluster
from nexus.compute.formats import Array
from nexus.compute.job import Job

SHARE = 0.05
"""Of a core for each local node: so little that eight of them have it even where others use the machine,
too.
"""
SECONDS = 8.0
PAIRS = 3
ROWS = 64
"""Of each node in the run that tells how many rows make SECONDS."""


def measure(address: str | None, keys: str | None, count: int, size: int) -> dict[str, Any]:
    """An fp32 product of `size` columns on the cluster at `address`, or on `count` local nodes.

    Each pair is one measurement of all nodes on their own, at the same time, each with rows of its own, and
    one of the job that they share, of about SECONDS each.
    """
    engine = cluster(address, keys=keys, nodes=[SHARE] * count)
    with engine:
        engine.calibration = Calibration("")
        nodes = engine.membership.refresh()
        rng = np.random.default_rng(1)
        b = rng.standard_normal((size, size), np.float32)
        first = rng.standard_normal((ROWS * len(nodes), size), np.float32)
        rows = int(sum(side_by_side(nodes, first, b)) * SECONDS)
        a = rng.standard_normal((rows, size), np.float32)
        engine.matmul(a, b)
        wanted, right, pairs, chunks = a @ b, True, [], 0
        for _ in range(PAIRS):
            alone = side_by_side(nodes, a, b)
            got = engine.matmul(a, b)
            assert engine.last is not None
            right = right and bool(np.allclose(got, wanted, rtol=1e-3, atol=1e-2))
            chunks = sum(part.chunks for part in engine.last.devices)
            pairs.append((sum(alone), rows / engine.last.seconds, engine.last.balance))
        overhead = message_seconds(nodes[0])
    ratios = sorted(shared / alone for alone, shared, _ in pairs)
    work = 2.0 * size * size
    return {
        "what": f"fp32 product on {len(nodes)} nodes" + ("" if address else f", each {SHARE:g} of a core"),
        "rows": rows,
        "size": size,
        "nodes": len(nodes),
        "chunks": chunks,
        "sum_of_corun_gflops_measured": [alone * work / 1e9 for alone, _, _ in pairs],
        "cluster_gflops_measured": [shared * work / 1e9 for _, shared, _ in pairs],
        "balance_measured": [balance for _, _, balance in pairs],
        "of_corun_rates_measured": ratios,
        "of_corun_rates_median": ratios[len(ratios) // 2],
        "overhead_of_a_chunk_seconds_measured": overhead,
        "right": right,
    }


def side_by_side(nodes: list[NodeDevice], a: Array, b: Array) -> list[float]:
    """Rows per second of each node while all of them work, each on its part, in chunks of SECONDS / 4."""
    out = np.empty((len(a), b.shape[1]), np.float32)
    params = {"scale": 1.0, "exact": False}
    job = Job("matmul", len(a), (a, b), out, params, work=2.0 * b.size)
    part = len(a) // len(nodes)
    piece = max(1, part // 4)
    rates = [0.0] * len(nodes)
    ready = threading.Barrier(len(nodes))

    def work(n: int) -> None:
        nodes[n].prepare(job)
        ready.wait()
        done, began = 0, time.monotonic()
        while time.monotonic() - began < SECONDS:
            start = n * part + done % (part - piece + 1)
            nodes[n].run(job, start, start + piece)
            done += piece
        rates[n] = done / (time.monotonic() - began)
        nodes[n].finish(job)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rates


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
    ratios = ", ".join(f"{ratio:.3f}" for ratio in found["of_corun_rates_measured"])
    message = found["overhead_of_a_chunk_seconds_measured"]
    return "\n".join(
        [
            f"{found['what']}: {found['rows']} by {found['size']} by {found['size']}, "
            f"{found['chunks']} chunks",
            f"  shared, of the sum of the nodes' co-run rates: {ratios} (measured, in pairs)",
            f"  balance: {', '.join(f'{one:.3f}' for one in found['balance_measured'])}",
            f"  a chunk without work takes {1e3 * message:.2f} ms (measured)",
            f"  result {'right' if found['right'] else 'WRONG'}",
        ]
    )
