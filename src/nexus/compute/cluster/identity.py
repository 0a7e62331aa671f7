"""What a node is made of. Nodes that differ in it from the engine would compute something else: refused."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys

from nexus.base.folders import PACKAGE

EQUAL = ("nexus", "sources", "python", "numpy", "distributed")
"""What must be the same everywhere: pickled functions need one Python, arrays and messages one numpy and
dask.
"""


@functools.cache
def about() -> dict[str, str]:
    """This process: versions, the digest of the compute package's sources, host name, process id."""
    import distributed
    import numpy as np

    return {
        "nexus": str(sys.modules["nexus"].__version__),
        "sources": sources(),
        "python": "{}.{}".format(*sys.version_info),
        "numpy": np.__version__,
        "distributed": str(distributed.__version__),
        "host": platform.node(),
        "pid": str(os.getpid()),
    }


@functools.cache
def sources() -> str:
    """Digest of every source of the compute package: two checkouts of one version may differ."""
    digest = hashlib.sha256()
    top = os.path.join(PACKAGE, "compute")
    for place, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                digest.update(os.path.relpath(os.path.join(place, name), top).encode())
                with open(os.path.join(place, name), "rb") as file:
                    digest.update(file.read())
    return digest.hexdigest()[:12]


def differences(here: dict[str, str], there: dict[str, str]) -> str:
    """What differs, as a text for the user; empty when the two can work together."""
    return ", ".join(
        f"{name} {there.get(name, 'missing')} there and {here[name]} here"
        for name in EQUAL
        if there.get(name) != here[name]
    )
