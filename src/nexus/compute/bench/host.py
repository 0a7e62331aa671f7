"""The engine on this process's processor beside numpy, and what an import costs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from functools import partial

import numpy as np

from nexus.base.folders import CHECKOUT
from nexus.compute.bench.timing import Row, in_turns, operands, ratio, seconds
from nexus.compute.calibration import Calibration
from nexus.compute.devices.host import HostDevice
from nexus.compute.engine import Engine
from nexus.compute.formats import FORMATS

ROUNDS = 15
LONG = 1.0
"""Seconds that a job must take for the engine's overhead to count."""
LARGEST = 16384


def against_numpy(size: int) -> list[Row]:
    """fp32 product: the engine and numpy in turns, ROUNDS times."""
    a, b = operands(size)
    with Engine([HostDevice()], calibration=Calibration("")) as engine:
        np.matmul(a, b)
        plain, ours = in_turns([lambda: np.matmul(a, b), lambda: engine.matmul(a, b)], ROUNDS)
    work = 2.0 * size**3 / 1e9
    return [
        {
            "what": f"matmul {size}^3, engine on the processor beside numpy, {ROUNDS} rounds in turns",
            "precision": "fp32",
            "numpy_gflops_measured": work / statistics.median(plain),
            "engine_gflops_measured": work / statistics.median(ours),
            "engine_over_numpy_time_measured": ratio(ours, plain),
        }
    ]


def overhead() -> list[Row]:
    """What the engine itself takes of a product of more than a second: everything but the device's work."""
    size = 1024
    with Engine([HostDevice()], calibration=Calibration("")) as engine:
        a, b = operands(size)
        while seconds(partial(engine.matmul, a, b)) <= LONG and size < LARGEST:
            size = size * 3 // 2
            a, b = operands(size)
        shares, lengths = [], []
        for _ in range(5):
            took = seconds(lambda: engine.matmul(a, b))
            report = engine.last
            assert report is not None
            shares.append(1.0 - report.devices[0].busy / took)
            lengths.append(took)
    return [
        {
            "what": f"overhead of the engine on a product {size}^3, median of 5",
            "precision": "fp32",
            "seconds_measured": statistics.median(lengths),
            "overhead_measured": statistics.median(shares),
        }
    ]


def imports() -> list[Row]:
    """A new Python without and with the package, and with what an engine loads, beside numpy alone."""
    programs = {
        "nothing": "pass",
        "numpy": "import numpy",
        "package": "import nexus.compute",
        "engine": "import nexus.compute; nexus.compute.Engine",
    }
    environment = {**os.environ, "PYTHONPATH": os.path.join(CHECKOUT, "src")}

    def start(program: str) -> None:
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)

    times = in_turns([lambda program=program: start(program) for program in programs.values()], ROUNDS)  # type: ignore[misc]
    bare, numpy, package, engine = (statistics.median(row) for row in times)
    return [
        {
            "what": f"import of nexus.compute in a new process, median of {ROUNDS}",
            "precision": "wall clock",
            "package_seconds_measured": package - bare,
            "package_with_engine_and_numpy_seconds_measured": engine - bare,
            "numpy_alone_seconds_measured": numpy - bare,
        }
    ]


def formats(size: int) -> list[Row]:
    """Every number format on the processor: rate, error found and its bound."""
    a, b = operands(size)
    rows: list[Row] = []
    with Engine([HostDevice()]) as engine:
        for name in FORMATS:
            began = time.perf_counter()
            engine.matmul(a, b, dtype=name)
            took = time.perf_counter() - began
            report = engine.last
            assert report is not None
            rows.append(
                {
                    "what": f"matmul {size}^3 on the processor" + ("" if name == "fp32" else ", emulated"),
                    "precision": name,
                    "gflops_measured": report.work / report.seconds / 1e9,
                    "gflops_with_rounding_measured": report.work / took / 1e9,
                    "relative_error_sampled": report.error,
                    "relative_error_bound": report.bound,
                }
            )
    return rows
