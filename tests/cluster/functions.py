"""Functions that are mapped on nodes; a file says who is to misbehave."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def square(block: Array) -> Array:
    return block * block


def busy(block: Array) -> Array:
    """Squares, made slow enough to be worth handing out."""
    total = np.zeros(len(block))
    for n in range(60):
        total += np.sin(block + n) ** 2 + np.cos(block + n) ** 2
    return block * block * np.rint(total / 60)


class Once:
    """`busy`, but the first process other than `spared` that runs it does something else before.

    Instances travel to the nodes; `path` is a file that exists until one of them has taken its turn. With
    `only`, it is a node that listens on that address.
    """

    def __init__(self, path: str, action: str) -> None:
        self.path = path
        self.action = action
        self.spared = os.getpid()
        self.only = ""
        self.__qualname__ = f"Once.{action}"

    def __call__(self, block: Array) -> Array:
        if os.getpid() != self.spared and (not self.only or self.only in sys.argv) and self.taken():
            if self.action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.action == "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif self.action == "raise":
                raise ValueError("this function does not like it here")
            elif self.action == "cut":
                while not os.path.exists(self.path + ".cut"):
                    time.sleep(0.01)
        return busy(block)

    def taken(self) -> bool:
        try:
            os.rename(self.path, self.path + ".taken")
        except FileNotFoundError:
            return False
        return True
