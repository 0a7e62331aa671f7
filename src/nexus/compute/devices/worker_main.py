"""The worker process: maps the engine's arrays, runs kernels on them, keeps to its share of processor time.

Started as `python -m nexus.compute.devices.worker_main FD SHARE`. It ends when the engine's end of the
socket closes.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import sys
import zlib
from typing import Any

import numpy as np

from nexus.compute import shared
from nexus.compute.devices import channel
from nexus.compute.devices.share import held_to
from nexus.compute.kernels import KERNELS


class Worker:
    """What one engine asked for so far: its mapped arrays by key."""

    def __init__(self, link: socket.socket, share: float) -> None:
        self.link = link
        self.share = share
        self.mapped: dict[int, mmap.mmap] = {}

    def serve(self) -> None:
        while True:
            try:
                message, fds = channel.receive(self.link)
            except (EOFError, ConnectionResetError):
                return
            try:
                answer = self.answer(message, fds)
            except MemoryError as error:
                answer = ("memory", str(error) or "out of memory")
            except Exception as error:
                answer = ("raised", f"{type(error).__name__}: {error}")
            finally:
                for fd in fds:
                    os.close(fd)
            channel.send(self.link, answer)

    def answer(self, message: tuple[Any, ...], fds: list[int]) -> tuple[str, object]:
        if message[0] == "map":
            self.mapped = {
                key: self.mapped.get(key) or shared.attach(fds[n], size) for n, key, size in message[1]
            }
            return "mapped", os.getpid()
        _, kernel, params, inputs, out, start, stop = message
        arrays = [shared.view(self.mapped[place.key], place) for place in inputs]
        target = shared.view(self.mapped[out.key], out)
        with held_to(self.share):
            KERNELS[kernel](params, arrays, start, stop, target)
        return "done", zlib.crc32(np.ascontiguousarray(target[start:stop]).data.cast("B"))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Worker(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
