"""What the scheduler needs to know of a device."""

from __future__ import annotations

from nexus.compute.chunks import SHORTEST, STALL_SECONDS
from nexus.compute.formats import Array
from nexus.compute.job import Job

ROUNDOFF = 2.0**-24
"""That of fp32."""


class Device:
    """One thing that computes.

    `kind` is cpu or gpu; `shares_host` tells that it runs on this machine's processor cores, so that it takes
    from the others what it gives. `trusted` is this process itself, whose results need no check. An
    `abandonable` device's `run` can be given up; of a `detached` one it then goes on in the background.
    `family` is the same for devices whose results are the same in every bit; `address` is that on the PCI
    bus, where there is one. `copied` counts bytes copied to and from the device since it was made.
    With `in_shared_memory` its processes map a job's arrays, which have to lie in `shared` ones.
    `shortest` is the seconds a chunk should take at least to be worth its message; `depth` is how many chunks
    it is given at a time: the next one travels during the work. `run` is called by so many threads then. A
    chunk that is late by less than `grace` seconds does not count as stalled.
    """

    name = "device"
    kind = "cpu"
    version = ""
    shares_host = True
    trusted = False
    abandonable = True
    detached = False
    memory: int | None = None
    shortest = SHORTEST
    depth = 1
    grace = STALL_SECONDS
    in_shared_memory = False
    address = ""

    def __init__(self) -> None:
        self.copied = 0

    def lacks(self, job: Job) -> str:
        """Why the device cannot take part in a job; empty when it can."""
        return ""

    @property
    def family(self) -> str:
        return self.kind

    def multiplies_as(self, dtype: str) -> str:
        """The format whose units compute products in `dtype`; fp32 with rounded operands unless told."""
        return "fp32"

    def granule(self, job: Job) -> int:
        """The fewest units worth handing to this device, a multiple of the job's granule."""
        return job.granule

    def roundoff(self, job: Job) -> float:
        """Relative error of one addition in this job."""
        return ROUNDOFF

    def prepare(self, job: Job) -> None:
        """Called once before the chunks of a job. Raises DeviceLost."""

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        """Compute units `start` to `stop`: into `job.out` itself (None), or returned to be put there.

        Raises DeviceLost, OutOfDeviceMemory, or what the user's function raised.
        """
        raise NotImplementedError

    def finish(self, job: Job) -> None:
        """Called once after the chunks of a job, unless the device was lost."""

    def abandon(self) -> None:
        """Give up a `run` that does not return; afterwards the device writes nothing into `job.out`."""

    def refuted(self) -> None:
        """Called when a result of this device was found wrong; it gets nothing more of that job. Must not
        wait.
        """

    def close(self) -> None:
        """Free what the device holds."""
