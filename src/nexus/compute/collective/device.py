"""A group of GPUs as one device of the scheduler: products only."""

from __future__ import annotations

from nexus.compute import shared
from nexus.compute.collective.processes import Ranks
from nexus.compute.devices.base import Device
from nexus.compute.errors import DeviceLost
from nexus.compute.formats import Array
from nexus.compute.job import Job

LEAST_DEPTH = 64
"""Depth for each rank from which on a product may be split by depth."""


class GroupDevice(Device):
    """`ranks` are its processes. A group that lost one is started again for the next job."""

    kind = "gpu"
    in_shared_memory = True

    def __init__(self, number: int, ranks: Ranks) -> None:
        super().__init__()
        self.name = f"gpus{number}"
        self.ranks = ranks
        self.shares_host = "cpu" in ranks.devices
        self.version = f"torch.distributed, {len(ranks.devices)} ranks on {', '.join(ranks.devices)}"
        self.memory = ranks.memory

    @property
    def family(self) -> str:
        return self.version

    def lacks(self, job: Job) -> str:
        return "" if job.kernel == "matmul" else f"it has no kernel for {job.kernel}"

    def prepare(self, job: Job) -> None:
        self.ranks.start()
        places = [self.place(array) for array in (*job.inputs, job.out)]
        mappings = {place.key: mapping for mapping, place in places}
        rows = [(n, key, len(mapping)) for n, (key, mapping) in enumerate(mappings.items())]
        message = ("job", rows, [place for _, place in places], job.params, job.dtype)
        fds = tuple(mapping.fd for mapping in mappings.values())
        self.ranks.ask([message] * len(self.ranks.devices), fds)

    def place(self, array: Array) -> tuple[shared.Mapping, shared.Place]:
        found = shared.find(array)
        if found is None:
            raise DeviceLost(f"{self.name}: the arrays are not in shared memory")
        return found

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        what = "depth" if self.splits_depth(job, stop - start) else "rows"
        self.copied += sum(self.ranks.ask([(what, start, stop)] * len(self.ranks.devices)))
        return None

    def splits_depth(self, job: Job, rows: int) -> bool:
        """Whether adding up partial products moves less than handing the second operand to every GPU.

        Sums of int8 would be rounded on the way, and an order of additions that depends on the number of GPUs
        is not for deterministic mode.
        """
        depth = len(job.inputs[1])
        exact = job.params["exact"] or job.params["tile"]
        return not exact and depth > rows and depth >= LEAST_DEPTH * len(self.ranks.devices)

    def abandon(self) -> None:
        # Waited for, so that not one more byte of them reaches the output that another device fills now.
        self.ranks.end()

    def close(self) -> None:
        self.ranks.close()
