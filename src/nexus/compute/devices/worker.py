"""A worker process as a device: one core's worth of numpy, held to a share of processor time.

Inputs and outputs are shared memory. The share makes devices of different speed out of one machine: a chunk
that used t seconds of processor time takes at least t / share. A worker that dies is started again for the
next job.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import zlib
from typing import Any

import numpy as np

from nexus.compute import shared
from nexus.compute.devices import channel
from nexus.compute.devices.base import Device
from nexus.compute.errors import BadInput, ComputeError, DeviceLost, OutOfDeviceMemory
from nexus.compute.formats import Array
from nexus.compute.job import Job


class WorkerDevice(Device):
    """`share` is the part of one core's time it may use, above 0 and at most 1."""

    version = f"numpy {np.__version__}, one thread"
    in_shared_memory = True

    def __init__(self, number: int, share: float = 1.0, memory: int | None = None) -> None:
        super().__init__()
        if not 0.01 <= share <= 1.0:
            raise BadInput(f"a worker's share of a core is between 0.01 and 1, not {share}")
        self.name = f"worker{number}"
        self.share = share
        self.memory = memory
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket | None = None
        self.starting = threading.Lock()

    def lacks(self, job: Job) -> str:
        try:
            pickle.dumps(job.params)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            return f"the function cannot be sent to another process ({error})"
        return ""

    def prepare(self, job: Job) -> None:
        self.start()
        found = {}
        for array in (*job.inputs, job.out):
            place = shared.find(array)
            if place is None:
                raise DeviceLost(f"{self.name}: the arrays are not in shared memory")
            found[place[0].key] = place[0]
        rows = [(n, key, len(mapping)) for n, (key, mapping) in enumerate(found.items())]
        self.ask(("map", rows), tuple(mapping.fd for mapping in found.values()))

    def start(self) -> None:
        """Start the process unless it is there."""
        with self.starting:
            if self.process is not None and self.process.poll() is None:
                return
            self.close()
            ours, theirs = socket.socketpair()
            with theirs:
                threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
                path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
                self.process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "nexus.compute.devices.worker_main",
                        str(theirs.fileno()),
                        str(self.share),
                    ],
                    env={**os.environ, **threads, "PYTHONPATH": path},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            self.link = ours

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        inputs = [self.place(array) for array in job.inputs]
        params = {**job.params, "memory": self.memory}
        digest = self.ask(("run", job.kernel, params, inputs, self.place(job.out), start, stop))
        part = np.ascontiguousarray(job.out[start:stop])
        if zlib.crc32(part.data.cast("B")) != digest:
            raise DeviceLost(f"{self.name}: units {start} to {stop} arrived changed (checksum)")
        return None

    def place(self, array: Array) -> shared.Place:
        found = shared.find(array)
        if found is None:
            raise DeviceLost(f"{self.name}: the arrays are not in shared memory")
        return found[1]

    def ask(self, message: tuple[Any, ...], fds: tuple[int, ...] = ()) -> object:
        """Send a request and wait for its answer."""
        link = self.link
        if link is None:
            raise DeviceLost(f"{self.name} is not running")
        try:
            channel.send(link, message, fds)
            (what, value), _ = channel.receive(link)
        except (OSError, EOFError) as error:
            self.close()
            raise DeviceLost(f"{self.name} went away ({error})") from None
        if what == "memory":
            raise OutOfDeviceMemory(f"{self.name}: {value}")
        if what == "raised":
            raise ComputeError(f"{self.name}: {value}")
        return value

    def abandon(self) -> None:
        # Waited for, so that not one more byte of it reaches the output that another device fills now.
        self.end()

    def close(self) -> None:
        self.end()
        self.process = None
        link, self.link = self.link, None
        if link is not None:
            link.close()

    def end(self) -> None:
        process = self.process
        if process is not None:
            process.kill()
            process.wait()
