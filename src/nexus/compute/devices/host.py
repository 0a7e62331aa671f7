"""The processor of this process, through numpy and its BLAS."""

from __future__ import annotations

import numpy as np

from nexus.compute.devices.base import Device
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.kernels import KERNELS


class HostDevice(Device):
    """Runs kernels in the calling thread; its results are in place and it never goes away."""

    name = "cpu"
    version = f"numpy {np.__version__}"
    trusted = True
    abandonable = False

    def __init__(self, memory: int | None = None) -> None:
        super().__init__()
        self.memory = memory

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        try:
            KERNELS[job.kernel]({**job.params, "memory": self.memory}, job.inputs, start, stop, job.out)
        except MemoryError as error:
            from nexus.compute.errors import OutOfDeviceMemory

            raise OutOfDeviceMemory(f"{self.name}: {error or 'out of memory'}") from None
        return None
