"""A GPU through an array library: products on its matrix units, points, gravity.

Operands in this process's memory are copied to it per chunk (the second operand of a product stays for the
whole job when it fits); arrays in the engine's shared memory are pinned first, so that the copy is a direct
transfer. Operands that already lie on the device, or on a peer, are used where they are
(`operations.resident`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nexus.compute.devices.base import Device
from nexus.compute.devices.library import ArrayLibrary
from nexus.compute.errors import DeviceLost, OutOfDeviceMemory
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.tiling import steps, tile_sizes

KERNELS = ("matmul", "transform", "gravity")
PART_OF_FREE = 0.8
"""How much of the free memory a product's tiles may take; a smaller part after running out of it."""
ATTEMPTS = 3
LANDING_SECONDS = 2.0
COARSE = 2.0**-13
"""Relative error of a sum in the accumulators of fp8 units, which keep about 14 bits."""


class Accelerator(Device):
    """`memory` bounds the bytes of one product's tiles; what is free on the device always does."""

    kind = "gpu"
    shares_host = False
    detached = True

    def __init__(
        self, library: ArrayLibrary, number: int, address: str = "", memory: int | None = None
    ) -> None:
        super().__init__()
        self.library = library
        self.name = f"gpu{number}"
        self.version = library.about()
        self.address = address
        self.memory = memory
        self.kept: tuple[Any, Any] | None = None
        self.dead = ""
        self.landing = threading.Lock()

    @property
    def family(self) -> str:
        return self.version

    def lacks(self, job: Job) -> str:
        if self.dead:
            return self.dead
        if job.kernel not in KERNELS:
            return f"it has no kernel for {job.kernel}"
        if job.kernel == "matmul" and not self.library.units(job.dtype):
            return f"it has no units for {job.dtype}"
        return ""

    def multiplies_as(self, dtype: str) -> str:
        return self.library.units(dtype) or "fp32"

    def roundoff(self, job: Job) -> float:
        if job.kernel == "matmul" and self.library.units(job.dtype) == "fp8_e4m3":
            return COARSE / math.sqrt(job.inputs[0].shape[1])
        return super().roundoff(job)

    def prepare(self, job: Job) -> None:
        with self.told():
            self.library.pin([array for array in (*job.inputs, job.out) if isinstance(array, np.ndarray)])

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        with self.told():
            if job.kernel == "matmul":
                result = self.product(job, start, stop)
            elif job.kernel == "transform":
                result = self.moved(job, start, stop)
            else:
                result = self.attracted(job, start, stop)
            self.library.wait()
            return result

    @contextmanager
    def told(self) -> Iterator[None]:
        """The library's exceptions as ours. After a failure of the driver nothing works on the device any
        more.
        """
        try:
            with self.library.current():
                yield
        except (OutOfDeviceMemory, DeviceLost):
            raise
        except self.library.out_of_memory as error:
            self.kept = None
            self.library.release()
            raise OutOfDeviceMemory(f"{self.name}: {first_line(error)}") from None
        except self.library.failures as error:
            self.dead = f"it stopped working: {first_line(error)}"
            raise DeviceLost(f"{self.name}: {type(error).__name__}: {first_line(error)}") from None

    # Operands of a chunk.

    def part(self, array: Any, start: int, stop: int) -> Any:
        """Rows of an operand on this device; what has to be copied for that is counted."""
        rows = array[start:stop]
        if not isinstance(array, np.ndarray):
            here = self.library.adopt(rows)
            self.copied += 0 if here is rows else rows.nbytes
            return here
        self.copied += rows.nbytes
        return self.library.upload(rows)

    def whole(self, array: Any) -> Any:
        """An operand that every chunk of the job needs: copied once."""
        if self.kept is None or self.kept[0] is not array:
            self.kept = None
            self.kept = (array, self.part(array, 0, len(array)))
        return self.kept[1]

    def land(
        self, job: Job, result: Any, start: int, stop: int, left: int = 0, right: int | None = None
    ) -> None:
        """Put a result into this process's memory, unless the job went on without this device."""
        target = job.out[start:stop, left:right]
        self.library.wait()
        with self.landing:
            if self.dead:
                raise DeviceLost(f"{self.name}: {self.dead}")
            self.library.download(result, target)
        self.copied += target.nbytes

    # Kernels.

    def product(self, job: Job, start: int, stop: int) -> Array | None:
        if not isinstance(job.inputs[0], np.ndarray):
            return self.product_here(job, start, stop)
        tile = job.params["tile"]
        if tile:
            # The same tiles whatever is free at the moment, so that the bits are the same.
            for low, high in steps(start, stop, tile):
                self.product_in_tiles(job, low, high, self.memory)
            return None
        free = int(self.library.free_memory() * PART_OF_FREE)
        limit = min(self.memory or free, free)
        for attempt in range(ATTEMPTS):
            try:
                self.product_in_tiles(job, start, stop, limit >> (2 * attempt))
                return None
            except self.library.out_of_memory:
                self.kept = None
                self.library.release()
                if attempt == ATTEMPTS - 1:
                    raise
        return None

    def product_in_tiles(self, job: Job, start: int, stop: int, limit: int | None) -> None:
        """Rows of a product whose operands are in this process's memory; sums over the depth stay on the
        device. Twice the room of the tiles: beside fp32 they are there in the units' format.
        """
        a, b = job.inputs
        units, scale = self.library.units(job.dtype), job.params["scale"]
        sides = (stop - start, b.shape[1], b.shape[0])
        rows, columns, depth = tile_sizes(*sides, limit // 2 if limit else None)
        for top, bottom in steps(start, stop, rows):
            for left, right in steps(0, b.shape[1], columns):
                total = None
                for near, far in steps(0, b.shape[0], depth):
                    x = self.part(a[:, near:far], top, bottom)
                    whole = (columns, depth) == sides[1:]
                    y = self.whole(b) if whole else self.part(b[:, left:right], near, far)
                    got = self.library.multiply(x, y, units, scale)
                    total = got if total is None else total + got
                self.land(job, total, top, bottom, left, right)

    def product_here(self, job: Job, start: int, stop: int) -> Array | None:
        """A product whose operands and result are on this device or on a peer."""
        a, b = self.part(job.inputs[0], start, stop), self.whole(job.inputs[1])
        ours = self.here(job.out)
        out: Any = (
            job.out[start:stop]
            if ours
            else self.library.empty((stop - start, b.shape[1]), job.params["result"])
        )
        self.library.multiply(a, b, self.library.units(job.dtype), job.params["scale"], out)
        return None if ours else out

    def here(self, array: Any) -> bool:
        """Whether an array lies on this very device."""
        return tuple(array.__dlpack_device__()) == self.library.place

    def moved(self, job: Job, start: int, stop: int) -> Array | None:
        points = self.part(job.inputs[0], start, stop)
        turned = self.library.contiguous(self.part(job.inputs[1].T, 0, 4))
        if not isinstance(job.out, np.ndarray) and self.here(job.out):
            self.library.transform(points, turned, job.out[start:stop])
            return None
        out: Any = self.library.empty(tuple(points.shape), "fp32")
        self.library.transform(points, turned, out)
        if not isinstance(job.out, np.ndarray):
            moved: Array = out
            return moved
        self.land(job, out, start, stop)
        return None

    def attracted(self, job: Job, start: int, stop: int) -> Array | None:
        count = len(job.inputs[0])
        positions, masses = (self.part(array, 0, count) for array in job.inputs)
        room = self.library.free_memory() * PART_OF_FREE / (4 * 8 * count)
        block = max(1, min(int(room), job.params["tile"] or stop - start))
        for low, high in steps(start, stop, block):
            got = self.library.gravity(positions, masses, low, high, job.params["softening"])
            self.land(job, got * job.params["g"], low, high)
        return None

    # The rest of a device.

    def finish(self, job: Job) -> None:
        self.kept = None

    def abandon(self) -> None:
        self.dead = "it stopped answering"
        # A transfer in progress ends first; one that hangs writes nothing any more either.
        if self.landing.acquire(timeout=LANDING_SECONDS):
            self.landing.release()

    def close(self) -> None:
        self.kept = None
        with self.told():
            self.library.unpin()
            self.library.release()


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
