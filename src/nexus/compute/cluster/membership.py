"""The nodes of a cluster: found, checked to be of our version, watched until they go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import urlsplit

from nexus.compute.cluster import parts
from nexus.compute.cluster.device import NodeDevice
from nexus.compute.cluster.identity import about, differences
from nexus.compute.cluster.keys import check_address, security
from nexus.compute.cluster.node import describe
from nexus.compute.cluster.operands import name_of
from nexus.compute.cluster.quiet import quiet
from nexus.compute.errors import ComputeError
from nexus.compute.formats import Array
from nexus.compute.job import Job

REACH = 10.0
"""Seconds until a scheduler or a node that does not answer is given up."""
PROBE = 2.0
"""Seconds that a node which was given up once gets to show that it is there."""
START = 60.0
"""Seconds until a node started here must have joined."""
ABSENT = 5.0
"""Seconds without a scheduler until it counts as gone."""


class Membership:
    """A connection to the scheduler at `address` and a NodeDevice for each worker that may take part."""

    def __init__(self, address: str, keys: str | None = None) -> None:
        quiet()
        from distributed import Client

        self.address = check_address(address, keys)
        where = urlsplit(self.address)
        try:
            socket.create_connection((where.hostname, where.port), REACH).close()
            self.client: Any = Client(
                self.address, security=security(keys), timeout=REACH, set_as_default=False
            )
        except (OSError, TimeoutError) as error:
            reason = str(error) or "no answer"
            raise ComputeError(
                f"the scheduler at {self.address} cannot be reached: {reason}",
                hint="nexus compute cluster scheduler starts one"
                + ("" if keys else ", perhaps it wants --keys"),
            ) from None
        self.loop: asyncio.AbstractEventLoop = self.client.loop.asyncio_loop
        self.nodes: dict[str, NodeDevice] = {}
        self.refused: dict[str, str] = {}
        self.absent_since = 0.0
        self.count = 0
        self.named: tuple[Job | None, list[str]] = (None, [])
        self.client.subscribe_topic("all", self.heard)

    def heard(self, event: tuple[float, Any]) -> None:
        """An event of the scheduler. Its time stamp is that machine's clock and not looked at."""
        message = event[1]
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            node = self.nodes.pop(str(message.get("worker")), None)
            if node is not None:
                node.leave("it left the cluster")

    def vanished(self) -> bool:
        """Whether the scheduler has been gone for ABSENT seconds."""
        if self.client.status == "running":
            self.absent_since = 0.0
            return False
        self.absent_since = self.absent_since or time.monotonic()
        return self.client.status == "closed" or time.monotonic() - self.absent_since > ABSENT

    def ask(self, work: Coroutine[Any, Any, Any], patience: float = REACH) -> Any:
        """Run a coroutine on the client's loop. Raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, patience), self.loop).result()

    def refresh(self) -> list[NodeDevice]:
        """The nodes that are there now. Raises ComputeError when the scheduler is gone or none may take
        part.
        """
        patience = REACH if self.client.status == "running" else PROBE
        try:
            info = self.ask(self.client.scheduler.identity(n_workers=-1), patience)
        except (OSError, TimeoutError) as error:
            reason = f": {error}" if str(error) else ""
            raise ComputeError(f"the scheduler at {self.address} went away{reason}") from None
        there = set(info["workers"])
        for address in list(self.nodes):
            node = self.nodes[address]
            if address not in there or node.why_lost:
                node.leave("it left the cluster")
                del self.nodes[address]
        new = [
            address for address in sorted(there) if address not in self.nodes and address not in self.refused
        ]
        for address, found in zip(new, self.descriptions(new), strict=True):
            self.admit(address, found)
        for node in self.nodes.values():
            if node.suspect:
                node.suspect = isinstance(self.descriptions([node.address], PROBE)[0], Exception)
        usable = [node for node in self.nodes.values() if not node.suspect]
        if not usable:
            reasons = [f"{address}: {why}" for address, why in self.refused.items()]
            reasons += [f"{node.name} does not answer" for node in self.nodes.values()]
            raise ComputeError(
                f"the cluster at {self.address} has no node that can take part"
                + "".join(f"\n  {reason}" for reason in reasons),
                hint=f"start one: nexus compute cluster node {self.address}",
            )
        return usable

    def descriptions(self, addresses: Sequence[str], patience: float = REACH) -> list[Any]:
        """What each node tells of itself, or the exception that asking it ended with."""

        async def one(address: str) -> Any:
            work = self.client.run(describe, workers=[address], asynchronous=True)
            return (await asyncio.wait_for(work, patience))[address]

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*map(one, addresses), return_exceptions=True)

        return list(self.ask(all_of_them(), patience + REACH)) if addresses else []

    def admit(self, address: str, found: Any) -> None:
        if isinstance(found, TimeoutError):
            return  # Not refused: it may answer at the next job.
        if isinstance(found, ImportError):
            self.refused[address] = f"it lacks a library that a node needs ({found})"
        elif not isinstance(found, dict):
            self.refused[address] = f"it cannot tell what it is ({type(found).__name__}: {found})"
        elif different := differences(about(), found):
            self.refused[address] = f"it differs from this engine: {different}"
        else:
            self.nodes[address] = NodeDevice(self, address, self.count, found)
            self.count += 1

    def announce(self, job: Job) -> None:
        """Name the operands that every chunk of a job needs: once for all nodes, and anew for each run, since
        what a job refers to may have changed since its last.
        """
        self.named = (job, [name_of(array) for array in parts.whole(job)])

    def common(self, job: Job) -> list[tuple[str, Array]]:
        """The operands that every chunk of a job needs, with their names."""
        arrays, (named, names) = parts.whole(job), self.named
        if named is not job:
            names = [name_of(array) for array in arrays]
        return list(zip(names, arrays, strict=True))

    def wait_for(self, count: int, processes: Sequence[NodeProcess]) -> None:
        """Wait until `count` nodes have joined. Raises ComputeError when one of `processes` ended instead."""
        end = time.monotonic() + START
        while len(self.ask(self.client.scheduler.identity(n_workers=-1))["workers"]) < count:
            for process in processes:
                if process.process.poll() is not None:
                    raise ComputeError(f"a node ended while starting: {process.said()}")
            if time.monotonic() > end:
                raise ComputeError(f"{count} nodes did not join within {START:g} s")
            time.sleep(0.05)

    def close(self) -> None:
        for node in self.nodes.values():
            node.leave("the engine was closed")
        self.nodes.clear()
        with contextlib.suppress(TimeoutError, OSError):
            self.client.unsubscribe_topic("all")
        with contextlib.suppress(TimeoutError, OSError):
            self.client.close(timeout=PROBE)


class NodeProcess:
    """A node started on this machine."""

    def __init__(self, address: str, share: float, keys: str | None = None) -> None:
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 closed with the process
        environment = dict(os.environ)
        if share:
            environment.update(
                dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            )
        environment["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        command = [sys.executable, "-m", "nexus.compute.cluster.node", address, "--share", f"{share:g}"]
        self.process = subprocess.Popen(
            command + (["--keys", keys] if keys else []),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
        )

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read().decode(errors="replace").strip()[-500:] or "it said nothing"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.output.close()
