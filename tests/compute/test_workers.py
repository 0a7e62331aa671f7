"""Worker processes: shared memory, functions, death, determinism."""

from __future__ import annotations

import _thread
import signal
import threading

import numpy as np
import pytest

from compute import functions
from compute.rig import equal, host_and, matrices
from nexus.compute import calibration, shared
from nexus.compute.calibration import Calibration
from nexus.compute.devices.host import HostDevice
from nexus.compute.devices.worker import WorkerDevice
from nexus.compute.engine import Engine
from nexus.compute.errors import BadInput, ComputeError, OutOfDeviceMemory


def test_products_by_uneven_workers() -> None:
    a, b = matrices(700, 300, 200)
    with equal(WorkerDevice(0), WorkerDevice(1, 0.5)) as engine:
        for dtype in ("fp32", "bf16", "int8"):
            got = engine.matmul(a, b, dtype=dtype)
            assert np.allclose(got, equal(HostDevice()).matmul(a, b, dtype=dtype), atol=1e-3)
            assert engine.last is not None and all(row.units for row in engine.last.devices)


def test_shared_operands_are_not_copied() -> None:
    a, b = matrices(256, 256, 256)
    with equal(WorkerDevice(0), WorkerDevice(1)) as engine:
        engine.matmul(a, b)
        assert engine.last is not None and engine.last.copied == a.nbytes + b.nbytes
        x, y = engine.empty(a.shape), engine.empty(b.shape)
        x[...], y[...] = a, b
        got = engine.matmul(x, y)
        assert engine.last is not None and engine.last.copied == 0
        assert np.allclose(got, a @ b, atol=1e-3)


def test_a_view_of_a_shared_array_is_found_at_its_place() -> None:
    array = shared.allocate((10, 8), np.float32)
    found = shared.find(array[3:, 2:])
    assert found is not None and found[1].offset == (3 * 8 + 2) * 4
    assert shared.find(np.ones(3)) is None
    with pytest.raises((ValueError, TypeError)):
        shared.view(found[0], shared.Place(1, 0, (1000, 1000), (4000, 4), "<f4"))


def test_a_worker_that_dies_costs_its_chunk_and_comes_back() -> None:
    x = np.arange(100_000.0)
    with host_and(WorkerDevice(0)) as engine:
        assert np.array_equal(engine.map(functions.dies_in_a_worker, x), x + 1.0)
        assert engine.last is not None
        assert "worker0 went away" in engine.last.notes[0] and engine.last.recoveries
        assert np.array_equal(engine.map(functions.waves, x), np.sin(x) * 2.0)
        assert engine.last is not None and not engine.last.notes and engine.last.devices[1].units


def test_a_function_that_cannot_be_sent_stays_in_this_process() -> None:
    x = np.arange(100_000.0)
    with host_and(WorkerDevice(0)) as engine:
        assert np.array_equal(engine.map(lambda block: block * 3.0, x), x * 3.0)
        assert engine.last is not None and "cannot be sent to another process" in engine.last.notes[0]


@pytest.mark.parametrize("where", [HostDevice, lambda: WorkerDevice(0)])
def test_an_exception_of_the_function_is_told(where: type[HostDevice]) -> None:
    x = np.linspace(1.0, -1.0, 100_000)
    with equal(where()) as engine:
        with pytest.raises(ComputeError, match="ValueError: negative"):
            engine.map(functions.refuses_negative, x)
        assert np.array_equal(engine.map(functions.waves, x), np.sin(x) * 2.0)


def test_a_function_of_the_whole_block_is_refuted_by_the_sample() -> None:
    with equal(WorkerDevice(0), WorkerDevice(1)) as engine, pytest.raises(ComputeError, match="differ"):
        engine.map(functions.share_of_block, np.ones(200_000))


def test_deterministic_bits_do_not_depend_on_the_split() -> None:
    a, b = matrices(900, 333, 150)
    x = np.random.default_rng(2).standard_normal(300_000)
    results = []
    for devices in ([HostDevice()], [WorkerDevice(0), WorkerDevice(1, 0.3)], [HostDevice(), WorkerDevice(0)]):
        with equal(*devices, deterministic=True) as engine:
            results.append((engine.matmul(a, b), engine.matmul(a, b, dtype="fp8"), engine.reduce(x)))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert one.tobytes() == two.tobytes()


def test_calibration_is_kept_and_damage_is_no_error(tmp_path: object) -> None:
    path = f"{tmp_path}/calibration.json"
    a, b = matrices(400, 400, 400)
    with Engine([HostDevice(), WorkerDevice(0)], calibration=Calibration(path)) as engine:
        assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
    rows = Calibration(path).rows
    (key,) = rows
    assert "matmul fp32" in key and "numpy" in key
    assert set(rows[key]) == {"alone", "together", "kept"} and all(rate > 0 for rate in rows[key]["alone"])
    with open(path, "w") as file:
        file.write("{ not json")
    assert Calibration(path).rows == {}


@pytest.mark.parametrize("where", [HostDevice, lambda: WorkerDevice(0)])
def test_a_device_out_of_memory_is_told(where: type[HostDevice]) -> None:
    x = np.arange(100_000.0)
    with equal(where()) as engine:
        with pytest.raises(OutOfDeviceMemory, match="no memory for the block"):
            engine.map(functions.hungry, x)
        assert np.array_equal(engine.map(functions.waves, x), np.sin(x) * 2.0)


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_the_machine_has_is_refused_before_it_is_used(workers: int) -> None:
    """A memory file may be larger than memory; writing to it would end the process."""
    with equal(HostDevice(), *(WorkerDevice(n) for n in range(workers))) as engine:
        with pytest.raises(OutOfDeviceMemory, match="this machine has"):
            engine.matmul(np.ones((3_000_000, 1)), np.ones((1, 3_000_000)))
        with pytest.raises(OutOfDeviceMemory, match="this machine has"):
            engine.empty((1 << 40,))
        with pytest.raises(BadInput, match="no array of shape"):
            engine.empty(-1)
        assert np.array_equal(engine.matmul(np.eye(2), np.eye(2)), np.eye(2))


def test_an_interrupted_job_leaves_the_engine_usable() -> None:
    """A worker that went on would answer the next job with the result of this one."""
    x = np.arange(200.0)
    with equal(WorkerDevice(0), WorkerDevice(1)) as engine:
        engine.map(functions.waves, x)
        timer = threading.Timer(0.5, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            engine.map(functions.naps, x)
        timer.join()
        assert np.array_equal(engine.map(functions.waves, x), np.sin(x) * 2.0)


def test_what_a_refused_job_copied_is_not_the_next_ones() -> None:
    engine = equal(HostDevice())
    with pytest.raises(BadInput):
        engine.matmul(np.ones((3, 3)), np.full((3, 3), np.nan))
    engine.matmul(np.ones((3, 3), np.float32), np.ones((3, 3), np.float32))
    assert engine.last is not None and engine.last.copied == 0


def test_shares_out_of_range() -> None:
    for share in (0.0, -1.0, 1.5):
        with pytest.raises(BadInput, match="between"):
            WorkerDevice(0, share)


def test_a_slow_function_of_few_elements_is_handed_out_too() -> None:
    x = np.arange(60.0)
    with Engine([HostDevice(), WorkerDevice(0), WorkerDevice(1)], calibration=Calibration("")) as engine:
        assert np.array_equal(engine.map(functions.naps, x), x * 2.0)
        assert engine.last is not None and sum(row.units > 0 for row in engine.last.devices) >= 2


def test_a_worker_that_stops_while_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "PATIENCE", 0.5)
    a, b = matrices(500, 300, 300)
    worker = WorkerDevice(0)
    with Engine([HostDevice(), worker], calibration=Calibration("")) as engine:
        worker.start()
        assert worker.process is not None
        worker.process.send_signal(signal.SIGSTOP)
        assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
        assert engine.last is not None and engine.last.devices[0].units == 500
        assert engine.last.notes[0] == "worker0 did not answer within 0.5 s"
