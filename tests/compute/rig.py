"""Devices that misbehave on purpose, and engines that keep no calibration file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.compute.calibration import Calibration
from nexus.compute.devices.base import Device
from nexus.compute.devices.host import HostDevice
from nexus.compute.engine import Engine
from nexus.compute.errors import DeviceLost
from nexus.compute.job import Job
from nexus.compute.kernels import KERNELS

Array = NDArray[Any]


class Scripted(Device):
    """Computes like the host but into a buffer of its own; `spoil(result, call)` may change it or raise."""

    def __init__(self, name: str, spoil: Callable[[Array, int], None] = lambda result, call: None) -> None:
        super().__init__()
        self.name = name
        self.spoil = spoil
        self.calls = 0

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        self.calls += 1
        out = np.empty_like(job.out)
        KERNELS[job.kernel](job.params, job.inputs, start, stop, out)
        self.spoil(out[start:stop], self.calls)
        return out[start:stop]


class Stuck(Scripted):
    """Does not return from its chunk until it is abandoned; then it reports what it was not asked for
    any more.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.entered = threading.Event()
        self.given_up = threading.Event()

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        self.entered.set()
        self.given_up.wait()
        return np.full_like(job.out[start:stop], 77.0)

    def abandon(self) -> None:
        self.given_up.set()


class Gone(Scripted):
    """Is lost at its first chunk."""

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        raise DeviceLost(f"{self.name} went away")


def equal(*devices: Device, **options: Any) -> Engine:
    """An engine that gives every device an equal part, so that each is sure to get one."""
    return Engine(devices, calibration=Calibration(""), equal_split=True, seed=1, **options)


def host_and(*devices: Device) -> Engine:
    return equal(HostDevice(), *devices)


def matrices(rows: int, depth: int, columns: int, seed: int = 0) -> Sequence[Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, depth), np.float32), rng.standard_normal((depth, columns), np.float32)
