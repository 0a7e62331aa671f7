"""The compute engine: every device of this machine behind one queue.

    import nexus.compute
    with nexus.compute.engine(workers=(1.0, 0.5)) as engine:
        c = engine.matmul(a, b, dtype="bf16")
        print(engine.last.text())

A job is a number of independent units (rows, points, tiles). Devices take ranges of them: first in proportion
to their measured rates, then smaller and smaller pieces, so that all end together. A device that fails costs
its chunk. What a device other than this process's own processor returns is checked.

In the order data flows: `formats` (number formats), `kernels` (the work itself, on numpy), `job`, `devices`
(`host`, `worker`, `gpu`), `calibration`, `scheduler`, `verify`, `engine`. Names are loaded on first use:
numpy is not imported by `import nexus.compute`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.compute.cluster.engine import ClusterEngine, cluster
    from nexus.compute.engine import Engine, engine
    from nexus.compute.errors import BadInput, ComputeError, DeviceLost, OutOfDeviceMemory, WrongResult

_HOMES = {
    "ClusterEngine": "nexus.compute.cluster.engine",
    "cluster": "nexus.compute.cluster.engine",
    "Engine": "nexus.compute.engine",
    "engine": "nexus.compute.engine",
    "BadInput": "nexus.compute.errors",
    "ComputeError": "nexus.compute.errors",
    "DeviceLost": "nexus.compute.errors",
    "OutOfDeviceMemory": "nexus.compute.errors",
    "WrongResult": "nexus.compute.errors",
}

__all__ = [
    "BadInput",
    "ClusterEngine",
    "ComputeError",
    "DeviceLost",
    "Engine",
    "OutOfDeviceMemory",
    "WrongResult",
    "cluster",
    "engine",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'nexus.compute' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
