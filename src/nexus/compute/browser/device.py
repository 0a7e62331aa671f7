"""One browser as a device of the scheduler: products and point transformations in fp32.

A chunk goes in pieces of a bounded size, one at a time. Nothing that comes back is believed: the job's check
decides, and a browser that it refutes is banned, not just left out of the job.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from nexus.compute.browser import protocol
from nexus.compute.devices.base import Device
from nexus.compute.errors import DeviceLost
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.tiling import steps

if TYPE_CHECKING:
    from nexus.compute.browser.lobby import Connection

SHORTEST = 0.1
PATIENCE = 60.0
"""Seconds that one piece may take. The scheduler gives a late device up sooner when another is idle."""


class BrowserDevice(Device):
    """`limit` is the largest buffer that the browser's GPU says it has. `accepted` counts verified chunks."""

    kind = "gpu"
    shortest = SHORTEST

    def __init__(self, connection: Connection, name: str, adapter: str, limit: int, here: bool) -> None:
        super().__init__()
        self.connection = connection
        self.name = name
        self.version = f"browser, {adapter}"
        self.shares_host = here
        self.limit = limit
        self.number = 0
        self.job = 0
        self.kept: Array | None = None
        self.accepted = 0
        self.rows = 0
        self.flops = 0.0
        self.unsettled: tuple[int, float] | None = None
        self.answer: object = None
        self.answered = threading.Event()

    def lacks(self, job: Job) -> str:
        if self.connection.why_closed:
            return self.connection.why_closed
        if job.kernel not in ("matmul", "transform"):
            return f"a browser has no kernel for {job.kernel}"
        if job.params.get("exact"):
            return "sums of int8 products are not exact in fp32"
        depth, columns = self.second(job).shape
        if 4 * depth * columns > min(self.limit, protocol.KEEP_LIMIT):
            return f"an operand of {depth} by {columns} does not fit into its buffers"
        if 4 * max(depth, columns) > min(self.limit, protocol.PIECE):
            return f"a row of {max(depth, columns)} numbers does not fit into a message"
        return ""

    def second(self, job: Job) -> Array:
        """The operand that every row is multiplied with."""
        turned: Array = job.inputs[1].T if job.kernel == "transform" else job.inputs[1]
        return turned

    def prepare(self, job: Job) -> None:
        if self.kept is not job.inputs[1]:
            self.job += 1
            self.send(protocol.frame(protocol.KEEP, self.job, self.second(job)))
            self.kept = job.inputs[1]
            self.copied += self.kept.nbytes

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        self.settle()
        a, columns = job.inputs[0], self.second(job).shape[1]
        out = np.empty((stop - start, columns), np.float32)
        at_once = max(1, min(protocol.PIECE, self.limit) // (4 * max(a.shape[1], columns)))
        for low, high in steps(start, stop, at_once):
            out[low - start : high - start] = self.piece(a[low:high], columns)
        if job.params.get("scale", 1.0) != 1.0:
            out *= np.float32(job.params["scale"])
        self.unsettled = stop - start, (stop - start) * job.work
        return out

    def piece(self, rows: Array, columns: int) -> Array:
        """`rows` times the operand that was sent. Raises DeviceLost."""
        self.number += 1
        self.answered.clear()
        self.answer = None
        self.connection.expect(self, self.number, len(rows), columns)
        self.send(protocol.frame(protocol.CHUNK, self.number, rows))
        self.copied += rows.nbytes + 4 * len(rows) * columns
        if not self.answered.wait(PATIENCE):
            self.connection.end(f"no result within {PATIENCE:g} s")
        if not isinstance(self.answer, np.ndarray):
            why = self.answer or self.connection.why_closed or "it was given up"
            raise DeviceLost(f"{self.name}: {why}")
        return self.answer

    def send(self, data: bytes | dict[str, Any]) -> None:
        if self.connection.why_closed:
            raise DeviceLost(f"{self.name}: {self.connection.why_closed}")
        self.connection.send(data)

    def settle(self) -> None:
        """The last chunk was not refuted: count it and tell the browser."""
        if self.unsettled is not None:
            rows, flops = self.unsettled
            self.unsettled = None
            self.accepted += 1
            self.rows += rows
            self.flops += flops
            self.connection.send(
                {"type": "progress", "chunks": self.accepted, "rows": self.rows, "flops": self.flops}
            )

    def finish(self, job: Job) -> None:
        self.settle()

    def refuted(self) -> None:
        self.unsettled = None
        self.connection.end(f"banned: a wrong result after {self.accepted} right ones", banned=True)

    def abandon(self) -> None:
        self.connection.end("it answered too late")

    def close(self) -> None:
        self.kept = None
