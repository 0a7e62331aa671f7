"""The cloth against what springs do by the textbook."""

from __future__ import annotations

import math

import numpy as np
import pytest

from compute.rig import Array, Scripted, equal, host_and
from nexus.compute.devices.host import HostDevice
from nexus.compute.devices.worker import WorkerDevice
from nexus.compute.engine import Engine
from nexus.compute.errors import BadInput, ComputeError
from nexus.compute.operations.cloth import sheet

NO_PULL = (0.0, 0.0, 0.0)


@pytest.fixture
def host() -> Engine:
    return equal(HostDevice())


def test_a_mass_on_a_spring_swings_with_its_period(host: Engine) -> None:
    """Period 2 pi sqrt(m / k); at a half of it the mass is on the other side."""
    steps, stiffness, mass = 4000, 40.0, 2.5
    half = math.pi * math.sqrt(mass / stiffness)
    x, v = host.cloth(
        [[0.0, 0, 0], [1.25, 0, 0]], np.zeros((2, 3)), [[0, 1]], lengths=[1.0], pinned=[0],
        stiffness=stiffness, mass=mass, gravity=NO_PULL, dt=half / steps, steps=steps,
    )  # fmt: skip
    assert np.allclose(x, [[0, 0, 0], [0.75, 0, 0]], atol=2e-3) and np.allclose(v, 0.0, atol=2e-3)


def test_a_damped_mass_comes_to_rest_where_weight_and_spring_are_equal(host: Engine) -> None:
    x, v = host.cloth(
        [[0.0, 0, 0], [0, 0, -1.0]], np.zeros((2, 3)), [[0, 1]], pinned=[0],
        stiffness=50.0, mass=2.0, damping=8.0, dt=0.01, steps=2000,
    )  # fmt: skip
    assert np.allclose(x[1], [0, 0, -1.0 - 2.0 * 9.81 / 50.0], atol=1e-9) and np.allclose(v, 0.0, atol=1e-9)


def test_a_free_sheet_keeps_its_momentum_and_its_energy(host: Engine) -> None:
    points, springs = sheet(9, 7)
    rng = np.random.default_rng(1)
    v = rng.standard_normal(points.shape) * 0.2
    x, after = host.cloth(points, v, springs, stiffness=30.0, gravity=NO_PULL, dt=1e-3, steps=500)
    assert np.allclose(after.sum(axis=0), v.sum(axis=0), atol=1e-9)

    def energy(x: Array, v: Array) -> float:
        length = np.linalg.norm(x[springs[:, 0]] - x[springs[:, 1]], axis=1)
        rest = np.linalg.norm(points[springs[:, 0]] - points[springs[:, 1]], axis=1)
        return float(0.5 * (v**2).sum() + 15.0 * ((length - rest) ** 2).sum())

    assert math.isclose(energy(x, after), energy(points, v), rel_tol=0.02)


def test_the_forces_are_the_sum_over_springs(host: Engine) -> None:
    points, springs = sheet(5, 6, 0.5)
    rng = np.random.default_rng(2)
    x, v = points + 0.1 * rng.standard_normal(points.shape), rng.standard_normal(points.shape)
    rest = np.full(len(springs), 0.4)
    _, after = host.cloth(
        x, v, springs, lengths=rest, stiffness=7.0, damping=0.3, mass=2.0, gravity=(0, 1, 0), dt=1e-6
    )
    force = np.zeros_like(x)
    for (i, j), r in zip(springs, rest, strict=True):
        to = x[j] - x[i]
        length = np.linalg.norm(to)
        along = to / length
        pull = 7.0 * (length - r) + 0.3 * (v[j] - v[i]) @ along
        force[i] += pull * along
        force[j] -= pull * along
    assert np.allclose((after - v) / 1e-6, force / 2.0 + [0, 1, 0], atol=1e-4)


def test_a_sheet_has_its_springs() -> None:
    points, springs = sheet(3, 4)
    assert points.shape == (12, 3)
    # 9 + 8 along the sides, 6 + 6 across, 6 + 4 over every second point.
    assert len(springs) == 39 and len({tuple(sorted(pair)) for pair in springs.tolist()}) == 39
    assert len(sheet(1, 1)[1]) == 0 and len(sheet(1, 2)[1]) == 1


def test_every_split_gives_the_same_cloth() -> None:
    points, springs = sheet(160, 150)
    results = []
    for devices in ([HostDevice()], [HostDevice(), WorkerDevice(0)], [WorkerDevice(0), WorkerDevice(1, 0.5)]):
        with equal(*devices, deterministic=True) as engine:
            got = engine.cloth(points, np.zeros_like(points), springs, pinned=[0, 149], dt=1e-3, steps=3)
            results.append([array.tobytes() for array in got])
    assert results[0] == results[1] == results[2]


def test_a_wrong_force_is_refused() -> None:
    def lie(result: Array, call: int) -> None:
        result += 1.0

    points, springs = sheet(60, 50)
    engine = host_and(Scripted("liar", lie))
    got, _ = engine.cloth(points, np.zeros_like(points), springs, dt=1e-3)
    wanted, _ = equal(HostDevice()).cloth(points, np.zeros_like(points), springs, dt=1e-3)
    assert np.allclose(got, wanted)
    assert engine.last is not None and "acceleration of point" in engine.last.notes[0]


def test_steps_too_long_are_told(host: Engine) -> None:
    points, springs = sheet(6, 6)
    with pytest.raises(ComputeError, match="flew apart at step"), np.errstate(all="ignore"):
        host.cloth(points, np.zeros_like(points), springs, pinned=[0], stiffness=1e6, dt=1.0, steps=500)
    host.cloth(points, np.zeros_like(points), springs, dt=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"springs": [[0, 2]]}, "not among the 2"),
        ({"springs": [[0, -1]]}, "not among the 2"),
        ({"springs": [[1, 1]]}, "to itself"),
        ({"springs": [[0.5, 1.0]]}, "whole numbers"),
        ({"springs": [0, 1]}, "m by 2"),
        ({"lengths": [1.0, 2.0]}, "rest lengths"),
        ({"lengths": [np.nan]}, "finite"),
        ({"mass": 0.0}, "above 0"),
        ({"stiffness": -1.0}, "not below"),
        ({"gravity": (0.0, 1.0)}, "three numbers"),
        ({"pinned": [7]}, "not among the 2"),
        ({"steps": 0}, "at least one step"),
        ({"positions": np.full((2, 3), np.inf)}, "NaN or Inf"),
        ({"positions": np.zeros((3, 3))}, "n by 3"),
        ({"positions": np.zeros((0, 3)), "velocities": np.zeros((0, 3))}, "n by 3"),
    ],
)
def test_bad_input(host: Engine, given: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "positions": [[0.0, 0, 0], [1, 0, 0]], "velocities": np.zeros((2, 3)), "springs": [[0, 1]],
        "dt": 0.01, **given,
    }  # fmt: skip
    with pytest.raises(BadInput, match=message):
        host.cloth(**arguments)  # type: ignore[arg-type]
