"""Transformations, maps, reductions and gravity against plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from compute.rig import Array, Scripted, equal, host_and
from nexus.compute.devices.host import HostDevice
from nexus.compute.devices.worker import WorkerDevice
from nexus.compute.engine import Engine
from nexus.compute.errors import BadInput


@pytest.fixture
def host() -> Engine:
    return equal(HostDevice())


def test_points_are_moved(host: Engine) -> None:
    points = np.random.default_rng(0).standard_normal((50_000, 3))
    move = np.array([[1, 0, 0, 5], [0, 2, 0, -1], [0, 0, 1, 0.5], [0, 0, 0, 1]])
    got = host.transform(points, move)
    wanted = np.column_stack([points[:, 0] + 5, 2 * points[:, 1] - 1, points[:, 2] + 0.5, np.ones(50_000)])
    assert np.allclose(got, wanted, atol=1e-5)


def test_every_wrong_point_of_a_device_is_found() -> None:
    def shift(result: Array, call: int) -> None:
        result[17, 2] += 1.0

    points = np.random.default_rng(0).standard_normal((2_000_000, 4)).astype(np.float32)
    matrix = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    engine = host_and(Scripted("liar", shift))
    assert np.allclose(engine.transform(points, matrix), points @ matrix.T, atol=1e-4)
    assert engine.last is not None and "is off" in engine.last.notes[0]


def test_map_of_two_arrays_and_another_type(host: Engine) -> None:
    x, y = np.arange(10_000), np.arange(10_000.0)
    assert np.array_equal(host.map(lambda a, b: a > b / 2, x, y), x > y / 2)


def test_reductions_with_workers() -> None:
    x = np.random.default_rng(4).standard_normal(3_000_000)
    with equal(HostDevice(), WorkerDevice(0)) as engine:
        assert math.isclose(engine.reduce(x), math.fsum(x), rel_tol=1e-10)
        assert engine.reduce(x, "max") == x.max() and engine.reduce(x, "min") == x.min()
        n = np.arange(3_000_000)
        assert engine.reduce(n) == 3_000_000 * 2_999_999 // 2


@pytest.mark.parametrize("count", [1, 2, 4095, 4096, 4097, 3 * 4096 + 1])
def test_reductions_of_every_length(host: Engine, count: int) -> None:
    n = np.arange(count)
    assert host.reduce(n) == count * (count - 1) // 2
    assert host.reduce(n, "max") == count - 1


def test_two_bodies_circle_each_other(host: Engine) -> None:
    """Masses 1 at distance 2 with speed 1/2 are in a circular orbit of period 4 pi (Kepler)."""
    steps = 2000
    x, v = host.nbody(
        [[-1.0, 0, 0], [1.0, 0, 0]],
        [[0, -0.5, 0], [0, 0.5, 0]],
        [1.0, 1.0],
        dt=4 * math.pi / steps,
        steps=steps,
        softening=1e-6,
    )
    assert np.allclose(x, [[-1, 0, 0], [1, 0, 0]], atol=1e-4)
    assert np.allclose(v, [[0, -0.5, 0], [0, 0.5, 0]], atol=1e-4)


def test_gravity_is_the_sum_over_pairs() -> None:
    rng = np.random.default_rng(6)
    x, m = rng.standard_normal((1600, 3)), rng.random(1600)
    with equal(HostDevice(), WorkerDevice(0)) as engine:
        _, v = engine.nbody(x, np.zeros_like(x), m, dt=1e-9, softening=0.1)
    difference = x[None, :, :] - x[7]
    distance = (difference**2).sum(axis=2) + 0.01
    wanted = (m[None, :, None] * difference / distance[..., None] ** 1.5).sum(axis=1)[0]
    assert np.allclose(v[7] / 1e-9, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e: e.transform(np.ones((4, 4)), np.eye(3)), "4 by 4"),
        (lambda e: e.transform(np.ones((4, 2)), np.eye(4)), "3 or 4 numbers"),
        (lambda e: e.transform(np.full((4, 4), np.nan), np.eye(4)), "is nan"),
        (lambda e: e.map(np.sin, np.empty(0)), "no elements"),
        (lambda e: e.map(np.sin), "at least one array"),
        (lambda e: e.map(np.add, np.ones(2), np.ones(3)), "different lengths"),
        (lambda e: e.map(np.sum, np.ones(2)), "one element"),
        (lambda e: e.reduce(np.empty(0)), "no elements"),
        (lambda e: e.reduce(np.ones(3), "median"), "no reduction"),
        (lambda e: e.nbody(np.ones((2, 3)), np.ones((3, 3)), np.ones(2), dt=1.0), "nbody takes"),
        (lambda e: e.nbody(np.ones((2, 3)), np.ones((2, 3)), np.ones(2), dt=1.0, softening=0.0), "softening"),
    ],
)
def test_bad_input(host: Engine, ask: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ask(host)  # type: ignore[operator]
