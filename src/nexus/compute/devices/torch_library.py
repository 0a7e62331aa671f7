"""torch on one CUDA or ROCm device (or on the processor, where tests run the same code).

Formats go to the units that hold their numbers exactly: e5m2 and, before Ada and Hopper, e4m3 are multiplied
as bf16. Sums are kept in fp32; those of e4m3 on Hopper's units in about 14 bits, which the bounds allow for.
Facts: `torch._scaled_mm` takes e4m3 by e4m3 with the second operand by columns and sides divisible by 16,
refuses e5m2 by e5m2; `torch._int_mm` takes more than 16 rows and sides divisible by 8; `torch.mm(out_dtype=)`
exists since 2.8 and not on the processor.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from nexus.compute import shared
from nexus.compute.devices.library import ArrayLibrary
from nexus.compute.formats import FORMATS, Array

SINCE = {"fp32": (0, 0), "tf32": (8, 0), "bf16": (8, 0), "fp16": (7, 0), "fp8_e4m3": (8, 9), "int8": (7, 5)}
"""CUDA compute capability from which on tensor cores know a format."""
HOLDS = {
    "tf32": ("tf32", "fp32"),
    "bf16": ("bf16", "fp32"),
    "fp16": ("fp16", "fp32"),
    "fp8_e4m3": ("fp8_e4m3", "bf16", "fp16", "fp32"),
    "fp8_e5m2": ("bf16", "fp16", "fp32"),
    "int8": ("int8",),
}
"""Units that hold every number of a format, fastest first."""
KINDS = {"cpu": 1, "cuda": 2, "rocm": 10}
"""Devices as DLPack counts them."""


class TorchLibrary(ArrayLibrary):
    """`device` as torch writes it: cuda:0, cpu."""

    name = "torch"

    def __init__(self, torch: Any, device: str) -> None:
        self.torch = torch
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.place = (KINDS["rocm" if torch.version.hip else self.device.type], self.device.index or 0)
        self.out_of_memory = (torch.OutOfMemoryError, MemoryError)
        self.types = {
            "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
            "fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2, "int8": torch.int8,
            "int32": torch.int32, "fp64": torch.float64,
        }  # fmt: skip
        self.pinned: list[int] = []
        self.move: Any = None
        self.known = self.known_units()

    def known_units(self) -> set[str]:
        if not self.cuda:
            return {"fp32", "fp8_e4m3", "int8"}
        if self.torch.version.hip:
            return {"fp32", "bf16", "fp16"}
        capability = self.torch.cuda.get_device_capability(self.device)
        return {name for name, since in SINCE.items() if capability >= since}

    def about(self) -> str:
        version = self.torch.version.hip or self.torch.version.cuda or "processor"
        name = self.torch.cuda.get_device_name(self.device) if self.cuda else "cpu"
        return f"{name}, torch {self.torch.__version__}, {version}"

    def units(self, dtype: str) -> str:
        return next((units for units in HOLDS.get(dtype, (dtype,)) if units in self.known), "")

    def current(self) -> AbstractContextManager[object]:
        if not self.cuda:
            return nullcontext()
        device: AbstractContextManager[object] = self.torch.cuda.device(self.device)
        return device

    def free_memory(self) -> int:
        if not self.cuda:
            return 1 << 40
        free, _ = self.torch.cuda.mem_get_info(self.device)
        cached = self.torch.cuda.memory_reserved(self.device) - self.torch.cuda.memory_allocated(self.device)
        return int(free + cached)

    # Moving data.

    def upload(self, array: Array) -> Any:
        source = self.torch.from_numpy(np.ascontiguousarray(array))
        if not self.cuda:
            return source.clone()
        return source.to(self.device, non_blocking=source.is_pinned())

    def download(self, array: Any, out: Array) -> None:
        self.torch.from_numpy(out).copy_(array)

    def pin(self, arrays: Sequence[Array]) -> None:
        if not self.cuda:
            return
        runtime = self.torch.cuda.cudart()
        for array in arrays:
            found = shared.find(array)
            if found is None or found[0].address in self.pinned:
                continue
            # 0 is success; a mapping that another device of the process pinned already stays pinned by it.
            if int(runtime.cudaHostRegister(found[0].address, len(found[0]), 0)) == 0:
                self.pinned.append(found[0].address)

    def unpin(self) -> None:
        while self.pinned:
            self.torch.cuda.cudart().cudaHostUnregister(self.pinned.pop())

    def adopt(self, array: Any) -> Any:
        if isinstance(array, np.ndarray):
            return self.upload(array)
        tensor = array if isinstance(array, self.torch.Tensor) else self.torch.from_dlpack(array)
        return tensor if tensor.device == self.device else tensor.to(self.device)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.torch.empty(shape, dtype=self.types[dtype], device=self.device)

    # Products.

    def quantise(self, array: Any, dtype: str) -> tuple[Any, float]:
        wanted, kind = FORMATS[dtype], self.types[dtype]
        if array.dtype == kind and dtype != "tf32":
            return array, 1.0
        array = array.to(self.torch.float32)
        if not wanted.scaled:
            return (self.round_tf32(array) if dtype == "tf32" else array.to(kind)), 1.0
        peak = float(array.abs().max())
        scale = peak / wanted.largest or 1.0
        scaled = (array / scale).clip(-wanted.largest, wanted.largest)
        return (scaled.round() if dtype == "int8" else scaled).to(kind), scale

    def round_tf32(self, array: Any) -> Any:
        """The processor's rule of `formats.round_to`: to nearest, ties to even, by the bits."""
        bits = array.contiguous().view(self.torch.int32)
        odd = (bits >> 13) & 1
        return ((bits + 0xFFF + odd) & ~0x1FFF).view(self.torch.float32)

    def multiply(self, a: Any, b: Any, units: str, scale: float = 1.0, out: Any | None = None) -> Any:
        torch = self.torch
        if units == "int8":
            return self.fill(out, self.multiply_int8(a, b), scale)
        if units == "fp8_e4m3":
            return self.multiply_fp8(a, b, scale, out)
        with self.full_precision(units == "tf32"):
            a, b = a.to(self.types[units]), b.to(self.types[units])
            if out is not None and out.dtype == a.dtype and scale == 1.0:
                return torch.mm(a, b, out=out)
            if units in ("bf16", "fp16"):
                return self.fill(out, torch.mm(a, b, out_dtype=torch.float32), scale)
            return self.fill(out, torch.mm(a, b), scale)

    def multiply_fp8(self, a: Any, b: Any, scale: float, out: Any | None) -> Any:
        torch, kind = self.torch, self.types["fp8_e4m3"]
        rows, columns = a.shape[0], b.shape[1]
        a, b = self.padded(a, 1, 16).to(kind), self.padded(b, 16, 16).to(kind)
        if b.stride(0) != 1:
            b = b.t().contiguous().t()
        scales = {
            name: torch.full((), value, dtype=torch.float32, device=self.device)
            for name, value in (("scale_a", scale), ("scale_b", 1.0))
        }
        options = {**scales, "use_fast_accum": True} if self.cuda else scales
        if out is not None and b.shape[1] == columns:
            return torch._scaled_mm(a, b, out_dtype=out.dtype, out=out, **options)
        given = torch.float32 if out is None else out.dtype
        return self.fill(out, torch._scaled_mm(a, b, out_dtype=given, **options)[:rows, :columns], 1.0)

    def multiply_int8(self, a: Any, b: Any) -> Any:
        rows, columns = a.shape[0], b.shape[1]
        a, b = (array.to(self.torch.int8) for array in (self.padded(a, 32, 8), self.padded(b, 8, 8)))
        return self.torch._int_mm(a, b)[:rows, :columns]

    def padded(self, array: Any, rows: int, columns: int) -> Any:
        """With rows and columns of zeros up to the next multiples."""
        down, across = -array.shape[0] % rows, -array.shape[1] % columns
        if not down and not across:
            return array
        larger = self.torch.zeros(
            (array.shape[0] + down, array.shape[1] + across), dtype=array.dtype, device=array.device
        )
        larger[: array.shape[0], : array.shape[1]] = array
        return larger

    def fill(self, out: Any | None, got: Any, scale: float) -> Any:
        if scale != 1.0:
            got = got.to(self.torch.float32) * scale
        return got.to(self.torch.float32) if out is None else out.copy_(got)

    @contextmanager
    def full_precision(self, tf32: bool) -> Iterator[None]:
        """Sums of 16-bit products in fp32 only; fp32 operands as tf32 only where that was asked for."""
        settings = self.torch.backends.cuda.matmul
        names = (
            "allow_tf32",
            "allow_bf16_reduced_precision_reduction",
            "allow_fp16_reduced_precision_reduction",
        )
        before = [getattr(settings, name) for name in names]
        for name, value in zip(names, (tf32, False, False), strict=True):
            setattr(settings, name, value)
        try:
            yield
        finally:
            for name, value in zip(names, before, strict=True):
                setattr(settings, name, value)

    # Points and bodies.

    def transform(self, points: Any, turned: Any, out: Any) -> None:
        if self.move is None:
            self.move = self.fastest_move(points, turned, out)
        self.move(points, turned, out)

    def moves(self) -> dict[str, Any]:
        """The ways to transform points: the library's product, and our Triton kernel where Triton works."""

        def by_library(points: Any, turned: Any, out: Any) -> None:
            with self.full_precision(False):
                self.torch.mm(points, turned, out=out)

        ways = {"library": by_library}
        if self.cuda and importlib.util.find_spec("triton") is not None:
            from nexus.compute.devices.triton_kernels import transform

            ways["triton"] = transform
        return ways

    def fastest_move(self, points: Any, turned: Any, out: Any) -> Any:
        best, shortest = None, float("inf")
        for name, way in self.moves().items():
            try:
                way(points, turned, out)
                self.wait()
                began = time.perf_counter()
                way(points, turned, out)
                self.wait()
            except RuntimeError:
                # Triton may be there without what it compiles with; the library's own way must work.
                if name == "library":
                    raise
                continue
            seconds = time.perf_counter() - began
            if seconds < shortest:
                best, shortest = way, seconds
        return best

    def pick(self, array: Any, places: Array, axis: int) -> Any:
        chosen = self.torch.from_numpy(places).to(self.device)
        if array.dtype.itemsize > 1:
            return array.index_select(axis, chosen)
        # Selecting is not there for every one-byte type: their bytes are selected.
        return array.view(self.torch.uint8).index_select(axis, chosen).view(array.dtype)

    def contiguous(self, array: Any) -> Any:
        return array.contiguous()

    def clear_diagonal(self, square: Any) -> None:
        square.fill_diagonal_(0.0)

    # Checks.

    def signs(self, rng: np.random.Generator, size: int) -> Any:
        return self.upload(super().signs(rng, size))

    def times(self, matrix: Any, vector: Any) -> Any:
        torch = self.torch
        if matrix.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            matrix = matrix.to(torch.bfloat16)
        if not self.cuda or matrix.dtype != torch.bfloat16:
            with self.full_precision(False):
                return torch.mv(matrix.to(torch.float32), vector)
        # The vector as a sum of three bf16 vectors has all of its bits; the other columns fill the tile.
        parts = torch.zeros((len(vector), 8), dtype=torch.bfloat16, device=self.device)
        for n in range(3):
            parts[:, n] = vector
            vector = vector - parts[:, n].to(torch.float32)
        with self.full_precision(False):
            return torch.mm(matrix, parts, out_dtype=torch.float32).sum(1)

    def row_norms(self, matrix: Any) -> Any:
        if matrix.dtype in (self.torch.float8_e4m3fn, self.torch.float8_e5m2, self.torch.int8):
            matrix = matrix.to(self.torch.bfloat16)
        return self.torch.linalg.vector_norm(matrix, dim=1, dtype=self.torch.float32)

    def norm(self, matrix: Any) -> float:
        return float(self.torch.linalg.vector_norm(self.row_norms(matrix)))

    def to_host(self, array: Any) -> Array:
        return np.asarray(array.to("cpu").to(self.torch.float64).numpy())

    def wait(self) -> None:
        if self.cuda:
            self.torch.cuda.synchronize(self.device)

    def release(self) -> None:
        if self.cuda:
            self.torch.cuda.empty_cache()
