"""The engine: operations that read like numpy's, on every device at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from nexus.compute import shared
from nexus.compute.calibration import Calibration
from nexus.compute.devices.accelerator import Accelerator
from nexus.compute.devices.base import Device
from nexus.compute.devices.host import HostDevice
from nexus.compute.devices.worker import WorkerDevice
from nexus.compute.errors import BadInput, ComputeError, OutOfDeviceMemory
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.operations import cloth, matrix, physics, pointwise, resident
from nexus.compute.report import Report
from nexus.compute.scheduler import Run

SMALL_WORK = 5e7
"""Floating-point operations below which a job stays on this process: handing it out would take longer."""


class Engine:
    """Devices and one queue. `last` is the report of the last job. Close it, or use it as a context
    manager.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        calibration: Calibration | None = None,
        deterministic: bool = False,
        equal_split: bool = False,
        seed: int | None = None,
        checks: float = 1.0,
    ) -> None:
        if not devices:
            raise BadInput("an engine needs at least one device")
        self.devices = list(devices)
        self.calibration = calibration or Calibration()
        self.deterministic = deterministic
        self.equal_split = equal_split
        self.rng = np.random.default_rng(seed)
        self.checks = checks
        self.accelerated = any(isinstance(device, Accelerator) for device in self.devices)
        self.last: Report | None = None
        self.copied = 0
        self.queue = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End worker processes and free device memory; a later job starts them again."""
        for device in self.devices:
            device.close()

    # Operations. Each says what it computes; shapes and errors are told where it is written.

    def matmul(self, a: object, b: object, *, dtype: str = "fp32") -> Any:
        """`a @ b` with operands in a number format (see `formats`), as float32.

        Operands that lie on an accelerator stay there, and so does the result (see `operations.resident`).
        """
        with self.turn():
            device = self.home(a, b)
            if device is not None:
                return resident.matmul(self, device, a, b, dtype)
            return matrix.matmul(self, a, b, dtype)

    def transform(self, points: object, matrix4: object) -> Any:
        """Points (n by 4, rows x y z w; n by 3 has w = 1) times a 4x4 matrix, as float32 n by 4."""
        with self.turn():
            device = self.home(points, matrix4)
            if device is not None:
                return resident.transform(self, device, points, matrix4)
            return matrix.transform(self, points, matrix4)

    def map(self, function: Callable[..., Any], *data: object) -> Array:
        """`function` of blocks of elements along the first axis; it returns one result for each element."""
        with self.turn():
            return pointwise.map_blocks(self, function, data)

    def reduce(self, data: object, how: str = "sum") -> Array:
        """`sum`, `max` or `min` along the first axis, added up in an order that no split changes."""
        with self.turn():
            return pointwise.reduce(self, data, how)

    def nbody(
        self, positions: object, velocities: object, masses: object, *, dt: float, steps: int = 1,
        softening: float = 0.01, g: float = 1.0,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Positions and velocities after `steps` of leapfrog integration under gravity."""
        with self.turn():
            return physics.nbody(self, positions, velocities, masses, dt, steps, softening, g)

    def cloth(
        self, positions: object, velocities: object, springs: object, *, dt: float, steps: int = 1,
        lengths: object | None = None, stiffness: float = 1e3, damping: float = 0.0, mass: float = 1.0,
        pinned: Sequence[int] = (), gravity: Sequence[float] = (0.0, 0.0, -9.81),
    ) -> tuple[Array, Array]:  # fmt: skip
        """Positions and velocities of a net of springs (m pairs of points) after `steps` steps."""
        net = cloth.Net(springs, lengths, stiffness, damping, mass, pinned, gravity)
        with self.turn():
            return cloth.simulate(self, positions, velocities, net, dt, steps)

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float32) -> Array:
        """A zeroed array in memory that workers share: operands in such arrays are never copied to them."""
        return shared.allocate((shape,) if isinstance(shape, int) else tuple(shape), dtype)

    # For the operations.

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One job at a time; what a failed one had copied is not counted for the next."""
        with self.queue:
            self.copied = 0
            try:
                yield
            except MemoryError as error:
                raise OutOfDeviceMemory(f"this process ran out of memory: {error}") from None

    def home(self, *operands: object) -> Accelerator | None:
        """The accelerator that operands lie on, if they do."""
        if not self.accelerated:
            return None
        return resident.home(self, operands)

    def take(self, value: object, name: str, dtype: DTypeLike | None = np.float32) -> Array:
        """An operand as a C-contiguous array of `dtype`; other libraries' arrays come in through DLPack.

        Counts the bytes when that needs a copy.
        """
        try:
            if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
                value = np.from_dlpack(value)
            array = np.asarray(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise BadInput(f"{name} is not an array numpy can see: {error}") from None
        if array.dtype.kind not in "fiub":
            raise BadInput(f"{name} holds {array.dtype}, not real numbers")
        with np.errstate(over="ignore"):
            taken = np.ascontiguousarray(array, dtype=dtype or array.dtype)
        if not (isinstance(value, np.ndarray) and np.shares_memory(taken, value)):
            self.copied += taken.nbytes
        return taken

    def output(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Where a job's result goes: shared memory when other processes or pinned transfers write to it."""
        if any(device.in_shared_memory or isinstance(device, Accelerator) for device in self.devices):
            return shared.allocate(shape, dtype)
        shared.require(shape, dtype)
        return np.empty(shape, dtype)

    def run(self, job: Job) -> Report:
        """Do one job on the devices that are worth it."""
        notes: list[str] = []
        devices = self.able(job, notes)
        if any(device.in_shared_memory for device in devices):
            job.inputs = tuple(self.share(array) for array in job.inputs)
        if self.deterministic:
            kinds = {device.family for device in devices}
            if len(kinds) > 1:
                chosen = "cpu" if "cpu" in kinds else min(kinds)
                devices = [device for device in devices if device.family == chosen]
                notes.append(f"deterministic: only devices of kind {chosen}")
        with one_thread() if self.deterministic else contextlib.nullcontext():
            if self.equal_split:
                rates = [1.0] * len(devices)
            else:
                devices, rates = self.calibration.choose(job, devices, notes.append)
            return self.work(job, devices, rates, notes)

    def work(
        self, job: Job, devices: Sequence[Device], rates: Sequence[float], notes: Sequence[str] = ()
    ) -> Report:
        """Do a job on exactly these devices."""
        report = Run(job, devices, rates, equal=self.equal_split).run()
        report.copied += self.copied
        report.notes[:0] = notes
        self.copied = 0
        self.last = report
        return report

    def able(self, job: Job, notes: list[str]) -> list[Device]:
        """The devices that can take part."""
        here = [device for device in self.devices if device.trusted]
        if here and job.units * job.work < SMALL_WORK and not self.equal_split:
            return here
        able = []
        for device in self.devices:
            why = device.lacks(job)
            if why:
                notes.append(f"{device.name} takes no part: {why}")
            else:
                able.append(device)
        if not able:
            raise ComputeError(f"no device can do {job.kernel} in {job.dtype}: " + "; ".join(notes))
        return able

    def share(self, array: Array) -> Array:
        """The array itself when workers can see it, else a copy in shared memory."""
        if shared.find(array) is not None:
            return array
        copy = shared.allocate(array.shape, array.dtype)
        np.copyto(copy, array)
        self.copied += array.nbytes
        return copy


def one_thread() -> contextlib.AbstractContextManager[object]:
    """BLAS on one thread, in deterministic mode: a product's bits may depend on how it is divided over
    threads.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ComputeError(
            "deterministic mode needs the library threadpoolctl", hint="pip install threadpoolctl"
        ) from None

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1)
    return limits


def engine(
    *,
    workers: Sequence[float] = (),
    gpus: bool = True,
    together: bool = False,
    memory: int | None = None,
    deterministic: bool = False,
    seed: int | None = None,
    checks: float = 1.0,
) -> Engine:
    """An engine on this machine's processor, its GPUs, and worker processes with these shares of a core.

    With `together`, GPUs of one model that torch shows are one device (`nexus.compute.collective`); raises
    ComputeError where there are no two. `memory` bounds the bytes a matrix product may touch at a time on
    each device; larger ones go in tiles. `seed` fixes the random checks; `checks` is the share of jobs on
    data that lies on an accelerator whose results are checked (all others always are).
    """
    devices: list[Device] = [HostDevice(memory)]
    if gpus:
        from nexus.compute.devices.discovery import usable_gpus

        devices += usable_gpus(memory, together)
    devices += [WorkerDevice(n, share, memory) for n, share in enumerate(workers)]
    return Engine(devices, deterministic=deterministic, seed=seed, checks=checks)
