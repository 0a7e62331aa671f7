"""Running jobs: each leaves one small file per process in the cache folder; those of ended processes are
removed by the next reader.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from nexus.base.folders import private_folder

if TYPE_CHECKING:
    from nexus.compute.scheduler import Run

EVERY = 0.5
"""Seconds between two notes of a running job."""


def publish(run: Run) -> None:
    """Leave what a job has done so far for readers in other processes."""
    seconds = time.monotonic() - run.began
    row = {
        "pid": os.getpid(),
        "job": run.job.kernel,
        "precision": run.job.dtype,
        "done": run.done / run.job.units,
        "devices": [
            {
                "name": part.device.name,
                "kind": part.device.kind,
                "address": part.device.address,
                "flop_per_second_measured": part.units * run.job.work / seconds if run.job.counted else 0.0,
            }
            for part in run.report.devices
        ],
    }
    path = os.path.join(private_folder("compute", "live"), str(os.getpid()))
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(row, file)
    os.replace(path + ".new", path)


def withdraw() -> None:
    """The job is over."""
    path = os.path.join(private_folder("compute", "live"), str(os.getpid()))
    if os.path.exists(path):
        os.unlink(path)


def jobs() -> list[dict[str, Any]]:
    """The jobs running now."""
    folder, rows = private_folder("compute", "live"), []
    for name in sorted(os.listdir(folder)):
        if not name.isdecimal():
            continue
        path = os.path.join(folder, name)
        try:
            if not os.path.exists(f"/proc/{name}"):
                os.unlink(path)
                continue
            with open(path, encoding="utf-8") as file:
                rows.append(json.load(file))
        except FileNotFoundError:
            continue
    return rows
