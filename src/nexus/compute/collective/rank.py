"""The program of one rank: it maps the engine's arrays and does its part of every chunk of a product.

Started as `python -m nexus.compute.collective.rank FD`; requests and answers travel by `devices.channel`.
While it works it says every BEAT seconds that it does. It ends when the engine's end of the socket closes.
"""

from __future__ import annotations

import importlib
import mmap
import os
import signal
import socket
import sys
import threading
from typing import Any

from nexus.compute import shared
from nexus.compute.cluster.identity import sources
from nexus.compute.collective.group import Group, backend_of
from nexus.compute.devices import channel
from nexus.compute.devices.accelerator import PART_OF_FREE, Accelerator
from nexus.compute.devices.torch_library import TorchLibrary
from nexus.compute.errors import DeviceLost, OutOfDeviceMemory
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.tiling import steps, tile_sizes

BEAT = 0.5
PART_FOR_WHOLE = 0.5
"""How much of the free memory a second operand may take to be broadcast as a whole."""


def about(torch: Any) -> dict[str, str]:
    """What must be equal in all ranks, and in the engine for `sources`."""
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else "none"
    return {
        "sources": sources(),
        "python": "{}.{}.{}".format(*sys.version_info),
        "torch": str(torch.__version__),
        "nccl": nccl,
    }


class Rank:
    """What the engine asked for so far: the group, the job, its mapped arrays by key."""

    def __init__(self, link: socket.socket, torch: Any) -> None:
        self.link = link
        self.torch = torch
        self.sending = threading.Lock()
        self.working = threading.Event()
        self.mapped: dict[int, mmap.mmap] = {}
        self.group: Group
        self.library: TorchLibrary
        self.accelerator: Accelerator
        self.job: Job
        self.received = False

    def serve(self) -> None:
        self.send(("about", about(self.torch)))
        threading.Thread(target=self.beat, daemon=True).start()
        while True:
            try:
                message, fds = channel.receive(self.link)
            except (EOFError, ConnectionResetError):
                return
            self.working.set()
            try:
                answer = self.answer(message, fds)
            except (OutOfDeviceMemory, MemoryError) as error:
                answer = ("memory", str(error) or "out of memory")
            except (DeviceLost, RuntimeError) as error:
                answer = ("lost", str(error))
            except Exception as error:
                answer = ("raised", f"{type(error).__name__}: {error}")
            finally:
                for fd in fds:
                    os.close(fd)
            self.working.clear()
            self.send(answer)

    def send(self, message: tuple[str, object]) -> None:
        with self.sending:
            channel.send(self.link, message)

    def beat(self) -> None:
        pause = threading.Event()
        while True:
            self.working.wait()
            pause.wait(BEAT)
            if self.working.is_set():
                try:
                    self.send(("working", None))
                except OSError:
                    return

    def answer(self, message: tuple[Any, ...], fds: list[int]) -> tuple[str, object]:
        what, *rest = message
        if what == "join":
            self.join(*rest)
        elif what == "job":
            self.begin(fds, *rest)
        else:
            before = self.accelerator.copied
            self.by_depth(*rest) if what == "depth" else self.by_rows(*rest)
            return "done", self.accelerator.copied - before
        return "done", 0

    def join(
        self, device: str, rank: int, size: int, folder: str, seconds: float, memory: int | None
    ) -> None:
        library = TorchLibrary(self.torch, device)
        if backend_of(device) == "nccl":
            self.torch.cuda.set_device(library.device)
        self.library, self.accelerator = library, Accelerator(library, rank, memory=memory)
        self.group = Group(self.torch, library.device, rank, size, folder, seconds)

    def begin(
        self, fds: list[int], rows: list[tuple[int, int, int]], places: list[shared.Place],
        params: dict[str, Any], dtype: str,
    ) -> None:  # fmt: skip
        """Map the two operands and the output of a product."""
        self.mapped = {key: self.mapped.get(key) or shared.attach(fds[n], size) for n, key, size in rows}
        a, b, out = (shared.view(self.mapped[place.key], place) for place in places)
        self.job = Job("matmul", len(a), (a, b), out, params, dtype=dtype)
        self.accelerator.kept, self.received = None, False
        self.accelerator.prepare(self.job)

    def by_rows(self, start: int, stop: int) -> None:
        """This rank's share of some rows of the product, with all of the second operand."""
        with self.accelerator.told():
            self.receive(self.job.inputs[1])
        low, high = self.part(start, stop, self.job.params["tile"] or 1)
        if high > low:
            self.accelerator.run(self.job, low, high)

    def receive(self, b: Array) -> None:
        """The second operand in the units' format, from rank 0, once for each job.

        Where it fits on some devices only, every rank takes what it needs from this machine's memory instead.
        """
        accelerator, library = self.accelerator, self.library
        if self.received:
            return
        self.received = True
        room = min(accelerator.memory or sys.maxsize, int(library.free_memory() * PART_FOR_WHOLE))
        if self.group.least(room) < b.nbytes:
            return
        units = library.units(self.job.dtype)
        if self.group.rank == 0:
            whole = library.upload(b).to(library.types[units])
            accelerator.copied += b.nbytes
        else:
            whole = library.empty(b.shape, units)
        self.group.broadcast(whole)
        accelerator.kept = (b, whole)

    def part(self, start: int, stop: int, granule: int = 1) -> tuple[int, int]:
        """This rank's share of a range, in multiples of `granule` from its start."""
        granules = -(-(stop - start) // granule)
        low, high = (
            min(stop, start + granules * rank // self.group.size * granule)
            for rank in (self.group.rank, self.group.rank + 1)
        )
        return low, high

    def by_depth(self, start: int, stop: int) -> None:
        """This rank's share of the depth of some rows, added up over all ranks; it delivers its rows."""
        accelerator, library, (a, b) = self.accelerator, self.library, self.job.inputs
        units, scale = library.units(self.job.dtype), self.job.params["scale"]
        with accelerator.told():
            near, far = self.part(0, len(b))
            # The same tiles on every rank: they add up tile by tile.
            room = min(accelerator.memory or sys.maxsize, int(library.free_memory() * PART_OF_FREE))
            sides = (stop - start, b.shape[1], -(-len(b) // self.group.size))
            rows, columns, _ = tile_sizes(*sides, self.group.least(room) // 2)
            for top, bottom in steps(start, stop, rows):
                x = accelerator.part(a[:, near:far], top, bottom)
                for left, right in steps(0, b.shape[1], columns):
                    total = library.multiply(
                        x, accelerator.part(b[:, left:right], near, far), units, scale
                    ).contiguous()
                    self.group.add_up(total)
                    low, high = self.part(top, bottom)
                    accelerator.land(self.job, total[low - top : high - top], low, high, left, right)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Rank(socket.socket(fileno=int(sys.argv[1])), importlib.import_module("torch")).serve()
    sys.stderr.flush()
    # Leaving a group whose other ranks are gone may wait for them.
    os._exit(0)


if __name__ == "__main__":
    main()
