"""The samples in a terminal, or one JSON object a line."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from nexus.compute.monitor.machine import Meter

AGAIN = "\x1b[H\x1b[J"
"""Clears a terminal."""


def top(count: int | None, as_json: bool) -> int:
    """One sample a second, `count` times or until interrupted."""
    meter = Meter()
    if meter.gpus.absent and not as_json:
        print(f"NVIDIA GPUs are not shown: {meter.gpus.absent}", file=sys.stderr)
    taken = 0
    while count is None or taken < count:
        time.sleep(1.0)
        taken += 1
        row = meter.sample()
        before = AGAIN if sys.stdout.isatty() and count != 1 else ""
        print(json.dumps(row) if as_json else before + as_text(row), flush=True)
    return 0


def as_text(row: dict[str, Any]) -> str:
    lines = [device_line(device) for device in row["devices"]]
    for job in row["jobs"]:
        rates = "  ".join(
            f"{part['name']} {part['flop_per_second_measured'] / 1e9:.1f} GFLOP/s" for part in job["devices"]
        )
        lines.append(
            f"  process {job['pid']}: {job['job']} {job['precision']} {100 * job['done']:.0f} %  "
            f"{rates} (measured)"
        )
    return "\n".join(lines)


def device_line(device: dict[str, Any]) -> str:
    """Utilisation, memory, power, temperature and achieved rate; what is not told is a dash."""
    busy, memory = device["utilisation_measured"], device["memory"]
    parts = [
        f"{device['name'][:32]:<32}",
        "    - %" if busy is None else f"{100 * busy:5.1f} %",
        "-" if memory is None else f"{device['memory_used'] / 2**30:.1f} of {memory / 2**30:.1f} GiB",
        "- W" if device["watts_measured"] is None else f"{device['watts_measured']:.1f} W",
        "- C" if device["celsius_measured"] is None else f"{device['celsius_measured']:.0f} C",
        f"{device['flop_per_second_measured'] / 1e9:.1f} GFLOP/s",
    ]
    return "  ".join(parts)
