"""Groups of ranks: what the engine does when they die, freeze, lie or differ, and what they compute.

Ranks here are either a stand-in without torch (`fake_rank`) or the real program on the processor, where gloo
takes NCCL's place.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from compute import fake_rank
from compute.rig import equal, host_and, matrices
from nexus.compute.collective.device import GroupDevice
from nexus.compute.collective.processes import Ranks
from nexus.compute.devices.discovery import as_groups
from nexus.compute.engine import Engine
from nexus.compute.errors import ComputeError, DeviceLost, OutOfDeviceMemory
from nexus.compute.formats import FORMATS, Array
from nexus.compute.job import Job


def pretended(behaviour: str, count: int = 2, patience: float = 20.0) -> GroupDevice:
    program = [sys.executable, fake_rank.__file__, behaviour]
    return GroupDevice(0, Ranks(["cpu"] * count, patience=patience, program=program))


def test_every_rank_does_its_rows() -> None:
    a, b = matrices(301, 64, 50)
    with equal(pretended("well", 3)) as engine:
        assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
        assert np.allclose(engine.matmul(b.T, a.T), b.T @ a.T, atol=1e-3)


@pytest.mark.parametrize(
    ("behaviour", "patience", "told"),
    [
        ("die", 20.0, "gpus: rank 1 went away"),
        ("freeze", 1.0, "gpus: rank 1 did not answer within 1 s"),
        ("fail", 20.0, "gpus: rank 1: no more of it"),
        ("lie", 20.0, "gpus0: wrong result refused"),
        ("old", 20.0, "gpus: rank 0 has sources another and not"),
        ("mixed", 20.0, "gpus: rank 1 has torch"),
    ],
)
def test_a_group_that_fails_costs_its_chunk(behaviour: str, patience: float, told: str) -> None:
    a, b = matrices(300, 64, 50)
    device = pretended(behaviour, patience=patience)
    with host_and(device) as engine:
        assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
        assert engine.last is not None and any(told in note for note in engine.last.notes), engine.last.notes
    assert not device.ranks.processes


def test_a_group_alone_raises_what_happened() -> None:
    a, b = matrices(300, 64, 50)
    with equal(pretended("die")) as engine, pytest.raises(DeviceLost, match="rank 1 went away"):
        engine.matmul(a, b)
    with equal(pretended("fail")) as engine, pytest.raises(OutOfDeviceMemory, match="no more of it"):
        engine.matmul(a, b)


def test_an_abandoned_group_has_no_process_left() -> None:
    device = pretended("freeze")
    a, b = matrices(300, 64, 50)
    failed: list[ComputeError] = []

    def multiply(engine: Engine) -> None:
        try:
            engine.matmul(a, b)
        except ComputeError as error:
            failed.append(error)

    with equal(device) as engine:
        thread = threading.Thread(target=multiply, args=(engine,))
        thread.start()
        while not frozen(device):
            thread.join(0.01)
        device.abandon()
        thread.join()
    assert "went away" in str(failed[0])


def frozen(device: GroupDevice) -> bool:
    """Whether a process of the group is stopped."""
    for process in list(device.ranks.processes):
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
            if file.read().rpartition(")")[2].split()[0] == "T":
                return True
    return False


def test_no_two_gpus() -> None:
    with pytest.raises(ComputeError, match="no two GPUs of one model"):
        as_groups([], None)


@pytest.fixture(scope="module")
def group() -> Iterator[GroupDevice]:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    device = GroupDevice(0, Ranks(["cpu"] * 3, seconds=20.0))
    yield device
    device.close()


@pytest.mark.long
@pytest.mark.parametrize("shape", [(301, 64, 50), (7, 400, 33), (1, 1, 1), (5, 1000, 3)])
@pytest.mark.parametrize("dtype", FORMATS)
def test_products_by_rows_and_by_depth(group: GroupDevice, dtype: str, shape: tuple[int, int, int]) -> None:
    a, b = matrices(*shape)
    engine = equal(group)
    got = engine.matmul(a, b, dtype=dtype)
    assert engine.last is not None and engine.last.error is not None and engine.last.bound is not None
    assert engine.last.error <= engine.last.bound
    assert np.allclose(got, host_and().matmul(a, b, dtype=dtype), rtol=1e-5, atol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("shape", [(600, 100, 400), (8, 600, 400)])
def test_every_operand_is_copied_to_a_rank_once(group: GroupDevice, shape: tuple[int, int, int]) -> None:
    """By rows all ranks need the second operand, by depth each needs a part of it."""
    a, b = matrices(*shape)
    engine = equal(group)
    x, y = engine.empty(a.shape), engine.empty(b.shape)
    x[...], y[...] = a, b
    got = engine.matmul(x, y)
    assert np.allclose(got, a @ b, atol=1e-3)
    assert engine.last is not None and engine.last.copied == a.nbytes + b.nbytes + got.nbytes


class Interrupted(GroupDevice):
    """Sends rank 2 a signal before the first chunk."""

    def __init__(self, ranks: Ranks, number: int) -> None:
        super().__init__(0, ranks)
        self.signal = number

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        number, self.signal = self.signal, 0
        os.kill(self.ranks.processes[2].pid, number)
        return super().run(job, start, stop)


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "seconds", "patience", "told"),
    [
        (signal.SIGKILL, 20.0, 20.0, "rank 2 went away"),
        (signal.SIGSTOP, 20.0, 2.0, "rank 2 did not answer within 2 s"),
        (signal.SIGSTOP, 2.0, 20.0, "imed out"),
    ],
)
def test_a_rank_that_is_gone_ends_the_wait_of_the_others(
    number: int, seconds: float, patience: float, told: str
) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    a, b = matrices(400, 64, 50)
    with host_and(Interrupted(Ranks(["cpu"] * 4, seconds=seconds, patience=patience), number)) as engine:
        assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
        assert engine.last is not None and any(told in note for note in engine.last.notes), engine.last.notes
        assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
        assert engine.last is not None and not engine.last.notes and engine.last.devices[1].units
