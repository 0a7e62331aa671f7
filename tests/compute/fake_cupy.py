"""The part of cupy that `CupyLibrary` uses, on numpy. A kernel is run by its meaning, not by its text."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

__version__ = "14.0"


class ndarray(NDArrayOperatorsMixin):
    """Not numpy's: nothing outside the library can look into it, as with memory of a GPU."""

    device = SimpleNamespace(id=0)

    def __init__(self, data: Any) -> None:
        self.data = data

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    nbytes = property(lambda self: self.data.nbytes)
    dtype = property(lambda self: self.data.dtype)
    T = property(lambda self: ndarray(self.data.T))

    def __array_ufunc__(self, ufunc: Any, method: str, *given: Any, **options: Any) -> Any:
        if "out" in options:
            options["out"] = tuple(plain(array) for array in options["out"])
        return ndarray(getattr(ufunc, method)(*map(plain, given), **options))

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, where: Any) -> ndarray:
        return ndarray(self.data[where])

    def __setitem__(self, where: Any, value: Any) -> None:
        self.data[where] = plain(value)

    def __float__(self) -> float:
        return float(self.data)

    def sum(self, axis: int) -> ndarray:
        return ndarray(self.data.sum(axis))

    def max(self) -> ndarray:
        return ndarray(self.data.max())

    def clip(self, low: float, high: float | None) -> ndarray:
        return ndarray(self.data.clip(low, high))

    def astype(self, kind: Any, copy: bool = True) -> ndarray:
        return ndarray(self.data.astype(kind, copy=copy))

    def take(self, places: ndarray, axis: int) -> ndarray:
        return ndarray(self.data.take(places.data, axis))

    def get(self, out: Any = None) -> Any:
        if out is None:
            return np.array(self.data)
        assert out.flags.c_contiguous
        out[...] = self.data
        return out


def plain(array: Any) -> Any:
    return array.data if isinstance(array, ndarray) else array


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    pass


class RawKernel:
    def __init__(self, source: str, name: str) -> None:
        assert f"void {name}(" in source

    def __call__(self, grid: Any, block: Any, given: Any) -> None:
        points, turned, out, count = (plain(value) for value in given)
        assert all(array.flags.c_contiguous for array in (points, turned, out)) and count == len(points)
        np.matmul(points, turned, out=out)


def asarray(array: Any) -> ndarray:
    return ndarray(np.array(array))


def empty(shape: Any, dtype: Any) -> ndarray:
    return ndarray(np.empty(shape, dtype))


def ascontiguousarray(array: ndarray) -> ndarray:
    return ndarray(np.ascontiguousarray(array.data))


def einsum(how: str, *given: ndarray) -> ndarray:
    return ndarray(np.einsum(how, *map(plain, given)))


def fill_diagonal(array: ndarray, value: float) -> None:
    np.fill_diagonal(array.data, value)


@contextmanager
def _device(number: int) -> Any:
    yield number


matmul, sqrt = np.matmul, np.sqrt
linalg = SimpleNamespace(norm=lambda array: np.linalg.norm(array.data))
pinned: set[int] = set()


def _register(address: int, size: int, flags: int) -> None:
    if address in pinned:
        raise CUDARuntimeError("already registered")
    pinned.add(address)


cuda = SimpleNamespace(
    Device=_device,
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
    runtime=SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceProperties=lambda n: {"name": b"NVIDIA H200"},
        driverGetVersion=lambda: 13000,
        memGetInfo=lambda: (1 << 36, 1 << 37),
        hostRegister=_register,
        hostUnregister=pinned.discard,
    ),
)


def get_default_memory_pool() -> Any:
    return SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)
