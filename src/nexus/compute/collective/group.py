"""Collective operations of torch.distributed: every rank of a group calls the same ones in the same order.

Ranks find each other through a file in a folder that only this user can enter, and listen on the loopback.
A rank that dies or does not come ends the operation on the others with a RuntimeError: gloo sees the closed
connection, NCCL's watchdog and both of them the time limit.
"""

from __future__ import annotations

import datetime
import importlib
import os
from typing import Any

MEETING = "ranks"
"""The file in the group's folder through which ranks find each other."""


def backend_of(device: str) -> str:
    """The library for collectives between devices of this kind."""
    return "nccl" if device.startswith("cuda") else "gloo"


class Group:
    """Rank `rank` of `size` with one torch device. Raises RuntimeError when the others do not come within
    `seconds`, which limit each operation, too.
    """

    def __init__(self, torch: Any, device: Any, rank: int, size: int, folder: str, seconds: float) -> None:
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ[name] = "lo"
        distributed = importlib.import_module("torch.distributed")
        self.torch = torch
        self.device = device
        self.rank = rank
        self.size = size
        self.collectives = distributed
        backend = backend_of(device.type)
        distributed.init_process_group(
            backend,
            store=distributed.FileStore(os.path.join(folder, MEETING), size),
            rank=rank,
            world_size=size,
            timeout=datetime.timedelta(seconds=seconds),
            device_id=device if backend == "nccl" else None,
        )
        # NCCL connects at the first operation; here, so that who is missing is known before any work.
        self.least(0)

    def broadcast(self, tensor: Any) -> None:
        """Fill a contiguous tensor with rank 0's, of whatever type."""
        self.collectives.broadcast(tensor.view(self.torch.uint8), 0)

    def add_up(self, tensor: Any) -> None:
        """Replace a tensor by its sum over all ranks."""
        self.collectives.all_reduce(tensor)

    def least(self, number: int) -> int:
        """The smallest of the numbers that ranks call this with."""
        one = self.torch.tensor([number], dtype=self.torch.int64, device=self.device)
        self.collectives.all_reduce(one, op=self.collectives.ReduceOp.MIN)
        return int(one)
