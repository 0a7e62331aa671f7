"""One node of a cluster as a device of the scheduler.

A chunk travels as the slices of the inputs that it needs, during the work on the one before; what every chunk
needs is sent to a node once (`operands`). Data goes straight between this process and the node.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import platform
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed.protocol import to_serialize

from nexus.compute.chunks import NODE_DEPTH, NODE_GRACE
from nexus.compute.cluster import parts
from nexus.compute.devices.base import Device
from nexus.compute.errors import ComputeError, DeviceLost
from nexus.compute.formats import Array
from nexus.compute.job import Job

if TYPE_CHECKING:
    from nexus.compute.cluster.membership import Membership

SHORTEST = 0.1
"""A message and its answer cost 2 to 20 ms, so a chunk should take longer."""
PATIENCE = 10.0
SLOWEST_LINK = 5e6
"""Bytes per second below which sending the common operands is given up, after PATIENCE seconds."""


class NodeDevice(Device):
    """`address` is dask's of the worker, `found` what `node.describe` told there."""

    shortest = SHORTEST
    depth = NODE_DEPTH
    grace = NODE_GRACE

    def __init__(self, membership: Membership, address: str, number: int, found: dict[str, str]) -> None:
        super().__init__()
        self.membership = membership
        self.address = address
        self.name = f"node{number}"
        self.found = found
        self.version = f"{found['host']}, {found['devices']}, share {found['share']}, numpy {found['numpy']}"
        # Nodes held to a share leave the rest of the processor to the others.
        self.shares_host = found["host"] == platform.node() and found["share"] == "0"
        self.deterministic = False
        self.owner = f"{os.getpid()}-{id(membership)}"
        self.keeps = False
        self.pending: set[concurrent.futures.Future[Any]] = set()
        self.why_lost = ""
        self.suspect = False
        self.kernel_seconds = 0.0

    def lacks(self, job: Job) -> str:
        import cloudpickle

        if self.why_lost:
            return self.why_lost
        try:
            cloudpickle.dumps(job.params)
        except Exception as error:
            # Pickling runs code of whatever the function refers to.
            return f"the function cannot be sent to another machine ({error})"
        return ""

    def prepare(self, job: Job) -> None:
        common = self.membership.common(job)
        self.keeps = bool(common)
        if not common:
            return
        names = [name for name, _ in common]
        missing = set(self.wait(self.keep(names, {}), PATIENCE))
        given = {name: array for name, array in common if name in missing}
        size = sum(array.nbytes for array in given.values())
        if given and self.wait(self.keep(names, given), PATIENCE + size / SLOWEST_LINK):
            raise DeviceLost(f"{self.name} did not keep the operands it was sent")
        self.copied += size

    async def keep(self, names: list[str], given: dict[str, Array]) -> list[str]:
        """Which of these operands, beside those given, the node does not have."""
        arrays = [to_serialize(array) for array in given.values()]
        missing: list[str] = await self.node.nexus_keep(
            owner=self.owner, names=names, given=list(given), arrays=arrays
        )
        return missing

    @property
    def node(self) -> Any:
        """Calls a handler of the node straight, over a connection that dask keeps."""
        return self.membership.client.rpc(self.address)

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        result: Array = self.wait(self.chunk(job, start, stop))
        return result

    async def chunk(self, job: Job, start: int, stop: int) -> Array:
        sliced = [bool(rows) for rows in parts.elements_per_unit(job)]
        own = [np.ascontiguousarray(array) for array in parts.slices(job, start, stop)]
        self.copied += sum(array.nbytes for array in own)
        task = {
            "kernel": job.kernel,
            "sliced": sliced,
            "first": 0 if any(sliced) else start,
            "units": stop - start,
            "params": {**job.params, "memory": self.memory},
            "granule": job.granule,
            "work": job.work,
            "counted": job.counted,
            "dtype": job.dtype,
            "out": job.out.shape[1:],
            "dtype_out": job.out.dtype.str,
            "deterministic": self.deterministic,
        }
        answer = await self.node.nexus_compute(
            owner=self.owner, task=to_serialize(task), arrays=[to_serialize(array) for array in own]
        )
        result, wanted = answer["result"], (stop - start, *job.out.shape[1:])
        if not isinstance(result, np.ndarray) or result.shape != wanted or result.dtype != job.out.dtype:
            raise DeviceLost(f"{self.name} returned something else than units {start} to {stop}")
        self.copied += result.nbytes
        self.kernel_seconds += answer["seconds"]
        return result

    def wait(self, work: Coroutine[Any, Any, Any], patience: float | None = None) -> Any:
        """The result of a coroutine on the client's loop. Raises DeviceLost when the node goes away, is given
        up, or takes longer than `patience` seconds; what a user's function raised there is raised here.
        """
        if self.why_lost:
            work.close()
            raise DeviceLost(f"{self.name}: {self.why_lost}")
        pending = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, patience), self.membership.loop)
        self.pending.add(pending)
        try:
            return self.outcome(pending, patience)
        finally:
            self.pending.discard(pending)

    def outcome(self, pending: concurrent.futures.Future[Any], patience: float | None) -> Any:
        while True:
            try:
                return pending.result(timeout=0.5)
            except concurrent.futures.CancelledError:
                raise DeviceLost(f"{self.name}: {self.why_lost or 'its work was cancelled'}") from None
            except TimeoutError:
                if pending.done():
                    self.suspect = True
                    raise DeviceLost(f"{self.name} did not answer within {patience:g} s") from None
                if self.membership.vanished():
                    self.leave(f"the scheduler at {self.membership.address} went away")
            except OSError as error:
                raise DeviceLost(f"{self.name} cannot be reached: {error}") from None
            except ComputeError:
                raise
            except Exception as error:
                if type(error).__module__.startswith("distributed"):
                    raise DeviceLost(f"{self.name}: {type(error).__name__}: {error}") from None
                raise

    def leave(self, why: str) -> None:
        """The node is gone for good."""
        self.why_lost = why
        self.cancel()

    def abandon(self) -> None:
        self.suspect = True
        self.cancel()

    def cancel(self) -> None:
        for pending in list(self.pending):
            pending.cancel()

    def refuted(self) -> None:
        self.cancel()

    def finish(self, job: Job) -> None:
        if self.keeps:
            self.keeps = False
            self.wait(self.node.nexus_drop(owner=self.owner), PATIENCE)
