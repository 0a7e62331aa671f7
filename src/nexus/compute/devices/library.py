"""What an accelerator needs of an array library (torch, cupy) on one of its devices.

Arrays of the library are opaque to the rest of the engine. `Maths` is the part that checks of results use;
numpy's is here, an accelerator's library has its own, so that checked data does not leave the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nexus.compute.formats import Array


def row_sums(matrix: Array, vector: Array) -> Array:
    """`matrix @ vector` in one thread: reading the matrix is the work, and BLAS, whose threads wait for each
    other, takes many times as long on a busy machine.
    """
    sums: Array = np.einsum("ij,j->i", matrix, vector)
    return sums


class Maths:
    """What the check of a product needs, on numpy; results are float32 vectors."""

    def signs(self, rng: np.random.Generator, size: int) -> Any:
        """A random vector of +1 and -1."""
        return rng.choice(np.array([-1.0, 1.0], np.float32), size)

    def times(self, matrix: Any, vector: Any) -> Any:
        """`matrix @ vector`, without rounding the vector to the matrix's format."""
        return row_sums(matrix, vector)

    def row_norms(self, matrix: Any) -> Any:
        """Euclidean norm of each row."""
        return np.sqrt(np.einsum("ij,ij->i", matrix, matrix))

    def norm(self, matrix: Any) -> float:
        """Frobenius norm."""
        return float(np.linalg.norm(matrix))

    def to_host(self, array: Any) -> Array:
        """An array as numpy float64."""
        return np.asarray(array, np.float64)


class ArrayLibrary(Maths):
    """One device of one library.

    `place` is the device as DLPack names it (kind, number); `out_of_memory` and `failures` are the
    exceptions that mean so.
    """

    name = ""
    place = (0, 0)
    out_of_memory: tuple[type[BaseException], ...] = (MemoryError,)
    failures: tuple[type[BaseException], ...] = (RuntimeError,)

    def about(self) -> str:
        """Device and driver, for people and as the key of calibration."""
        raise NotImplementedError

    def units(self, dtype: str) -> str:
        """The format its matrix units multiply for `dtype` without changing a bit of the operands; empty:
        none does.
        """
        raise NotImplementedError

    def current(self) -> contextlib.AbstractContextManager[object]:
        """Makes the device the one on which the calling thread's work is done."""
        return contextlib.nullcontext()

    def free_memory(self) -> int:
        """Bytes that can be had now."""
        raise NotImplementedError

    def upload(self, array: Array) -> Any:
        """A copy of a numpy array on the device."""
        raise NotImplementedError

    def download(self, array: Any, out: Array) -> None:
        """Fill `out` with an array of the device."""
        raise NotImplementedError

    def pin(self, arrays: Sequence[Array]) -> None:
        """Make the memory of these arrays fit for direct transfers; what cannot be pinned stays as it is."""

    def unpin(self) -> None:
        """Undo `pin`."""

    def adopt(self, array: Any) -> Any:
        """An array of any library that lies on this device or a peer, without a copy when it lies here."""
        raise NotImplementedError

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Room for a result; `dtype` is a format, int32 or fp64."""
        raise NotImplementedError

    def quantise(self, array: Any, dtype: str) -> tuple[Any, float]:
        """An array of the device in a format, and the scale divided out; the array itself when it has it."""
        raise NotImplementedError

    def multiply(self, a: Any, b: Any, units: str, scale: float = 1.0, out: Any | None = None) -> Any:
        """`a @ b * scale` on matrix units. Operands hold numbers of the format; the result is fp32, or has
        the type of `out`, which is filled.
        """
        raise NotImplementedError

    def pick(self, array: Any, places: Array, axis: int) -> Any:
        """Some rows (axis 0) or columns (axis 1) of a matrix."""
        raise NotImplementedError

    def contiguous(self, array: Any) -> Any:
        """The array, or a copy of it, with its rows one after the other."""
        raise NotImplementedError

    def transform(self, points: Any, turned: Any, out: Any) -> None:
        """`points @ turned`, n by 4 times 4 by 4, by the fastest of this library's ways."""
        raise NotImplementedError

    def gravity(self, positions: Any, masses: Any, low: int, high: int, softening: float) -> Any:
        """Accelerations of bodies `low` to `high` by `kernels.gravity`'s formula, with g = 1."""
        mine = positions[low:high]
        squares = (positions * positions).sum(1)
        distance = squares[low:high, None] + squares[None, :] - 2.0 * (mine @ positions.T)
        weight = masses[None, :] * (distance.clip(0.0, None) + softening**2) ** -1.5
        self.clear_diagonal(weight[:, low:high])
        return weight @ positions - weight.sum(1)[:, None] * mine

    def clear_diagonal(self, square: Any) -> None:
        raise NotImplementedError

    def wait(self) -> None:
        """Until everything asked for is done."""
        raise NotImplementedError

    def release(self) -> None:
        """Give unused memory back to the driver."""
