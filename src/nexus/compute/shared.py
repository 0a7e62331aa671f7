"""Arrays in memory that worker processes map too, so that no byte is copied on the way to them and back.

An array keeps its mapping alive; views of it are recognised. There is no name in the file system.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nexus.compute.errors import BadInput, OutOfDeviceMemory

_keys = count(1)


class Mapping(mmap.mmap):
    """A mapped memory file. `key` is never used twice in a process; `address` is that of its first byte."""

    key: int
    fd: int
    address: int


class Place:
    """Where an array lies in a mapping: what another process needs to see the same array."""

    __slots__ = ("dtype", "key", "offset", "shape", "strides")

    def __init__(
        self, key: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: str
    ) -> None:
        self.key = key
        self.offset = offset
        self.shape = shape
        self.strides = strides
        self.dtype = dtype


LARGE = 1 << 26
"""Bytes from which on it is worth to look whether the machine has them."""


def require(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    """Bytes of an array. Raises BadInput for a negative side, OutOfDeviceMemory for more than the machine has
    left: the kernel grants more than that, and ends the process when it is used.
    """
    if any(side < 0 for side in shape):
        raise BadInput(f"there is no array of shape {shape}")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > LARGE and size > available():
        raise OutOfDeviceMemory(
            f"an array of shape {shape} takes {size / 2**30:.1f} GiB, "
            f"this machine has {available() / 2**30:.1f} GiB left"
        )
    return max(1, size)


def available() -> int:
    """Bytes of memory that can be had without swapping."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A zeroed array in a memory file of its own. Raises as `require` does."""
    kind, size = np.dtype(dtype), require(shape, dtype)
    fd = os.memfd_create("nexus-compute", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        mapping = Mapping(fd, size)
    except BaseException:
        os.close(fd)
        raise
    mapping.key = next(_keys)
    mapping.fd = fd
    weakref.finalize(mapping, os.close, fd)
    array = np.ndarray(shape, kind, buffer=mapping)
    mapping.address = array.__array_interface__["data"][0]
    return array


def attach(fd: int, size: int) -> mmap.mmap:
    """Map a memory file that another process made; `fd` may be closed afterwards."""
    return mmap.mmap(fd, size)


def find(array: NDArray[Any]) -> tuple[Mapping, Place] | None:
    """The mapping an array lies in; None for ordinary memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not isinstance(base, Mapping):
        return None
    offset = array.__array_interface__["data"][0] - base.address
    return base, Place(base.key, offset, array.shape, array.strides, array.dtype.str)


def view(buffer: mmap.mmap, place: Place) -> NDArray[Any]:
    """The array of a place in this process's own mapping; numpy refuses one that reaches beyond it."""
    return np.ndarray(
        place.shape, np.dtype(place.dtype), buffer=buffer, offset=place.offset, strides=place.strides
    )
