"""Functions that worker processes import by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def waves(x: Array) -> Array:
    return np.sin(x) * 2.0


def share_of_block(x: Array) -> Array:
    """Depends on the other elements of its block, which a map must not."""
    return x / len(x)


def dies_in_a_worker(x: Array) -> Array:
    """Ends the process it runs in when that is a worker."""
    main = sys.modules["__main__"].__spec__
    if main is not None and main.name == "nexus.compute.devices.worker_main":
        os.kill(os.getpid(), signal.SIGKILL)
    return x + 1.0


def refuses_negative(x: Array) -> Array:
    if (x < 0).any():
        raise ValueError("negative")
    return np.sqrt(x)


def naps(x: Array) -> Array:
    """Takes 20 ms for each element."""
    time.sleep(0.02 * len(x))
    return x * 2.0


def hungry(x: Array) -> Array:
    """Has no memory for blocks of more than one element."""
    if len(x) > 64:
        raise MemoryError("no memory for the block")
    return x
