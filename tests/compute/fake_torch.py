"""The part of torch that `TorchLibrary` uses, on numpy, with two devices that answer as an H200 would.

It holds to what torch documents where that is stricter than numpy: `_scaled_mm` refuses sides that 16 does
not divide and a second operand that is not by columns, `_int_mm` fewer than 17 rows; operands of different
devices do not mix. Formats that numpy lacks are float32 arrays with numbers of the format.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from nexus.compute.formats import FORMATS, round_to

__version__ = "2.11"


class OutOfMemoryError(RuntimeError):
    pass


class DType:
    def __init__(self, name: str, kind: Any, itemsize: int) -> None:
        self.name, self.kind, self.itemsize = name, kind, itemsize


float32 = DType("fp32", np.float32, 4)
float64 = DType("fp64", np.float64, 8)
bfloat16 = DType("bf16", np.float32, 2)
float16 = DType("fp16", np.float32, 2)
float8_e4m3fn = DType("fp8_e4m3", np.float32, 1)
float8_e5m2 = DType("fp8_e5m2", np.float32, 1)
int8 = DType("int8", np.int8, 1)
uint8 = DType("bytes", np.uint8, 1)
int32 = DType("int32", np.int32, 4)
int64 = DType("int64", np.int64, 8)
OF_NUMPY = {"float32": float32, "float64": float64, "int8": int8, "int32": int32, "int64": int64}


class Device:
    def __init__(self, text: str) -> None:
        self.type, _, index = text.partition(":")
        self.index = int(index) if index else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)


CPU = Device("cpu")


def device(text: str) -> Device:
    return Device(text)


class Tensor:
    def __init__(self, data: Any, dtype: DType, place: Device) -> None:
        self.data, self.dtype, self.device = data, dtype, place

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    T = property(lambda self: Tensor(self.data.T, self.dtype, self.device))
    nbytes = property(lambda self: self.data.size * self.dtype.itemsize)

    def __len__(self) -> int:
        return len(self.data)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, self.device.index or 0) if self.device.type == "cuda" else (1, 0)

    def __getitem__(self, where: Any) -> Tensor:
        return Tensor(self.data[where], self.dtype, self.device)

    def __setitem__(self, where: Any, value: Any) -> None:
        self.data[where] = rounded(value.data, self.dtype) if isinstance(value, Tensor) else value

    def same_place(self, other: Any) -> Any:
        if isinstance(other, Tensor):
            assert other.device == self.device, "operands on different devices"
            return other.data
        return other

    def made(self, data: Any) -> Tensor:
        return Tensor(np.asarray(data), OF_NUMPY.get(np.asarray(data).dtype.name, float32), self.device)

    def __add__(self, other: Any) -> Tensor:
        return self.made(self.data + self.same_place(other))

    def __sub__(self, other: Any) -> Tensor:
        return self.made(self.data - self.same_place(other))

    def __mul__(self, other: Any) -> Tensor:
        return self.made(self.data * self.same_place(other))

    def __rmul__(self, other: Any) -> Tensor:
        return self * other

    def __truediv__(self, other: Any) -> Tensor:
        return self.made(self.data / self.same_place(other))

    def __matmul__(self, other: Any) -> Tensor:
        return self.made(self.data @ self.same_place(other))

    def __pow__(self, power: float) -> Tensor:
        return self.made(self.data**power)

    def __abs__(self) -> Tensor:
        return self.made(abs(self.data))

    abs = __abs__

    def __and__(self, other: int) -> Tensor:
        return self.made(self.data & np.int32(other))

    def __rshift__(self, by: int) -> Tensor:
        return self.made(self.data >> np.int32(by))

    def __float__(self) -> float:
        return float(self.data)

    def sum(self, axis: int) -> Tensor:
        return self.made(self.data.sum(axis))

    def max(self) -> Tensor:
        return self.made(self.data.max())

    def clip(self, low: float, high: float | None) -> Tensor:
        return self.made(np.clip(self.data, low, high))

    def round(self) -> Tensor:
        return self.made(np.rint(self.data))

    def clone(self) -> Tensor:
        return Tensor(self.data.copy(), self.dtype, self.device)

    def contiguous(self) -> Tensor:
        return Tensor(np.ascontiguousarray(self.data), self.dtype, self.device)

    def t(self) -> Tensor:
        return Tensor(self.data.T, self.dtype, self.device)

    def stride(self, axis: int) -> int:
        return int(self.data.strides[axis] // self.data.itemsize)

    def is_pinned(self) -> bool:
        return False

    def view(self, dtype: DType) -> Tensor:
        if {self.dtype.name, dtype.name} <= {"fp8_e4m3", "fp8_e5m2", "bytes", "int8"}:
            return Tensor(self.data, dtype, self.device)
        return Tensor(self.data.view(dtype.kind), dtype, self.device)

    def index_select(self, axis: int, places: Tensor) -> Tensor:
        assert self.dtype.name in ("fp32", "bf16", "fp16", "bytes", "int32", "fp64")
        return Tensor(self.data.take(self.same_place(places), axis), self.dtype, self.device)

    def to(self, *given: Any, non_blocking: bool = False) -> Tensor:
        got = self
        for wanted in given:
            if isinstance(wanted, DType):
                if wanted is not got.dtype:
                    got = Tensor(rounded(got.data, wanted), wanted, got.device)
            else:
                place = wanted if isinstance(wanted, Device) else Device(wanted)
                if place != got.device:
                    got = Tensor(got.data.copy(), got.dtype, place)
        return got

    def copy_(self, other: Tensor) -> Tensor:
        self.data[...] = rounded(other.data, self.dtype)
        return self

    def fill_diagonal_(self, value: float) -> None:
        np.fill_diagonal(self.data, value)

    def numpy(self) -> Any:
        assert self.device == CPU
        return self.data


def rounded(data: Any, dtype: DType) -> Any:
    if dtype.name in FORMATS and dtype.name not in ("fp32", "int8"):
        return round_to(np.asarray(data, np.float32), FORMATS[dtype.name])
    return np.asarray(data).astype(dtype.kind)


def from_numpy(array: Any) -> Tensor:
    return Tensor(array, OF_NUMPY[array.dtype.name], CPU)


def from_dlpack(array: Any) -> Tensor:
    return from_numpy(np.from_dlpack(array))


def empty(shape: Any, dtype: DType, device: Device) -> Tensor:
    return Tensor(np.full(shape, 77, dtype.kind), dtype, device)


def zeros(shape: Any, dtype: DType, device: Device) -> Tensor:
    return Tensor(np.zeros(shape, dtype.kind), dtype, device)


def full(shape: Any, value: float, dtype: DType, device: Device) -> Tensor:
    return Tensor(np.full(shape, value, dtype.kind), dtype, device)


def mm(a: Tensor, b: Tensor, out: Tensor | None = None, out_dtype: DType | None = None) -> Tensor:
    assert a.dtype is b.dtype and a.dtype.name in ("fp32", "bf16", "fp16", "fp64")
    left, right = a.data, a.same_place(b)
    if a.dtype is float32 and backends.cuda.matmul.allow_tf32:
        left, right = (round_to(np.ascontiguousarray(array), FORMATS["tf32"]) for array in (left, right))
    if a.dtype in (bfloat16, float16):
        assert a.device.type == "cuda" or out_dtype is None
        assert not backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    result = rounded(left @ right, out_dtype or a.dtype)
    if out is None:
        return Tensor(result, out_dtype or a.dtype, a.device)
    assert out.dtype is a.dtype and out.device == a.device
    out.data[...] = result
    return out


def mv(a: Tensor, b: Tensor) -> Tensor:
    assert a.dtype is b.dtype
    return Tensor(a.data @ a.same_place(b), a.dtype, a.device)


def _scaled_mm(
    a: Tensor,
    b: Tensor,
    *,
    scale_a: Tensor,
    scale_b: Tensor,
    out_dtype: DType,
    use_fast_accum: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    assert a.dtype is float8_e4m3fn and b.dtype is float8_e4m3fn
    assert a.shape[1] % 16 == 0 and b.shape[0] % 16 == 0 and b.shape[1] % 16 == 0
    assert b.stride(0) == 1, "the second operand must be by columns"
    assert out_dtype in (float32, bfloat16, float16)
    result = rounded(a.data @ a.same_place(b) * scale_a.data * scale_b.data, out_dtype)
    if out is None:
        return Tensor(result, out_dtype, a.device)
    assert out.dtype is out_dtype and out.shape == result.shape
    out.data[...] = result
    return out


def _int_mm(a: Tensor, b: Tensor) -> Tensor:
    assert a.dtype is int8 and b.dtype is int8 and a.shape[0] > 16
    assert a.shape[1] % 8 == 0 and b.shape[1] % 8 == 0
    return Tensor(a.data.astype(np.int32) @ a.same_place(b).astype(np.int32), int32, a.device)


def _vector_norm(array: Tensor, dim: int | None = None, dtype: DType = float32) -> Tensor:
    assert array.dtype.itemsize > 1
    return Tensor(np.linalg.norm(array.data.astype(dtype.kind), axis=dim), dtype, array.device)


linalg = SimpleNamespace(vector_norm=_vector_norm)
backends = SimpleNamespace(
    cuda=SimpleNamespace(
        matmul=SimpleNamespace(
            allow_tf32=False,
            allow_bf16_reduced_precision_reduction=True,
            allow_fp16_reduced_precision_reduction=True,
        )
    )
)
version = SimpleNamespace(hip=None, cuda="13.0")
registered: dict[int, int] = {}


def _register(address: int, size: int, flags: int) -> int:
    if address in registered:
        return 712
    registered[address] = size
    return 0


@contextmanager
def _on(place: Device) -> Any:
    yield place


cuda = SimpleNamespace(
    is_available=lambda: True,
    device_count=lambda: 2,
    device=_on,
    get_device_capability=lambda place: (9, 0),
    get_device_name=lambda place: "NVIDIA H200",
    get_device_properties=lambda n: SimpleNamespace(
        name="NVIDIA H200", total_memory=1 << 37, pci_domain_id=0, pci_bus_id=0x18 + n, pci_device_id=0
    ),
    mem_get_info=lambda place: (1 << 36, 1 << 37),
    memory_reserved=lambda place: 0,
    memory_allocated=lambda place: 0,
    synchronize=lambda place: None,
    empty_cache=lambda: None,
    cudart=lambda: SimpleNamespace(
        cudaHostRegister=_register, cudaHostUnregister=lambda address: registered.pop(address)
    ),
)
