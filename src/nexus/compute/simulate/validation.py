"""Predictions beside real runs on 1 to 8 nodes of this machine.

The kernel is of fixed duration: it waits as long as its unit says, so that nodes do not take each other's
processor and a machine of two cores can be a cluster of eight. Messages, data, scheduling, the death of a
node are real. Three runs fit what the model cannot know (the time of a chunk's messages, the bandwidth
between processes, the scheduler's own time); the others are predicted before they are looked at.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nexus.compute.chunks import NODE_DEPTH
from nexus.compute.cluster.device import SHORTEST
from nexus.compute.cluster.engine import ClusterEngine, cluster
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.report import Report
from nexus.compute.scheduler import Run
from nexus.compute.simulate.farm import simulate
from nexus.compute.simulate.model import Loss, Machine, Work

NODES = 8
WITHIN = 0.10
RUNS = 3
"""Real runs of one configuration. The quickest counts, since what else the machine does can only add to a
run; so for the fit as for what is predicted. A node is killed only once.
"""
REPEATS = 5
"""Simulations of one configuration; the prediction is their median."""


class Hold:
    """Waits for the first number of each row, in seconds; `paces` make some processes slower."""

    def __init__(self, paces: dict[int, float]) -> None:
        self.paces = paces
        self.__qualname__ = "Hold"

    def __call__(self, rows: Array) -> Array:
        time.sleep(float(rows[:, 0].sum()) * self.paces.get(os.getpid(), 1.0))
        return rows


@dataclass(frozen=True)
class Configuration:
    """`unit` seconds of one unit, `row` bytes that go in and out with it. `paces` slow the first nodes
    down, which the scheduler knows only when `told`. `spread` is the deviation of units' lengths; `loses`
    the seconds after which the last node is killed.
    """

    name: str
    nodes: int
    units: int
    unit: float
    row: int = 64
    paces: tuple[float, ...] = ()
    told: bool = False
    spread: float = 0.0
    loses: float = 0.0

    def pace(self, n: int) -> float:
        return self.paces[n] if n < len(self.paces) else 1.0


FITTED = (
    Configuration("one node, small data", 1, 120, 0.02),
    Configuration("one node, 1 MB a unit", 1, 40, 0.02, row=1 << 20),
    Configuration("eight nodes, smallest chunks", 8, 640, 0.01),
)
HELD_OUT = (
    Configuration("two nodes", 2, 300, 0.01),
    Configuration("three nodes", 3, 400, 0.015),
    Configuration("four nodes", 4, 600, 0.01),
    Configuration("five nodes, few long units", 5, 60, 0.15),
    Configuration("six nodes", 6, 900, 0.01),
    Configuration("eight nodes", 8, 1600, 0.01),
    Configuration("two nodes, 256 kB a unit", 2, 80, 0.03, row=1 << 18),
    Configuration("four nodes, 128 kB a unit", 4, 240, 0.02, row=1 << 17),
    Configuration("eight nodes, 64 kB a unit", 8, 400, 0.04, row=1 << 16),
    Configuration("four nodes of different speed, told", 4, 500, 0.01, paces=(3.0, 2.0, 1.5), told=True),
    Configuration("four nodes of different speed, not told", 4, 500, 0.01, paces=(2.0, 1.5), told=False),
    Configuration("six nodes, units of different length", 6, 600, 0.015, spread=1.0),
    Configuration("seven nodes, one slow", 7, 800, 0.012, paces=(2.5,), told=True),
    Configuration("eight nodes, one killed", 8, 1200, 0.012, loses=0.8),
)


@dataclass(frozen=True)
class Fit:
    """What the fitted runs say: seconds of a chunk's messages, bytes per second, seconds of the scheduler,
    and how much longer than asked a unit takes.
    """

    message: float
    bandwidth: float
    dispatch: float
    longer: float


def job_of(configuration: Configuration, paces: dict[int, float]) -> Job:
    rng = np.random.default_rng(configuration.units)
    lengths = np.full(configuration.units, configuration.unit)
    if configuration.spread:
        sigma = float(np.sqrt(np.log1p(configuration.spread**2)))
        lengths = configuration.unit * rng.lognormal(-(sigma**2) / 2, sigma, configuration.units)
    rows = np.zeros((configuration.units, max(1, configuration.row // 8)))
    rows[:, 0] = lengths
    work = 1e10 * configuration.unit
    return Job(
        "map", len(rows), (rows,), np.empty_like(rows), {"function": Hold(paces)}, work=work, dtype="held"
    )


def run(engine: ClusterEngine, configuration: Configuration) -> tuple[Report, float, float]:
    """One real run: its report, the kernels' seconds and the work in seconds that was done."""
    nodes = engine.membership.refresh()[: configuration.nodes]
    paces = {int(node.found["pid"]): configuration.pace(n) for n, node in enumerate(nodes)}
    job = job_of(configuration, paces)
    before = sum(node.kernel_seconds for node in nodes)
    timer = None
    if configuration.loses:
        victim = next(
            process for process in engine.processes if str(process.process.pid) == nodes[-1].found["pid"]
        )
        timer = threading.Timer(configuration.loses, victim.process.kill)
        timer.start()
    rates = [
        1 / configuration.unit / (configuration.pace(n) if configuration.told else 1.0)
        for n in range(len(nodes))
    ]
    report = Run(job, list[Any](nodes), rates).run()
    if timer is not None:
        timer.join()
    if not np.array_equal(job.out, job.inputs[0]):
        raise AssertionError(f"{configuration.name}: the result is wrong")
    return report, sum(node.kernel_seconds for node in nodes) - before, float(job.inputs[0][:, 0].sum())


def repeated(engine: ClusterEngine, configuration: Configuration) -> tuple[float, float, float, int]:
    """The quickest run of RUNS: its seconds, kernel seconds, the work in seconds, chunks."""
    runs = []
    for _ in range(RUNS):
        report, kernels, held = run(engine, configuration)
        runs.append((report.seconds, kernels, held, sum(row.chunks for row in report.devices)))
    return min(runs)


def fit(engine: ClusterEngine) -> Fit:
    """Run the fitted configurations and solve for what they tell; the first run of all warms the nodes up."""
    small, wide, many = FITTED
    run(engine, many)
    seconds, kernels, held, chunks = repeated(engine, small)
    longer = kernels / held
    message = max(1e-4, (seconds - kernels) / chunks)
    seconds, _, held, chunks = repeated(engine, wide)
    moved = 2.0 * wide.row * wide.units
    bandwidth = moved / max(1e-3, seconds - longer * held - chunks * message)
    seconds, kernels, _, chunks = repeated(engine, many)
    # What the run lasted longer than kernels and messages of one node is the queue at the scheduler.
    waited = seconds - kernels / many.nodes - chunks / many.nodes * message
    dispatch = min(max(0.0, waited / chunks), message)
    return Fit(message, bandwidth, dispatch, longer)


def ideal(configuration: Configuration) -> float:
    """Seconds if nothing cost anything but the work: what the model has to beat."""
    lengths = job_of(configuration, {}).inputs[0][:, 0].sum()
    return float(lengths) / sum(1 / configuration.pace(n) for n in range(configuration.nodes))


def predict(configuration: Configuration, known: Fit) -> float:
    """Seconds that the model expects."""
    rates = tuple(
        1 / configuration.unit / configuration.pace(n) / known.longer for n in range(configuration.nodes)
    )
    machine = Machine(
        rates=rates,
        believed=rates if configuration.told else (1 / configuration.unit,) * configuration.nodes,
        latency=known.message - known.dispatch,
        dispatch=known.dispatch,
        bandwidth=known.bandwidth,
        root_bandwidth=known.bandwidth,
        depth=NODE_DEPTH,
        shortest=SHORTEST,
    )
    if configuration.loses:
        machine = replace(machine, losses=(Loss(configuration.nodes - 1, configuration.loses, 0.01),))
    work = Work(
        configuration.units, configuration.row, configuration.row, granule=1, spread=configuration.spread
    )
    return sorted(simulate(work, machine, seed).seconds for seed in range(REPEATS))[REPEATS // 2]


def measured(engine: ClusterEngine, configuration: Configuration) -> tuple[list[float], Report]:
    """The seconds of the real runs in order, and the report of the last."""
    reports = [run(engine, configuration)[0] for _ in range(1 if configuration.loses else RUNS)]
    return sorted(report.seconds for report in reports), reports[-1]


def validate(
    configurations: Sequence[Configuration] = HELD_OUT,
    nodes: int = NODES,
    show: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Fit, predict, then run each configuration on real nodes of this machine."""
    rows: list[dict[str, Any]] = []
    with cluster(nodes=[1.0] * nodes) as engine:
        known = fit(engine)
        for configuration in configurations:
            show(configuration.name)
            predicted = predict(configuration, known)
            seconds, report = measured(engine, configuration)
            rows.append(
                {
                    "configuration": configuration.name,
                    "nodes": configuration.nodes,
                    "chunks_measured": sum(row.chunks for row in report.devices),
                    "seconds_measured": seconds[0],
                    "all_seconds_measured": seconds,
                    "seconds_simulated": predicted,
                    "seconds_of_work_over_rates": ideal(configuration),
                    "off": predicted / seconds[0] - 1.0,
                    "recovery_seconds_measured": report.recoveries,
                }
            )
    return {
        "what": "kernels of fixed duration on local nodes, real messages",
        "fitted_on": [configuration.name for configuration in FITTED],
        "message_seconds_fitted": known.message,
        "bytes_per_second_fitted": known.bandwidth,
        "dispatch_seconds_fitted": known.dispatch,
        "rows": rows,
        "within": WITHIN,
        "all_within": all(abs(row["off"]) <= WITHIN for row in rows),
    }


def text(found: dict[str, Any]) -> str:
    lines = [
        f"{found['what']}; fitted on other runs: {1e3 * found['message_seconds_fitted']:.1f} ms a chunk, "
        f"{found['bytes_per_second_fitted'] / 1e6:.0f} MB/s, {1e3 * found['dispatch_seconds_fitted']:.2f} ms "
        "of the scheduler",
        f"{'configuration':<42} {'measured':>9} {'simulated':>9} {'off':>7}  {'work over rates':>15}",
    ]
    for row in found["rows"]:
        real, simulated = row["seconds_measured"], row["seconds_simulated"]
        lines.append(
            f"{row['configuration']:<42} {real:>7.2f} s {simulated:>7.2f} s "
            f"{100 * row['off']:>+5.1f} %  {row['seconds_of_work_over_rates']:>13.2f} s"
        )
    worst = max(abs(row["off"]) for row in found["rows"])
    return "\n".join([*lines, f"worst {100 * worst:.1f} %, {len(found['rows'])} configurations held out"])
