"""An engine whose devices are the nodes of a cluster, and browsers that joined it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nexus.compute.calibration import Calibration
from nexus.compute.cluster.membership import Membership, NodeProcess
from nexus.compute.cluster.quiet import quiet
from nexus.compute.devices.base import Device
from nexus.compute.devices.host import HostDevice
from nexus.compute.engine import SMALL_WORK, Engine, one_thread
from nexus.compute.errors import BadInput
from nexus.compute.job import Job
from nexus.compute.report import Report

if TYPE_CHECKING:
    from nexus.compute.browser.lobby import Lobby


class ClusterEngine(Engine):
    """Like Engine; its devices are found anew for every job. Small jobs stay in this process, which otherwise
    takes part only when `here`. `browsers` are those that have joined a lobby by then.
    """

    def __init__(
        self, membership: Membership, *, here: bool = False, deterministic: bool = False,
        seed: int | None = None, calibration: Calibration | None = None, equal_split: bool = False,
        browsers: Lobby | None = None,
    ) -> None:  # fmt: skip
        self.host = HostDevice()
        super().__init__(
            [self.host],
            deterministic=deterministic,
            seed=seed,
            calibration=calibration,
            equal_split=equal_split,
        )
        self.membership = membership
        self.here = here
        self.browsers = browsers
        self.owned = contextlib.ExitStack()
        self.processes: list[NodeProcess] = []

    def run(self, job: Job) -> Report:
        self.devices = [self.host]
        if job.units * job.work >= SMALL_WORK or self.equal_split:
            nodes = self.membership.refresh()
            self.membership.announce(job)
            for node in nodes:
                node.deterministic = self.deterministic
            joined = self.browsers.devices() if self.browsers is not None else []
            self.devices = [*([self.host] if self.here else []), *nodes, *joined]
        # This process only checks results then: threads of BLAS would take the processor from local nodes.
        with contextlib.nullcontext() if self.host in self.devices else one_thread():
            try:
                return super().run(job)
            finally:
                self.membership.named = (None, [])

    def able(self, job: Job, notes: list[str]) -> list[Device]:
        notes += [f"{address} was refused: {why}" for address, why in self.membership.refused.items()]
        return super().able(job, notes)

    def start_nodes(self, shares: Sequence[float]) -> list[NodeProcess]:
        """Start nodes on this machine with these shares of a core (0: all of the machine) and wait for
        them.
        """
        started = [NodeProcess(self.membership.address, share) for share in shares]
        for process in started:
            self.owned.callback(process.close)
        self.processes += started
        self.membership.wait_for(len(self.processes), self.processes)
        return started

    def close(self) -> None:
        super().close()
        self.membership.close()
        self.owned.close()


def cluster(
    address: str | None = None,
    *,
    keys: str | None = None,
    nodes: int | Sequence[float] = 2,
    here: bool = False,
    deterministic: bool = False,
    seed: int | None = None,
    browsers: Lobby | None = None,
) -> ClusterEngine:
    """An engine over the cluster at `address` (`keys`: the folder of its keys), or over one made here.

    One made here listens on the loopback only and has `nodes` processes: a count, which share the processor
    evenly, or the share of a core for each. Raises ComputeError when the scheduler or all nodes are missing.
    """
    if address is not None:
        return ClusterEngine(
            Membership(address, keys), here=here, deterministic=deterministic, seed=seed, browsers=browsers
        )
    shares = [0.0] * nodes if isinstance(nodes, int) else list(nodes)
    if not shares or any(share and not 0.01 <= share <= 1.0 for share in shares):
        raise BadInput("a cluster made here needs nodes, each with a share of a core between 0.01 and 1")
    scheduler = local_scheduler()
    try:
        membership = Membership(scheduler.scheduler_address)
    except BaseException:
        scheduler.close()
        raise
    engine = ClusterEngine(membership, here=here, deterministic=deterministic, seed=seed, browsers=browsers)
    engine.owned.callback(scheduler.close)
    try:
        engine.start_nodes(shares)
    except BaseException:
        engine.close()
        raise
    return engine


def local_scheduler() -> Any:
    """dask's LocalCluster without workers: its scheduler on free ports of the loopback."""
    quiet()
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=0,
        host="127.0.0.1",
        scheduler_port=0,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )
