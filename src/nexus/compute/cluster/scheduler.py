"""The scheduler of a cluster as a program of its own: dask's, on the loopback or behind keys."""

from __future__ import annotations

import asyncio
import signal
import sys

from nexus.base.errors import NexusError
from nexus.compute.cluster.keys import check_host, security
from nexus.compute.cluster.quiet import quiet


async def serve(host: str, port: int, keys: str | None) -> None:
    """Serve until a signal comes. Raises OSError when the port is taken."""
    from distributed import Scheduler

    scheduler = Scheduler(
        host=check_host(host, keys),
        port=port,
        protocol="tls://" if keys else "tcp://",
        security=security(keys) or {},
        dashboard=False,
        dashboard_address="127.0.0.1:0",
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: loop.create_task(scheduler.close(reason="signal")))
    async with scheduler:
        more = f" --keys {keys}" if keys else ""
        print(f"nexus: the scheduler listens at {scheduler.address}", file=sys.stderr)
        print(
            f"nexus: on other machines: nexus compute cluster node {scheduler.address}{more}", file=sys.stderr
        )
        sys.stderr.flush()
        await scheduler.finished()


def run_scheduler(host: str, port: int, keys: str | None) -> int:
    """The exit code: 0 after a signal, 125 when it cannot listen."""
    quiet()
    try:
        asyncio.run(serve(host, port, keys))
    except (OSError, RuntimeError) as error:
        raise NexusError(
            f"the scheduler cannot listen at {host}:{port}: {error.__cause__ or error}"
        ) from None
    return 0
