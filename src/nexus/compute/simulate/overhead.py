"""What scheduling costs as machines grow: measured for the engine here, simulated up to 10,000 nodes."""

from __future__ import annotations

import resource
import time
from typing import Any

from nexus.compute.chunks import NODE_DEPTH
from nexus.compute.simulate.farm import simulate
from nexus.compute.simulate.model import Machine, Work

NODES = (8, 100, 1000, 10_000)
UNIT = 0.1
UNITS_PER_NODE = 1000
FANOUT = 100


def rows(dispatch: float, start: float) -> list[dict[str, Any]]:
    """Jobs of 100 s of work for every node under one scheduler, and under one for each FANOUT nodes.

    `dispatch` is the scheduler's and `start` the node's time for a chunk, in seconds.
    """
    found = []
    for nodes in NODES:
        for fanout in (0, FANOUT) if nodes > FANOUT else (0,):
            machine = Machine(
                rates=(1 / UNIT,) * nodes,
                jitter=0.02,
                start=start,
                latency=1e-3,
                dispatch=dispatch,
                fanout=fanout,
                depth=NODE_DEPTH,
                shortest=UNIT,
            )
            began = time.perf_counter()
            outcome = simulate(Work(units=UNITS_PER_NODE * nodes, granule=4), machine, nodes)
            found.append(
                {
                    "label": "simulated",
                    "nodes": nodes,
                    "schedulers": 1 + (-(-nodes // fanout) if fanout else 0),
                    "seconds": outcome.seconds,
                    "efficiency": outcome.efficiency,
                    "chunks": outcome.chunks,
                    "overhead_per_chunk": outcome.overhead / outcome.chunks,
                    "busiest_scheduler": outcome.busiest_scheduler,
                    "events": outcome.events,
                    "simulation_seconds_measured": time.perf_counter() - began,
                    "peak_memory_measured": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                }
            )
    return found


def text(found: list[dict[str, Any]]) -> str:
    lines = [f"{'nodes':>7} {'schedulers':>10} {'efficiency':>10} {'chunks':>8} {'busiest':>9}   (simulated)"]
    for row in found:
        took, memory = row["simulation_seconds_measured"], row["peak_memory_measured"] / 2**20
        lines.append(
            f"{row['nodes']:>7,} {row['schedulers']:>10} {100 * row['efficiency']:>8.1f} % "
            f"{row['chunks']:>8,} {row['busiest_scheduler']:>7.1f} s   "
            f"simulated in {took:.1f} s with {memory:.0f} MiB (measured)"
        )
    return "\n".join(lines)
