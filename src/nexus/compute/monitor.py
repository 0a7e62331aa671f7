"""What the machine and the engines on it do now: read by `nexus compute top`, written by running jobs.

A running job leaves one small file per process in the cache folder; those of ended processes are removed by
the next reader. Power and temperature are shown where the kernel tells them.
"""

from __future__ import annotations

import glob
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
        "dtype": run.job.dtype,
        "done": run.done / run.job.units,
        "devices": {
            part.device.name: part.units * run.job.work / seconds if run.job.counted else 0.0
            for part in run.report.devices
        },
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


class Meter:
    """Differences of the kernel's counters between two samples."""

    def __init__(self) -> None:
        self.last = self.read()

    def read(self) -> tuple[int, int, float | None, float]:
        """Busy and all processor ticks, joules, seconds."""
        return (*processor_ticks(), energy(), time.monotonic())

    def sample(self) -> dict[str, Any]:
        """Utilisation (0 to 1), memory in bytes, watts and degrees Celsius (None: the kernel does not
        tell).
        """
        before, now = self.last, self.read()
        self.last = now
        ticks = now[1] - before[1]
        used, memory = memory_use()
        watts = None
        if now[2] is not None and before[2] is not None and now[2] >= before[2]:
            watts = (now[2] - before[2]) / max(now[3] - before[3], 1e-3)
        return {
            "processor_measured": (now[0] - before[0]) / ticks if ticks else 0.0,
            "memory_used": used,
            "memory": memory,
            "watts_measured": watts,
            "celsius_measured": temperature(),
            "jobs": jobs(),
        }


def processor_ticks() -> tuple[int, int]:
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def memory_use() -> tuple[int, int]:
    rows = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            rows[name] = int(rest.split()[0]) * 1024
    return rows["MemTotal"] - rows["MemAvailable"], rows["MemTotal"]


def energy() -> float | None:
    """Joules the processor packages used so far, by RAPL; often only root may read it."""
    total = None
    for path in glob.glob("/sys/class/powercap/intel-rapl:?/energy_uj"):
        try:
            with open(path, encoding="ascii") as file:
                total = (total or 0.0) + int(file.read()) / 1e6
        except PermissionError:
            return None
    return total


def temperature() -> float | None:
    """The hottest sensor."""
    found = []
    for path in glob.glob("/sys/class/thermal/thermal_zone*/temp") + glob.glob(
        "/sys/class/hwmon/hwmon*/temp*_input"
    ):
        try:
            with open(path, encoding="ascii") as file:
                found.append(int(file.read()) / 1000)
        except OSError:
            # A sensor may be listed and yet refuse to be read while its device sleeps.
            continue
    return max(found, default=None)


def top(count: int | None, as_json: bool) -> int:
    """One sample a second, `count` times or until interrupted."""
    meter = Meter()
    taken = 0
    while count is None or taken < count:
        time.sleep(1.0)
        taken += 1
        row = meter.sample()
        print(json.dumps(row) if as_json else as_text(row), flush=True)
    return 0


def as_text(row: dict[str, Any]) -> str:
    parts = [
        f"processor {100 * row['processor_measured']:5.1f} %",
        f"memory {row['memory_used'] / 2**30:.1f} of {row['memory'] / 2**30:.1f} GiB",
        f"{row['watts_measured']:.1f} W" if row["watts_measured"] is not None else "power not told",
        f"{row['celsius_measured']:.0f} C" if row["celsius_measured"] is not None else "temperature not told",
    ]
    lines = ["  ".join(parts)]
    for job in row["jobs"]:
        rates = "  ".join(f"{name} {rate / 1e9:.1f} GFLOP/s" for name, rate in job["devices"].items())
        lines.append(
            f"  process {job['pid']}: {job['job']} {job['dtype']} {100 * job['done']:.0f} %  "
            f"{rates} (measured)"
        )
    return "\n".join(lines)
