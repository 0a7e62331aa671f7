"""Matrix products on the browsers that join: what `nexus compute cluster browser` does."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from nexus.compute.browser.lobby import Lobby
from nexus.compute.calibration import Calibration
from nexus.compute.devices.base import Device
from nexus.compute.engine import Engine
from nexus.compute.errors import ComputeError
from nexus.compute.report import Report

JOIN_SECONDS = 600.0


def lend(host: str, port: int, keys: str | None, workers: int, size: int, as_json: bool) -> int:
    """Invite `workers` browsers, multiply two matrices of side `size` with them, print the report.

    Raises ComputeError when they do not come. The exit code is 1 when the result is wrong.
    """
    lobby = Lobby(host, port, keys)
    try:
        for _ in range(workers):
            print(
                f"nexus: open in a browser with WebGPU, once: {lobby.invite()}", file=sys.stderr, flush=True
            )
        if not lobby.wait(workers, JOIN_SECONDS):
            raise ComputeError(f"{len(lobby.devices())} of {workers} browsers joined in {JOIN_SECONDS:g} s")
        rng = np.random.default_rng(1)
        a, b = rng.standard_normal((size, size), np.float32), rng.standard_normal((size, size), np.float32)
        right, report, devices = multiply(lobby.devices(), a, b)
        found = {
            "version": 1,
            **report.as_json(),
            "right": right,
            "browsers": [
                {"name": device.name, "version": device.version, "verified_chunks": device.accepted}
                for device in devices
            ],
            "banned": lobby.banned,
        }
        print(json.dumps(found, indent=1) if as_json else text(found, report))
        return 0 if right else 1
    finally:
        lobby.close()


def multiply(devices: list[Any], a: Any, b: Any) -> tuple[bool, Report, list[Any]]:
    """Whether the browsers' product is numpy's, with the report."""
    able: list[Device] = list(devices)
    engine = Engine(able, calibration=Calibration(""))
    got = engine.matmul(a, b)
    assert engine.last is not None
    return bool(np.allclose(got, a @ b, rtol=1e-3, atol=1e-2)), engine.last, devices


def text(found: dict[str, Any], report: Report) -> str:
    lines = [report.text()]
    lines += [
        f"  {row['name']}: {row['verified_chunks']} verified chunks, {row['version']}"
        for row in found["browsers"]
    ]
    lines += [f"  {row}" for row in found["banned"]]
    return "\n".join([*lines, f"  result {'right' if found['right'] else 'WRONG'}"])
