"""The program on each machine of a cluster, and the function that computes a chunk there.

    python -m nexus.compute.cluster.node ADDRESS [--host HOST] [--keys FOLDER] [--share SHARE] [--gpus]

It ends when its scheduler goes away, or by SIGTERM. `describe` also works in a plain `dask worker` whose
Python has nexus: it makes the local engine on first use.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from distributed.protocol import to_serialize

from nexus.base.errors import NexusError
from nexus.compute.calibration import Calibration
from nexus.compute.cluster.identity import about
from nexus.compute.cluster.operands import Operands
from nexus.compute.devices.base import Device
from nexus.compute.devices.host import HostDevice
from nexus.compute.devices.share import held_to
from nexus.compute.engine import Engine
from nexus.compute.errors import DeviceLost
from nexus.compute.formats import Array
from nexus.compute.job import Job

STARTING = 30
"""Seconds to reach the scheduler."""


class Settings:
    """What this node computes with: `share` of a core, or all of the machine when it is 0."""

    def __init__(self, share: float = 0.0, gpus: bool = False) -> None:
        self.share = share
        self.gpus = gpus


class SharedHost(HostDevice):
    """This process's processor held to a share of one core."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        with held_to(self.share):
            return super().run(job, start, stop)


class Local:
    """The engine of this process, made on first use; it does one chunk at a time, in `pool`."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.engine: Engine | None = None
        self.pool = ThreadPoolExecutor(1, "nexus-chunk")
        self.operands = Operands()

    def get(self) -> Engine:
        if self.engine is None:
            share = self.settings.share
            devices: list[Device] = [SharedHost(share) if share else HostDevice()]
            if self.settings.gpus:
                from nexus.compute.devices.discovery import usable_gpus

                devices += usable_gpus(None)
            self.engine = Engine(devices, calibration=Calibration("") if share else None)
        return self.engine


LOCAL = Local()


def describe(dask_worker: Any) -> dict[str, str]:
    """What this node is; run on it by an engine that wants to use it, whose messages it answers from then
    on.
    """
    dask_worker.handlers.update({"nexus_keep": keep, "nexus_drop": drop, "nexus_compute": answer})
    devices = ", ".join(device.name for device in LOCAL.get().devices)
    return {**about(), "share": f"{LOCAL.settings.share:g}", "devices": devices}


async def keep(owner: str, names: list[str], given: list[str], arrays: list[Array]) -> list[str]:
    """Hold the operands that every chunk of an engine's job needs, until it drops them or names others; the
    names of those it has to send.
    """
    return LOCAL.operands.keep(owner, names, dict(zip(given, arrays, strict=True)))


async def drop(owner: str) -> None:
    LOCAL.operands.drop(owner)


async def answer(owner: str, task: dict[str, Any], arrays: list[Array]) -> dict[str, Any]:
    """Compute a chunk; an exception of the user's function goes back as it is."""
    loop = asyncio.get_running_loop()
    inputs = merged(LOCAL.operands.of(owner), arrays, task["sliced"])
    result, seconds = await loop.run_in_executor(LOCAL.pool, compute, task, inputs)
    return {"result": to_serialize(result), "seconds": seconds}


def merged(kept: Sequence[Array], own: Sequence[Array], sliced: Sequence[bool]) -> list[Array]:
    """The inputs in order: the chunk's `own` parts where `sliced`, else those `kept`. Raises DeviceLost."""
    if len(own) != sum(sliced) or len(kept) != len(sliced) - len(own):
        raise DeviceLost("the node no longer has the operands of this job")
    mine, common = iter(own), iter(kept)
    return [next(mine) if part else next(common) for part in sliced]


def compute(task: dict[str, Any], inputs: Sequence[Array]) -> tuple[Array, float]:
    """Units `first` to `first + units` of a job on this node's devices, and the seconds it took.

    `inputs` are the job's, or the parts of them that these units need. The task's `out` is the shape of the
    output they index, without its first side.
    """
    engine = LOCAL.get()
    engine.deterministic = task["deterministic"]
    first, units = task["first"], task["units"]
    out = engine.output((first + units, *task["out"]), np.dtype(task["dtype_out"]))
    job = Job(
        task["kernel"],
        units,
        tuple(inputs),
        out,
        task["params"],
        granule=task["granule"],
        work=task["work"],
        counted=task["counted"],
        dtype=task["dtype"],
        first=first,
    )
    report = engine.run(job)
    return out[first:], report.seconds


async def serve(address: str, host: str, keys: str | None) -> None:
    """Be a node of the cluster at `address` until its scheduler goes away or a signal comes."""
    import dask
    from distributed import Worker

    from nexus.compute.cluster.keys import check_address, check_host, security

    dask.config.set({"distributed.worker.daemon": False})
    with tempfile.TemporaryDirectory(prefix="nexus-node-") as scratch:
        worker = Worker(
            check_address(address, keys),
            nthreads=1,
            host=check_host(host, keys),
            security=security(keys) or {},
            local_directory=scratch,
            dashboard=False,
            dashboard_address="127.0.0.1:0",
            death_timeout=STARTING,
            memory_limit="auto",
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(worker.close(reason="signal")))
        async with worker:
            print(f"nexus: a node of {address} at {worker.address}", file=sys.stderr, flush=True)
            await worker.finished()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nexus.compute.cluster.node")
    parser.add_argument("address")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--keys")
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--gpus", action="store_true")
    given = parser.parse_args(arguments)
    return run_node(given.address, given.host, given.keys, Settings(given.share, given.gpus))


def run_node(address: str, host: str, keys: str | None, settings: Settings) -> int:
    """Be a node until the cluster ends; the exit code is 0 then, and 125 when it cannot be reached."""
    from nexus.compute.cluster.quiet import quiet

    quiet()
    LOCAL.settings = settings
    try:
        asyncio.run(serve(address, host, keys))
    except (OSError, TimeoutError) as error:
        print(f"nexus: the scheduler at {address} cannot be reached: {error}", file=sys.stderr)
        return 125
    except NexusError as error:
        print(f"nexus: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    # So that the scheduler's messages find this module under its own name, with these settings.
    from nexus.compute.cluster import node

    code = node.main()
    sys.stderr.flush()
    os._exit(code)
