"""The processes of a group: started, compared, asked all together, and ended all together when one fails."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

from nexus.compute.cluster.identity import sources
from nexus.compute.devices import channel
from nexus.compute.errors import ComputeError, DeviceLost, OutOfDeviceMemory

PROGRAM = (sys.executable, "-m", "nexus.compute.collective.rank")
START = 120.0
"""Seconds until a rank must have loaded torch."""
PATIENCE = 30.0
"""Seconds without a word from a working rank until the group is given up."""
LAST_WORDS = 1.0
"""Seconds in which a rank whose neighbour failed may turn out to have ended itself."""


class Ranks:
    """One process for each torch device. `seconds` limits each collective operation; `program` is what a rank
    runs.
    """

    def __init__(
        self, devices: Sequence[str], memory: int | None = None, *, seconds: float = PATIENCE,
        patience: float = PATIENCE, program: Sequence[str] = PROGRAM,
    ) -> None:  # fmt: skip
        self.devices = list(devices)
        self.memory = memory
        self.seconds = seconds
        self.patience = patience
        self.program = list(program)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.links: list[socket.socket] = []
        self.starting = threading.Lock()

    def start(self) -> None:
        """Start the group unless all of it is there. Raises DeviceLost."""
        with self.starting:
            if self.processes and all(process.poll() is None for process in self.processes):
                return
            self.close()
            for _ in self.devices:
                self.spawn()
            self.compare(self.answers("about", START))
            with tempfile.TemporaryDirectory(prefix="nexus-ranks-") as folder:
                self.ask(
                    [
                        ("join", device, n, len(self.devices), folder, self.seconds, self.memory)
                        for n, device in enumerate(self.devices)
                    ]
                )

    def spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            self.processes.append(
                subprocess.Popen(
                    [*self.program, str(theirs.fileno())],
                    env={**os.environ, "PYTHONPATH": path},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            )
        self.links.append(ours)

    def compare(self, found: Sequence[Any]) -> None:
        """Raises DeviceLost when ranks are not of this engine's sources or differ from each other."""
        wanted = {**found[0], "sources": sources()}
        for n, told in enumerate(found):
            different = [
                f"{name} {told.get(name, 'missing')} and not {wanted[name]}"
                for name in wanted
                if told.get(name) != wanted[name]
            ]
            if different:
                self.close()
                raise DeviceLost(f"gpus: rank {n} has {', '.join(different)}")

    def ask(self, messages: Sequence[tuple[Any, ...]], fds: tuple[int, ...] = ()) -> list[Any]:
        """Send one request to each rank and wait for all answers. Any failure ends all processes, because
        what the others wait for will not come. Raises DeviceLost, OutOfDeviceMemory, ComputeError.
        """
        for n, (link, message) in enumerate(zip(self.links, messages, strict=True)):
            link.settimeout(self.patience)
            try:
                channel.send(link, message, fds)
            except OSError as error:
                self.fail(n, f"went away ({error})")
        return self.answers("done", self.patience)

    def answers(self, wanted: str, patience: float) -> list[Any]:
        """What each rank answers, in order; `patience` in seconds without any word from one."""
        found: dict[int, Any] = {}
        heard = [time.monotonic()] * len(self.links)
        while len(found) < len(self.links):
            missing = [n for n in range(len(self.links)) if n not in found]
            silent = min(missing, key=lambda n: heard[n])
            left = heard[silent] + patience - time.monotonic()
            if left <= 0:
                self.fail(silent, f"did not answer within {patience:g} s")
            ready, _, _ = select.select([self.links[n] for n in missing], [], [], left)
            for n in missing:
                if self.links[n] not in ready:
                    continue
                heard[n] = time.monotonic()
                try:
                    (what, value), _ = channel.receive(self.links[n])
                except (OSError, EOFError) as error:
                    self.fail(n, f"went away ({error})")
                if what == wanted:
                    found[n] = value
                elif what != "working":
                    self.refuse(n, what, str(value))
        return [found[n] for n in sorted(found)]

    def refuse(self, n: int, what: str, why: str) -> None:
        """A rank failed; one that ended is the likelier cause than one that lost the connection to it."""
        end = time.monotonic() + LAST_WORDS
        gone = None
        while gone is None and what == "lost" and time.monotonic() < end:
            gone = next((m for m, process in enumerate(self.processes) if process.poll() is not None), None)
            select.select([], [], [], LAST_WORDS / 20)
        if gone is not None:
            self.fail(gone, f"went away, and rank {n} says: {why}")
        self.close()
        kind = {"memory": OutOfDeviceMemory, "lost": DeviceLost}.get(what, ComputeError)
        raise kind(f"gpus: rank {n}: {why}")

    def fail(self, n: int, why: str) -> None:
        self.close()
        raise DeviceLost(f"gpus: rank {n} {why}")

    def end(self) -> None:
        """Kill every process; whoever waits for an answer is told that they went away."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def close(self) -> None:
        self.end()
        self.processes.clear()
        for link in self.links:
            link.close()
        self.links.clear()
