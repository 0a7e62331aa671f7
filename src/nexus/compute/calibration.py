"""Measured rates of devices, kept between runs, and the choice of devices that are faster together.

Rates are units of work per second by device and its driver version, kernel, number format, and size class
(powers of four of the work). They are measured on the job itself: alone, then all together, because devices
that share cores do not add up. A device without which the others do more is left out.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nexus.base.folders import private_folder
from nexus.compute.devices.base import Device
from nexus.compute.errors import DeviceLost, OutOfDeviceMemory
from nexus.compute.job import Job

VERSION = 1
PROBE_SECONDS = 0.1
PATIENCE = 30.0
"""Seconds until a probe that does not return is given up."""
PIECE = 0.05
"""The part of a job that a device's smallest piece may take: one that takes longer ends after the others."""
PAIRS = 3
GAIN = 1.05
"""How much more the others must do without a device to leave it out: less is within the noise of a probe."""


class Calibration:
    """The cache file; `path` "" keeps everything in memory."""

    def __init__(self, path: str | None = None) -> None:
        self.path = os.path.join(private_folder("compute"), "calibration.json") if path is None else path
        self.rows: dict[str, Any] = {}
        if self.path and os.path.exists(self.path):
            self.rows = read_rows(self.path)

    def choose(
        self, job: Job, devices: Sequence[Device], note: Callable[[str], None]
    ) -> tuple[list[Device], list[float]]:
        """The devices worth using for a job and their rates side by side, in units per second."""
        if len(devices) == 1:
            return list(devices), [1.0]
        key = self.key(job, devices)
        row = self.rows.get(key)
        if row is None:
            probes = Probes(job, devices)
            row = probes.measure()
            for why in probes.lost.values():
                note(why)
            if row is None:
                return [devices[0]], [1.0]
            if not probes.lost:
                self.rows[key] = row
                self.save()
        kept = [n for n in row["kept"] if row["together"][n] > 0]
        for n, device in enumerate(devices):
            if n not in row["kept"]:
                alone = row["alone"][n] / job.units
                note(
                    f"{device.name} is left out: the others do more without it "
                    f"({alone:.3g} jobs/s alone, measured)"
                )
        for n in sorted(kept, key=lambda n: row["together"][n]):
            whole = job.units / sum(row["together"][m] for m in kept)
            smallest = devices[n].granule(job) / row["together"][n]
            if len(kept) > 1 and smallest > PIECE * whole:
                kept.remove(n)
                note(
                    f"{devices[n].name} is left out: its smallest piece takes {smallest:.3g} s "
                    f"of a job of {whole:.3g} s (measured)"
                )
        return [devices[n] for n in kept], [row["together"][n] for n in kept]

    def key(self, job: Job, devices: Sequence[Device]) -> str:
        size = round(math.log(max(job.units * job.work, 1.0), 4))
        what = job.params["function"].__qualname__ if "function" in job.params else job.kernel
        names = ",".join(f"{device.name}={device.version}" for device in devices)
        # The work of a user's function is measured anew for every job, and never twice the same.
        unit = f"{job.work:.3g}" if job.counted else "measured"
        return f"{what} {job.dtype} 4^{size} tile={job.params['tile']} unit={unit} on {names}"

    def save(self) -> None:
        if not self.path:
            return
        temporary = f"{self.path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"version": VERSION, "rows": self.rows}, file, indent=1)
        os.replace(temporary, self.path)


def read_rows(path: str) -> dict[str, Any]:
    """The rows of a cache file; one that is damaged or of another version counts as empty."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict) or data.get("version") != VERSION or not isinstance(data.get("rows"), dict):
        return {}
    return dict(data["rows"])


class Probes:
    """One calibration: each device probes a range of its own, so that none disturbs what another computes."""

    def __init__(self, job: Job, devices: Sequence[Device]) -> None:
        self.job = job
        self.devices = devices
        self.room = max(1, job.units // len(devices))
        self.sizes = [0] * len(devices)
        self.lost: dict[Device, str] = {}

    def measure(self) -> dict[str, Any] | None:
        """Rates alone and together and the indices of the devices to keep; None when no device could be
        measured.
        """
        alone = [self.alone(n) for n in range(len(self.devices))]
        kept = [n for n, rate in enumerate(alone) if rate > 0]
        if not kept:
            return None
        together = self.best_together(kept)
        # The slowest first: it is the likeliest to cost the others more than it does.
        shared = [n for n in kept if self.devices[n].shares_host]
        for n in sorted(shared, key=lambda n: together[n]):
            without = [m for m in kept if m != n]
            if not without:
                break
            rates = self.best_together(without)
            if sum(rates) > sum(together) * GAIN and self.confirmed(kept, without):
                kept, together = without, rates
        return {"alone": alone, "together": together, "kept": kept}

    def confirmed(self, chosen: Sequence[int], fewer: Sequence[int]) -> bool:
        """Whether fewer devices do more in most of several pairs of probes: one pair may have met a
        disturbance.
        """
        ratios = [sum(self.together(fewer)) / max(sum(self.together(chosen)), 1e-9) for _ in range(PAIRS)]
        return statistics.median(ratios) > GAIN

    def alone(self, n: int) -> float:
        """The device's rate alone, 0 when it cannot compute the job; finds how many units make a probe."""
        rate = [0.0]

        def probe() -> None:
            self.devices[n].prepare(self.job)
            self.sizes[n] = min(self.job.granule, self.room)
            self.probe(n)
            while True:
                began = time.monotonic()
                self.probe(n)
                seconds = max(time.monotonic() - began, 1e-6)
                # Shorter ones measure how long the device takes to begin, not how fast it is.
                if seconds >= PROBE_SECONDS or self.sizes[n] == self.room:
                    rate[0] = self.sizes[n] / seconds
                    return
                wanted = int(self.sizes[n] * 1.5 * PROBE_SECONDS / seconds)
                self.sizes[n] = min(self.room, 8 * self.sizes[n], max(2 * self.sizes[n], wanted))

        self.patiently({n: probe})
        return rate[0]

    def probe(self, n: int) -> None:
        start = self.job.first + min(n * self.room, self.job.units - self.sizes[n])
        self.devices[n].run(self.job, start, start + self.sizes[n])

    def best_together(self, chosen: Sequence[int]) -> list[float]:
        """The better of two probes: what else this machine does disturbs one less often than both."""
        return max((self.together(chosen) for _ in range(2)), key=sum)

    def together(self, chosen: Sequence[int]) -> list[float]:
        """Rates while all the chosen devices run; 0 for the others."""
        rates = [0.0] * len(self.devices)
        barrier = threading.Barrier(len(chosen))

        def probe(n: int) -> None:
            done = 0
            barrier.wait()
            began = time.monotonic()
            while time.monotonic() - began < PROBE_SECONDS or not done:
                self.probe(n)
                done += self.sizes[n]
            rates[n] = done / (time.monotonic() - began)

        self.patiently({n: partial(probe, n) for n in chosen})
        return rates

    def patiently(self, probes: dict[int, Callable[[], None]]) -> None:
        """Run probes side by side. A device that is lost or takes longer than PATIENCE has no rate; what a
        user's function raised is raised here.
        """
        errors: list[Exception] = []

        def guarded(n: int, probe: Callable[[], None]) -> None:
            try:
                probe()
            except (DeviceLost, OutOfDeviceMemory) as error:
                self.lost.setdefault(self.devices[n], str(error))
            except Exception as error:
                errors.append(error)

        threads = {
            n: threading.Thread(target=guarded, args=(n, probe), daemon=True) for n, probe in probes.items()
        }
        for thread in threads.values():
            thread.start()
        try:
            for n, thread in threads.items():
                device = self.devices[n]
                thread.join(timeout=PATIENCE if device.abandonable else None)
                if thread.is_alive():
                    self.lost[device] = f"{device.name} did not answer within {PATIENCE:g} s"
                    device.abandon()
                    if not device.detached:
                        thread.join()
        except KeyboardInterrupt:
            for n, thread in threads.items():
                if thread.is_alive() and self.devices[n].abandonable:
                    self.devices[n].abandon()
            raise
        if errors:
            raise errors[0]
