"""What a job did: per device and as a whole. Every figure is measured unless its name says otherwise."""

from __future__ import annotations

from typing import Any

from nexus.compute.devices.base import Device
from nexus.compute.job import Job


class DeviceReport:
    """One device's part: seconds `busy`, and `ended`, the seconds from the job's start to its last chunk's
    end; `spans` are the start and end of each chunk, which starts at the end of the one before where that
    was under way with it.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.units = 0
        self.chunks = 0
        self.busy = 0.0
        self.ended = 0.0
        self.spans: list[tuple[float, float]] = []
        self.wrong = 0
        self.lost = False

    def add(self, units: int, began: float, ended: float) -> None:
        began = max(began, self.ended)
        self.units += units
        self.chunks += 1
        self.busy += ended - began
        self.ended = ended
        self.spans.append((began, ended))


class Report:
    """One job. `copied` is the bytes moved by copying, `recoveries` the seconds each lost chunk took to
    be redone.
    """

    def __init__(self, job: Job, devices: list[DeviceReport]) -> None:
        self.kernel = job.kernel
        self.dtype = job.dtype
        self.units = job.units
        self.work = job.work * job.units if job.counted else 0.0
        self.devices = devices
        self.seconds = 0.0
        self.copied = 0
        self.recoveries: list[float] = []
        self.notes: list[str] = []
        self.error: float | None = None
        self.bound: float | None = None

    @property
    def balance(self) -> float:
        """End of the first device over end of the last; 1 when all ended together. Lost devices do not
        count.
        """
        ends = [row.ended for row in self.devices if row.units and not row.lost]
        return min(ends) / max(ends) if ends else 1.0

    def as_json(self) -> dict[str, Any]:
        rate = self.work / self.seconds if self.seconds else 0.0
        return {
            "kernel": self.kernel,
            "dtype": self.dtype,
            "units": self.units,
            "seconds_measured": self.seconds,
            "flop_per_second_measured": rate,
            "balance_measured": self.balance,
            "copied_bytes": self.copied,
            "recovery_seconds_measured": self.recoveries,
            "relative_error_sampled": self.error,
            "relative_error_bound": self.bound,
            "notes": self.notes,
            "devices": [
                {
                    "name": row.device.name,
                    "units": row.units,
                    "chunks": row.chunks,
                    "busy_seconds_measured": row.busy,
                    "ended_seconds_measured": row.ended,
                    "flop_per_second_measured": row.units * self.work / self.units / row.busy
                    if row.busy
                    else 0.0,
                    "lost": row.lost,
                    "wrong_results": row.wrong,
                }
                for row in self.devices
            ],
        }

    def text(self) -> str:
        """A few lines to read."""
        rate, what = (self.work / 1e9, "GFLOP/s") if self.work else (self.units / 1e6, "million units/s")
        lines = [
            f"{self.kernel} {self.dtype}: {self.seconds:.3f} s, {rate / max(self.seconds, 1e-9):.1f} {what}, "
            f"balance {self.balance:.3f}, {self.copied / 1e6:.1f} MB copied (measured)"
        ]
        if self.bound is not None and self.error is not None:
            lines.append(
                f"  error {self.error:.2e} of a bound of {self.bound:.2e}, relative, sampled against fp64"
            )
        for row in self.devices:
            state = ", lost" if row.lost else ""
            lines.append(
                f"  {row.device.name:<10} {100 * row.units / self.units:5.1f} %  {row.chunks:3d} chunks  "
                f"busy {row.busy:.3f} s  ended {row.ended:.3f} s{state}"
            )
        lines += [f"  recovered in {seconds:.3f} s" for seconds in self.recoveries]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])
