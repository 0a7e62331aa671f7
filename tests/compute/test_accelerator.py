"""The device of array libraries, with torch on the processor (or its stand-in) in the place of a GPU."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from compute import fake_cupy, fake_torch
from compute.rig import Array, equal, host_and, matrices
from nexus.compute.devices.accelerator import Accelerator
from nexus.compute.devices.cupy_library import CupyLibrary
from nexus.compute.devices.library import ArrayLibrary
from nexus.compute.devices.torch_library import TorchLibrary
from nexus.compute.engine import Engine
from nexus.compute.errors import BadInput, ComputeError, OutOfDeviceMemory, WrongResult
from nexus.compute.formats import FORMATS

torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else fake_torch


def library(name: str) -> ArrayLibrary:
    if name == "torch":
        return TorchLibrary(torch, "cpu")
    if name == "hopper":
        return TorchLibrary(fake_torch, "cuda:0")
    return CupyLibrary(fake_cupy, 0)


@pytest.fixture(params=["torch", "hopper", "cupy"])
def accelerator(request: pytest.FixtureRequest) -> Accelerator:
    return Accelerator(library(request.param), 0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (37, 53, 29), (130, 64, 257)])
@pytest.mark.parametrize("dtype", FORMATS)
def test_products_in_every_format(accelerator: Accelerator, dtype: str, shape: tuple[int, int, int]) -> None:
    a, b = matrices(*shape)
    engine = host_and(accelerator)
    got = engine.matmul(a, b, dtype=dtype)
    assert engine.last is not None and engine.last.error is not None and engine.last.bound is not None
    assert engine.last.error <= engine.last.bound
    wanted = host_and().matmul(a, b, dtype=dtype)
    assert np.allclose(got, wanted, rtol=1e-5, atol=1e-3)
    if accelerator.library.name == "cupy" and dtype == "int8":
        assert engine.last.notes[0] == "gpu0 takes no part: it has no units for int8"
    elif shape[0] > 100:
        assert engine.last.devices[1].units and engine.last.copied >= b.nbytes


def test_formats_go_to_the_units_that_hold_them() -> None:
    hopper = library("hopper")
    assert {name: hopper.units(name) for name in FORMATS} == {
        "fp32": "fp32", "tf32": "tf32", "bf16": "bf16", "fp16": "fp16",
        "fp8_e4m3": "fp8_e4m3", "fp8_e5m2": "bf16", "int8": "int8",
    }  # fmt: skip
    engine = equal(Accelerator(hopper, 0))
    engine.matmul(*matrices(64, 64, 64), dtype="fp8_e5m2")
    assert engine.last is not None
    assert engine.last.notes == [
        "fp8_e5m2 is multiplied on bf16 units of gpu0, which hold its numbers exactly"
    ]


def test_operands_larger_than_the_device_go_in_tiles(accelerator: Accelerator) -> None:
    a, b = matrices(150, 170, 90)
    accelerator.memory = 60_000
    for dtype in ("fp32", "fp16"):
        got = equal(accelerator).matmul(a, b, dtype=dtype)
        assert np.allclose(got, host_and().matmul(a, b, dtype=dtype), rtol=1e-5, atol=1e-3)


def test_a_device_that_runs_out_of_memory_tries_smaller_tiles(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest: list[int] = []
    real = accelerator.library.multiply

    def multiply(a: Any, b: Any, *rest: Any) -> Any:
        largest.append(a.shape[0] * a.shape[1])
        if a.shape[0] * a.shape[1] > 5_000:
            raise accelerator.library.out_of_memory[0]("CUDA out of memory. Tried to allocate 2 GiB")
        return real(a, b, *rest)

    monkeypatch.setattr(accelerator.library, "multiply", multiply)
    accelerator.memory = 400_000
    a, b = matrices(150, 170, 90)
    assert np.allclose(equal(accelerator).matmul(a, b), a @ b, atol=1e-3)
    assert max(largest) > 5_000 >= largest[-1]
    monkeypatch.setattr(accelerator.library, "multiply", lambda *_: exhausted(accelerator))
    with pytest.raises(OutOfDeviceMemory, match="out of memory"):
        equal(accelerator).matmul(a, b)
    engine = host_and(accelerator)
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
    assert engine.last is not None and "out of memory" in engine.last.notes[0]
    monkeypatch.undo()
    assert np.allclose(equal(accelerator).matmul(a, b), a @ b, atol=1e-3)


def exhausted(accelerator: Accelerator) -> None:
    raise accelerator.library.out_of_memory[0]("out of memory")


def test_a_device_that_vanishes(accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(*_: Any) -> None:
        raise accelerator.library.failures[0]("CUDA error: device has fallen off the bus")

    monkeypatch.setattr(accelerator.library, "multiply", vanish)
    a, b = matrices(300, 100, 100)
    engine = host_and(accelerator)
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
    assert engine.last is not None and "fallen off the bus" in engine.last.notes[0]
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
    assert engine.last.notes[0].startswith("gpu0 takes no part: it stopped working: CUDA error")
    with pytest.raises(ComputeError, match="no device can do matmul"):
        equal(accelerator).matmul(a, b)


def test_points_and_bodies(accelerator: Accelerator) -> None:
    rng = np.random.default_rng(3)
    points, matrix = rng.standard_normal((70_001, 4), np.float32), rng.standard_normal((4, 4), np.float32)
    engine = equal(accelerator)
    assert np.allclose(engine.transform(points, matrix), points @ matrix.T, atol=1e-5)
    x, m = rng.standard_normal((300, 3)), rng.random(300)
    got = engine.nbody(x, np.zeros_like(x), m, dt=1e-3, steps=2, softening=0.1)
    wanted = host_and().nbody(x, np.zeros_like(x), m, dt=1e-3, steps=2, softening=0.1)
    assert all(np.allclose(one, two, rtol=1e-9) for one, two in zip(got, wanted, strict=True))


@pytest.mark.parametrize("dtype", ["fp32", "fp8", "int8"])
@pytest.mark.parametrize("memory", [None, 200_000])
def test_deterministic_bits_do_not_depend_on_the_split(dtype: str, memory: int | None) -> None:
    a, b = matrices(700, 190, 130)
    results = []
    for count in (1, 2, 3):
        devices = [Accelerator(library("torch"), n, memory=memory) for n in range(count)]
        engine = equal(*devices, deterministic=True)
        results.append(engine.matmul(a, b, dtype=dtype).tobytes())
        assert engine.last is not None and sum(row.units > 0 for row in engine.last.devices) == count
    assert results[0] == results[1] == results[2]


def test_deterministic_mode_takes_devices_of_one_family() -> None:
    a, b = matrices(400, 90, 60)
    engine = equal(Accelerator(library("torch"), 0), Accelerator(library("cupy"), 1), deterministic=True)
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
    assert engine.last is not None and len(engine.last.devices) == 1
    assert engine.last.notes[0].startswith("deterministic: only devices of kind")


def test_a_type_a_device_lacks_goes_to_one_that_has_it() -> None:
    a, b = matrices(300, 90, 60)
    for last in ("torch", "hopper"):
        engine = equal(Accelerator(library("cupy"), 0), Accelerator(library(last), 1))
        engine.matmul(a, b, dtype="int8")
        assert engine.last is not None
        assert [row.device.name for row in engine.last.devices] == ["gpu1"]
        assert engine.last.notes[0] == "gpu0 takes no part: it has no units for int8"
    alone = equal(Accelerator(library("cupy"), 0))
    with pytest.raises(ComputeError, match="no device can do matmul in int8: gpu0 takes no part"):
        alone.matmul(a, b, dtype="int8")
    alone.matmul(a, b)


def test_a_given_up_device_writes_nothing(accelerator: Accelerator) -> None:
    a, b = matrices(64, 32, 32)
    accelerator.abandon()
    engine = host_and(accelerator)
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-4)
    assert engine.last is not None and "it stopped answering" in engine.last.notes[0]


# Operands that lie on the device.


def resident(name: str, arrays: tuple[Array, ...], checks: float = 1.0) -> tuple[Engine, list[Any]]:
    device = Accelerator(library(name), 0)
    engine = Engine([device], seed=1, checks=checks)
    return engine, [device.library.upload(array) for array in arrays]


@pytest.mark.parametrize("name", ["torch", "hopper"])
@pytest.mark.parametrize("dtype", FORMATS)
def test_products_stay_on_the_device(name: str, dtype: str) -> None:
    a, b = matrices(96, 130, 70)
    engine, (x, y) = resident(name, (a, b))
    got = engine.matmul(x, y, dtype=dtype)
    assert type(got) is type(x) and tuple(got.shape) == (96, 70)
    report = engine.last
    assert report is not None and report.copied == 0
    assert report.error is not None and report.bound is not None and report.error <= report.bound
    wanted = host_and().matmul(a, b, dtype=dtype)
    device: Any = engine.devices[0]
    loss = {"bf16": 2.0**-8, "fp16": 2.0**-11, "fp8_e4m3": 2.0**-8, "fp8_e5m2": 2.0**-8}.get(dtype, 1e-6)
    assert np.allclose(device.library.to_host(got), wanted, rtol=loss, atol=1e-2)


def test_whole_numbers_on_the_device_stay_whole() -> None:
    rng = np.random.default_rng(2)
    a, b = (
        rng.integers(-127, 128, (40, 60)).astype(np.int8),
        rng.integers(-127, 128, (60, 30)).astype(np.int8),
    )
    engine, (x, y) = resident("torch", (a, b))
    got: Any = engine.matmul(x, y, dtype="int8")
    assert np.array_equal(got.numpy(), a.astype(np.int32) @ b)


@pytest.mark.parametrize("name", ["torch", "hopper", "cupy"])
def test_a_wrong_product_on_the_device_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, (x, y) = resident(name, tuple(matrices(64, 64, 64)))
    device: Any = engine.devices[0]
    real = device.library.multiply

    def spoilt(*given: Any) -> Any:
        got = real(*given)
        got[5, 6] = float(got[5, 6]) + 8.0
        return got

    monkeypatch.setattr(device.library, "multiply", spoilt)
    with pytest.raises(WrongResult):
        engine.matmul(x, y)
    monkeypatch.undo()
    engine.matmul(x, y)


def test_unchecked_jobs_say_so() -> None:
    engine, (x, y) = resident("torch", tuple(matrices(64, 64, 64)), checks=0.0)
    engine.matmul(x, y)
    assert engine.last is not None and engine.last.notes == [
        "not checked: a share of jobs is, by the engine's setting"
    ]


@pytest.mark.parametrize("name", ["torch", "hopper", "cupy"])
def test_points_on_the_device(name: str) -> None:
    rng = np.random.default_rng(9)
    points, matrix = rng.standard_normal((5000, 4), np.float32), rng.standard_normal((4, 4), np.float32)
    engine, (x, y) = resident(name, (points, matrix))
    got = engine.transform(x, y)
    device: Any = engine.devices[0]
    assert np.allclose(device.library.to_host(got), points @ matrix.T, atol=1e-5)
    assert engine.last is not None and engine.last.copied == 0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), "matmul of"),
        (np.ones((0, 3)), np.ones((3, 2)), "nothing to multiply"),
        (np.full((2, 2), np.nan), np.ones((2, 2)), "a holds NaN"),
        (np.ones((2, 2)), np.full((2, 2), np.inf), "b holds NaN"),
    ],
)
@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_bad_operands_on_the_device(name: str, a: Array, b: Array, message: str) -> None:
    engine, (x, y) = resident(name, (a.astype(np.float32), b.astype(np.float32)))
    with pytest.raises(BadInput, match=message):
        engine.matmul(x, y)
    engine, (x,) = resident(name, (np.eye(4, dtype=np.float32),))
    engine.matmul(x, x)


def test_a_product_over_two_devices_copies_one_operand_to_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    from nexus.compute.operations import resident as operation

    monkeypatch.setattr(operation, "WORTH_SPLITTING", 0.0)
    first, second = (Accelerator(TorchLibrary(fake_torch, f"cuda:{n}"), n) for n in range(2))
    engine = equal(first, second)
    a, b = matrices(1024, 64, 64)
    x, y = first.library.upload(a), first.library.upload(b)
    got = engine.matmul(x, y)
    assert np.allclose(first.library.to_host(got), a @ b, atol=1e-4)
    report = engine.last
    assert report is not None and [row.units for row in report.devices] == [512, 512]
    assert first.copied == 0 and second.copied == b.nbytes + a.nbytes // 2
