"""cupy on one CUDA device, for machines without torch.

Products are fp32 only: every format's numbers are fp32 numbers, so results are right, but tensor cores stay
unused. Points go through a CUDA kernel of ours that reads and writes 16 bytes at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from nexus.compute import shared
from nexus.compute.devices.library import ArrayLibrary
from nexus.compute.errors import BadInput
from nexus.compute.formats import Array

CUDA = 2
"""A CUDA device in DLPack."""
THREADS = 256
TRANSFORM = """
extern "C" __global__
void transform(const float4 *points, const float4 *turned, float4 *moved, long long count)
{
    const float4 x = turned[0], y = turned[1], z = turned[2], w = turned[3];
    for (long long n = blockIdx.x * (long long)blockDim.x + threadIdx.x; n < count;
         n += (long long)gridDim.x * blockDim.x) {
        const float4 p = points[n];
        moved[n] = make_float4(p.x * x.x + p.y * y.x + p.z * z.x + p.w * w.x,
                               p.x * x.y + p.y * y.y + p.z * z.y + p.w * w.y,
                               p.x * x.z + p.y * y.z + p.z * z.z + p.w * w.z,
                               p.x * x.w + p.y * y.w + p.z * z.w + p.w * w.w);
    }
}
"""
MOST_BLOCKS = 1 << 20


class CupyLibrary(ArrayLibrary):
    """The device with this number."""

    name = "cupy"

    def __init__(self, cupy: Any, number: int) -> None:
        self.cupy = cupy
        self.number = number
        self.device = cupy.cuda.Device(number)
        self.place = (CUDA, number)
        self.out_of_memory = (cupy.cuda.memory.OutOfMemoryError, MemoryError)
        self.failures = (cupy.cuda.runtime.CUDARuntimeError, RuntimeError)
        self.kernel = cupy.RawKernel(TRANSFORM, "transform")
        self.types = {"fp32": np.float32, "fp64": np.float64}
        self.pinned: list[int] = []

    def about(self) -> str:
        runtime = self.cupy.cuda.runtime
        name = runtime.getDeviceProperties(self.number)["name"].decode()
        return f"{name}, cupy {self.cupy.__version__}, driver {runtime.driverGetVersion()}"

    def units(self, dtype: str) -> str:
        return "" if dtype == "int8" else "fp32"

    def current(self) -> AbstractContextManager[object]:
        device: AbstractContextManager[object] = self.cupy.cuda.Device(self.number)
        return device

    def free_memory(self) -> int:
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        return int(free + self.cupy.get_default_memory_pool().free_bytes())

    def upload(self, array: Array) -> Any:
        return self.cupy.asarray(np.ascontiguousarray(array))

    def download(self, array: Any, out: Array) -> None:
        if out.flags.c_contiguous:
            array.get(out=out)
        else:
            out[...] = array.get()

    def pin(self, arrays: Sequence[Array]) -> None:
        for array in arrays:
            found = shared.find(array)
            if found is None or found[0].address in self.pinned:
                continue
            try:
                self.cupy.cuda.runtime.hostRegister(found[0].address, len(found[0]), 0)
            except self.cupy.cuda.runtime.CUDARuntimeError:
                # Another device of this process has pinned it, or the driver cannot: the copy is slower then.
                continue
            self.pinned.append(found[0].address)

    def unpin(self) -> None:
        while self.pinned:
            self.cupy.cuda.runtime.hostUnregister(self.pinned.pop())

    def adopt(self, array: Any) -> Any:
        if isinstance(array, np.ndarray):
            return self.upload(array)
        given = array if isinstance(array, self.cupy.ndarray) else self.cupy.from_dlpack(array)
        return given if given.device.id == self.number else given.copy()

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.cupy.empty(shape, self.types[dtype])

    def quantise(self, array: Any, dtype: str) -> tuple[Any, float]:
        if dtype != "fp32":
            raise BadInput(
                f"cupy arrays are not multiplied as {dtype}", hint="install torch, which has the formats"
            )
        return array.astype(np.float32, copy=False), 1.0

    def multiply(self, a: Any, b: Any, units: str, scale: float = 1.0, out: Any | None = None) -> Any:
        got = self.cupy.matmul(a, b) if out is None else self.cupy.matmul(a, b, out=out)
        if scale != 1.0:
            got *= np.float32(scale)
        return got

    def pick(self, array: Any, places: Array, axis: int) -> Any:
        return array.take(self.upload(places), axis)

    def contiguous(self, array: Any) -> Any:
        return self.cupy.ascontiguousarray(array)

    def transform(self, points: Any, turned: Any, out: Any) -> None:
        blocks = min(MOST_BLOCKS, -(-len(points) // THREADS))
        self.kernel((blocks,), (THREADS,), (points, turned, out, np.int64(len(points))))

    def clear_diagonal(self, square: Any) -> None:
        self.cupy.fill_diagonal(square, 0.0)

    def signs(self, rng: np.random.Generator, size: int) -> Any:
        return self.upload(super().signs(rng, size))

    def times(self, matrix: Any, vector: Any) -> Any:
        return matrix @ vector

    def row_norms(self, matrix: Any) -> Any:
        return self.cupy.sqrt(self.cupy.einsum("ij,ij->i", matrix, matrix))

    def norm(self, matrix: Any) -> float:
        return float(self.cupy.linalg.norm(matrix))

    def to_host(self, array: Any) -> Array:
        return np.asarray(array.get(), np.float64)

    def wait(self) -> None:
        self.cupy.cuda.get_current_stream().synchronize()

    def release(self) -> None:
        self.cupy.get_default_memory_pool().free_all_blocks()
