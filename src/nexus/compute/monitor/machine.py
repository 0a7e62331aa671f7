"""The machine's processor, memory and sensors, and all devices of it in one sample."""

from __future__ import annotations

import glob
import os
import platform
import time
from typing import Any

from nexus.compute.monitor import live
from nexus.compute.monitor.gpus import Gpus


class Meter:
    """Differences of the kernel's counters between two samples."""

    def __init__(self) -> None:
        self.gpus = Gpus()
        self.last = self.read()

    def read(self) -> tuple[int, int, float | None, float]:
        """Busy and all processor ticks, joules, seconds."""
        return (*processor_ticks(), energy(), time.monotonic())

    def sample(self) -> dict[str, Any]:
        """The processor and every GPU: utilisation (0 to 1), memory in bytes, watts, degrees Celsius (None:
        not told), and the floating-point operations per second of the jobs that run on it.
        """
        before, now = self.last, self.read()
        self.last = now
        ticks = now[1] - before[1]
        used, memory = memory_use()
        watts = None
        if now[2] is not None and before[2] is not None and now[2] >= before[2]:
            watts = (now[2] - before[2]) / max(now[3] - before[3], 1e-3)
        processor = {
            "name": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "kind": "cpu",
            "address": "",
            "utilisation_measured": (now[0] - before[0]) / ticks if ticks else 0.0,
            "memory_used": used,
            "memory": memory,
            "watts_measured": watts,
            "celsius_measured": temperature(),
        }
        running = live.jobs()
        devices = [processor, *self.gpus.sample()]
        for device in devices:
            device["flop_per_second_measured"] = achieved(device, running)
        return {"time": time.time(), "devices": devices, "jobs": running}


def achieved(device: dict[str, Any], running: list[dict[str, Any]]) -> float:
    """What jobs get out of a device, all together. Devices of jobs without a PCI address run on the
    processor.
    """
    return float(
        sum(
            part["flop_per_second_measured"]
            for job in running
            for part in job["devices"]
            if part["address"] == device["address"]
        )
    )


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
