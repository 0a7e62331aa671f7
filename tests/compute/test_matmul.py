"""Products against numpy's in double precision, in every format; what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from compute.rig import equal, matrices
from nexus.compute.devices.host import HostDevice
from nexus.compute.engine import Engine
from nexus.compute.errors import BadInput, OutOfDeviceMemory
from nexus.compute.formats import FORMATS, format_of, round_to


@pytest.fixture
def host() -> Engine:
    return equal(HostDevice())


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (130, 64, 257), (300, 1100, 33)])
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_keeps_its_bound(host: Engine, dtype: str, shape: tuple[int, int, int]) -> None:
    a, b = matrices(*shape)
    got = host.matmul(a, b, dtype=dtype)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b)
    # Textbook bound of rounding both operands; the scaled formats add half a step of the largest operand.
    unit = {"fp32": 2.0**-20, "tf32": 2.0**-11, "bf16": 2.0**-8, "fp16": 2.0**-11}.get(dtype, 0.0)
    if unit:
        bound = (2 * unit + unit**2 + 2.0**-20) * size + 1e-6
    else:
        unit = {"fp8_e4m3": 2.0**-4, "fp8_e5m2": 2.0**-3, "int8": 0.0}[dtype]
        step = 0.5 / 127 if dtype == "int8" else 0.0
        da, db = step * np.abs(a).max(), step * np.abs(b).max()
        bound = (2 * unit + unit**2 + 2.0**-12) * size + 1e-5
        bound += da * np.abs(b).sum(axis=0) + db * np.abs(a).sum(axis=1)[:, None] + shape[1] * da * db
    assert (np.abs(got - exact) <= bound).all()
    assert host.last is not None and host.last.error is not None and host.last.bound is not None
    assert host.last.error <= host.last.bound


def test_int8_multiplies_whole_numbers_exactly(host: Engine) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(-127, 128, (40, 3000)), rng.integers(-127, 128, (3000, 20))
    a[0, 0] = b[0, 0] = 127
    assert np.array_equal(host.matmul(a, b, dtype="int8"), (a @ b).astype(np.float32))


def test_rounding_is_that_of_the_formats() -> None:
    x = np.array([1.0, 1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, -3.1415927, 1e-40], np.float32)
    # bfloat16 of 1 + 2**-8 is the tie that goes to even, 1 + 3 * 2**-8 the one that goes up.
    assert round_to(x, format_of("bf16"))[:4].tolist() == [1.0, 1.0, 1.0 + 2.0**-6, -3.140625]
    # OCP FP8: 448 is the largest e4m3, 2**-9 its smallest; 17 lies between 16 and 18.
    e4m3 = np.array([448.0, 2.0**-9, 2.0**-10, 17.0, 19.0, 3.0 * 2.0**-10], np.float32)
    assert round_to(e4m3, format_of("fp8")).tolist() == [448.0, 2.0**-9, 0.0, 16.0, 20.0, 2.0**-8]
    e5m2 = np.array([57344.0, 2.0**-16, 2.0**-17, 9.0, 11.0], np.float32)
    assert round_to(e5m2, format_of("fp8_e5m2")).tolist() == [57344.0, 2.0**-16, 0.0, 8.0, 12.0]
    half = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert np.array_equal(round_to(half, format_of("fp16")), half.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("limit", [4_000, 20_000])
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_larger_than_memory_goes_in_tiles(limit: int, dtype: str) -> None:
    a, b = matrices(150, 170, 90)
    got = equal(HostDevice(memory=limit)).matmul(a, b, dtype=dtype)
    whole = equal(HostDevice()).matmul(a, b, dtype=dtype)
    assert np.allclose(got, whole, rtol=1e-5, atol=1e-4)


def test_no_tile_fits() -> None:
    with pytest.raises(OutOfDeviceMemory, match="not even tiles"):
        equal(HostDevice(memory=100)).matmul(*matrices(64, 64, 64))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), "3 columns meet 2 rows"),
        (np.ones(3), np.ones((3, 3)), "two matrices"),
        (np.ones((0, 3)), np.ones((3, 3)), "nothing to multiply"),
        (np.ones((2, 0)), np.ones((0, 2)), "nothing to multiply"),
        (np.array([["x"]]), np.ones((1, 1)), "not real numbers"),
        ([[1.0], [2.0, 3.0]], np.ones((1, 1)), "not an array"),
        (np.array([[1.0, np.nan]]), np.ones((2, 2)), r"a\[0, 1\] is nan"),
        (np.ones((2, 2)), np.array([[1.0, 0.0], [np.inf, 0.0]]), r"b\[1, 0\] is inf"),
        (np.full((2, 2), 1e30), np.full((2, 2), 1e30), "overflows"),
    ],
)
def test_bad_input_is_told_and_the_engine_goes_on(host: Engine, a: object, b: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        host.matmul(a, b)
    assert np.array_equal(host.matmul(np.eye(2), np.eye(2)), np.eye(2))


def test_what_a_format_cannot_hold(host: Engine) -> None:
    with pytest.raises(BadInput, match="largest number of fp16 is 65504"):
        host.matmul(np.full((2, 2), 1e5), np.eye(2), dtype="fp16")
    with pytest.raises(BadInput, match="no number format"):
        host.matmul(np.eye(2), np.eye(2), dtype="fp9")
    with pytest.raises(BadInput, match="NaN or Inf"):
        host.matmul(np.full((2, 2), np.nan), np.eye(2), dtype="bf16")


def test_nothing_is_copied_on_the_host_but_what_must_be(host: Engine) -> None:
    a, b = matrices(64, 64, 64)
    host.matmul(a, b)
    assert host.last is not None and host.last.copied == 0
    host.matmul(a.astype(np.float64), b.T)
    assert host.last.copied == a.nbytes + b.nbytes


class Foreign:
    """Another library's array, which numpy sees only through DLPack."""

    def __init__(self, array: np.ndarray) -> None:  # type: ignore[type-arg]
        self.array = array

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__(**options)  # type: ignore[arg-type]

    def __dlpack_device__(self) -> object:
        return self.array.__dlpack_device__()


def test_dlpack_in_and_out_without_a_copy(host: Engine) -> None:
    a, b = matrices(32, 32, 32)
    c = host.matmul(Foreign(a), Foreign(b))
    assert host.last is not None and host.last.copied == 0
    assert np.shares_memory(np.from_dlpack(c), c)
    assert np.allclose(c, a @ b, atol=1e-4)
