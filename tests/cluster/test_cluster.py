"""The engine over nodes: the same results as numpy, and what happens when nodes are lost, late or foreign."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import functions
from nexus.compute.calibration import Calibration
from nexus.compute.cluster import operands as held
from nexus.compute.cluster.engine import ClusterEngine, cluster
from nexus.compute.cluster.membership import NodeProcess
from nexus.compute.devices.base import Device
from nexus.compute.errors import ComputeError
from nexus.compute.job import Job

SHARE = 0.4
SECONDS = 0.5


class Expected(Calibration):
    """Every node takes part and is expected to need SECONDS for its share; nothing is measured beforehand."""

    def __init__(self) -> None:
        super().__init__("")

    def choose(
        self, job: Job, devices: Sequence[Device], note: Callable[[str], None]
    ) -> tuple[list[Device], list[float]]:
        return list(devices), [job.units / len(devices) / SECONDS] * len(devices)


@pytest.fixture(scope="module")
def engine() -> Iterator[ClusterEngine]:
    with cluster(nodes=[SHARE, SHARE, SHARE], seed=1) as made:
        made.calibration = Expected()
        yield made


@pytest.fixture
def everywhere(engine: ClusterEngine) -> Iterator[ClusterEngine]:
    """Every node gets an equal part, however small the job."""
    engine.equal_split = True
    yield engine
    engine.equal_split = False


def operands(rows: int, depth: int, columns: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((rows, depth), np.float32), rng.standard_normal((depth, columns), np.float32)


def test_product_is_numpys(everywhere: ClusterEngine) -> None:
    a, b = operands(700, 300, 500)
    assert np.allclose(everywhere.matmul(a, b), a @ b, rtol=1e-4, atol=1e-3)
    assert everywhere.last is not None and len(everywhere.last.devices) == 3


def test_points_maps_reductions_and_gravity(everywhere: ClusterEngine) -> None:
    rng = np.random.default_rng(5)
    points, matrix = rng.standard_normal((90_000, 4), np.float32), rng.standard_normal((4, 4), np.float32)
    assert np.allclose(everywhere.transform(points, matrix), points @ matrix.T, rtol=1e-4, atol=1e-4)
    x = rng.standard_normal(100_000)
    assert np.allclose(everywhere.map(functions.square, x), x * x)
    assert everywhere.reduce(x, "max") == x.max()
    assert np.isclose(everywhere.reduce(x, "sum"), x.sum())
    positions, masses = rng.standard_normal((400, 3)), rng.random(400)
    got, _ = everywhere.nbody(positions, np.zeros((400, 3)), masses, dt=0.01, steps=2)
    from nexus.compute.devices.host import HostDevice
    from nexus.compute.engine import Engine

    with Engine([HostDevice()], calibration=Calibration("")) as local:
        wanted, _ = local.nbody(positions, np.zeros((400, 3)), masses, dt=0.01, steps=2)
    assert np.allclose(got, wanted, rtol=1e-9, atol=1e-12)


def test_small_jobs_stay_here(engine: ClusterEngine) -> None:
    a, b = operands(8, 8, 8)
    assert np.allclose(engine.matmul(a, b), a @ b, rtol=1e-4)
    assert engine.last is not None and [row.device.name for row in engine.last.devices] == ["cpu"]


def test_deterministic_does_not_depend_on_the_split(engine: ClusterEngine) -> None:
    a, b = operands(1024, 256, 256)
    engine.deterministic = True
    try:
        first = engine.matmul(a, b)
        engine.equal_split = True
        second = engine.matmul(a, b)
    finally:
        engine.deterministic = engine.equal_split = False
    assert np.array_equal(first, second)


def test_a_function_that_raises_ends_the_job(engine: ClusterEngine, tmp_path: Path) -> None:
    (tmp_path / "turn").touch()
    with pytest.raises(ComputeError, match="ValueError: this function does not like it here"):
        engine.map(functions.Once(str(tmp_path / "turn"), "raise"), np.arange(50_000.0))
    assert np.allclose(engine.map(functions.square, np.arange(50_000.0)), np.arange(50_000.0) ** 2)


@pytest.mark.parametrize(("action", "why"), [("freeze", "stalled"), ("die", "node")])
def test_a_lost_node_costs_its_chunk(
    engine: ClusterEngine, tmp_path: Path, action: str, why: str, capsys: Any
) -> None:
    x = np.arange(100_000.0)
    function = functions.Once(str(tmp_path / "turn"), action)
    (tmp_path / "turn").touch()
    got = engine.map(function, x)
    report = engine.last
    assert report is not None
    assert np.array_equal(got, x * x)
    assert (tmp_path / "turn.taken").exists()
    assert 1 <= len(report.recoveries) <= 2 and any(why in note for note in report.notes), report.text()
    with capsys.disabled():
        print(f"\n  a node that was made to {action}: recovered in {max(report.recoveries):.2f} s (measured)")
    assert np.array_equal(engine.map(function, x), x * x)
    assert engine.last is not None and not any(row.lost for row in engine.last.devices)


STRANGER = """
import sys, time
from nexus.compute.cluster import identity, node
{change}
sys.exit(node.main(sys.argv[1:]))
"""


def stranger(address: str, change: str) -> subprocess.Popen[bytes]:
    """A node that is not what it should be."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    code = STRANGER.format(change=change)
    return subprocess.Popen([sys.executable, "-c", code, address, "--share", str(SHARE)], env=environment)


def joined(engine: ClusterEngine, count: int) -> None:
    """Wait until that many workers are in the cluster, ours or not."""
    engine.membership.wait_for(count, [])


def workers(engine: ClusterEngine) -> int:
    return len(engine.membership.ask(engine.membership.client.scheduler.identity(n_workers=-1))["workers"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("identity.sources = lambda: 'of another version'", "sources of another version there"),
        ("real = node.about; node.about = lambda: {**real(), 'numpy': '1.0'}", "numpy 1.0 there and"),
        ("node.about = lambda: (_ for _ in ()).throw(ImportError('no numpy'))", "lacks a library"),
    ],
)
def test_foreign_nodes_are_refused(engine: ClusterEngine, change: str, message: str) -> None:
    there = workers(engine)
    process = stranger(engine.membership.address, change)
    try:
        joined(engine, there + 1)
        a, b = operands(700, 300, 500)
        assert np.allclose(engine.matmul(a, b), a @ b, rtol=1e-4, atol=1e-3)
        assert engine.last is not None and any(message in note for note in engine.last.notes)
    finally:
        process.kill()
        process.wait()


def test_a_node_whose_clock_is_wrong_takes_part(engine: ClusterEngine) -> None:
    there = workers(engine)
    process = stranger(engine.membership.address, "real = time.time; time.time = lambda: real() - 7200")
    try:
        joined(engine, there + 1)
        x = np.arange(100_000.0)
        assert np.array_equal(engine.map(functions.busy, x), x * x)
        pids = {node.found["pid"] for node in engine.membership.refresh() if not node.why_lost}
        assert str(process.pid) in pids
        assert engine.last is not None and all(row.units and not row.lost for row in engine.last.devices)
    finally:
        process.kill()
        process.wait()


SCHEDULER = "from nexus.compute.cluster.scheduler import run_scheduler; run_scheduler('127.0.0.1', 0, None)"


def test_a_scheduler_that_vanishes_in_mid_job_is_an_error_not_a_hang(tmp_path: Path) -> None:
    turn = str(tmp_path / "turn")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", SCHEDULER]

    def kill() -> None:
        while not os.path.exists(turn + ".taken"):
            time.sleep(0.01)
        scheduler.kill()

    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stderr is not None
        address = scheduler.stderr.readline().split()[-1]
        node = NodeProcess(address, SHARE)
        with cluster(address, seed=1) as engine:
            engine.calibration = Expected()
            engine.membership.wait_for(1, [node])
            (tmp_path / "turn").touch()
            threading.Thread(target=kill, daemon=True).start()
            with pytest.raises(ComputeError, match="no device is left"):
                engine.map(functions.Once(turn, "cut"), np.arange(60_000.0))
            with pytest.raises(ComputeError, match="went away"):
                engine.map(functions.busy, np.arange(60_000.0))
            # The node waits for the cut in its function; without its scheduler it ends all the same.
            assert node.process.wait(30) == 0
        node.close()


def test_an_address_where_nobody_listens() -> None:
    with pytest.raises(ComputeError, match="cannot be reached"):
        cluster("tcp://127.0.0.1:1")


def test_a_plain_dask_worker_takes_part(engine: ClusterEngine) -> None:
    """A cluster that somebody else started, with nexus importable there."""
    there = workers(engine)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", engine.membership.address, *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            joined(engine, there + 1)
            x = np.arange(100_000.0)
            assert np.array_equal(engine.map(functions.busy, x), x * x)
            found = {node.found["pid"]: node for node in engine.membership.nodes.values()}
            assert found[str(process.pid)].kernel_seconds > 0
        finally:
            process.kill()


def test_an_operand_that_a_node_has_is_not_sent_again(everywhere: ClusterEngine) -> None:
    a, b = operands(900, 500, 400)
    assert np.allclose(everywhere.matmul(a, b), a @ b, rtol=1e-4, atol=1e-3)
    moved = a.nbytes + 900 * 400 * 4
    assert everywhere.last is not None
    sent = len(everywhere.last.devices) * b.nbytes
    assert everywhere.last.copied == moved + sent
    assert np.allclose(everywhere.matmul(a, b), a @ b, rtol=1e-4, atol=1e-3)
    assert everywhere.last is not None and everywhere.last.copied == moved
    b[7, 9] += 1.0
    assert np.allclose(everywhere.matmul(a, b), a @ b, rtol=1e-4, atol=1e-3)
    assert everywhere.last is not None and everywhere.last.copied == moved + sent


def test_what_a_node_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "IDLE_BYTES", 300)
    arrays = {f"a{n}": np.full(100, n, np.uint8) for n in range(5)}
    node = held.Operands()
    for name, array in arrays.items():
        assert node.keep("engine", [name], {}) == [name]
        assert node.keep("engine", [name], {name: array}) == []
        assert node.of("engine")[0] is array
    node.drop("engine")
    assert list(node.held) == ["a2", "a3", "a4"]
    # What a job under way needs is not counted, however much it is.
    assert node.keep("other", ["a3", "big"], {"big": np.zeros(5000, np.uint8)}) == []
    node.drop("engine")
    assert [array.nbytes for array in node.of("other")] == [100, 5000] and "a4" in node.held
    node.drop("other")
    assert "big" not in node.held
    for n in range(held.OWNERS + 3):
        node.keep(f"dead {n}", [f"b{n}"], {f"b{n}": np.zeros(5000, np.uint8)})
    assert len(node.owners) == held.OWNERS and len(node.held) <= held.OWNERS + 3


def test_names_of_operands_tell_type_shape_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = [np.zeros(6, np.float32), np.zeros((2, 3), np.float32), np.zeros(6, np.int32), np.zeros(0)]
    names = [held.name_of(array) for array in [*zeros, np.ones(6, np.float32)]]
    assert len(set(names)) == len(names)
    assert held.name_of(np.zeros((3, 2), np.float32).T) == names[1]
    monkeypatch.setattr(held, "IDLE_BYTES", 10)
    assert held.name_of(zeros[0]) != held.name_of(zeros[0])
