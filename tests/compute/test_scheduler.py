"""Splitting, losing devices, refusing wrong results: on devices that misbehave on purpose."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import numpy as np
import pytest

from compute.rig import Array, Gone, Scripted, Stuck, equal, host_and, matrices
from nexus.compute.calibration import Calibration
from nexus.compute.chunks import next_size
from nexus.compute.devices.base import Device
from nexus.compute.devices.host import HostDevice
from nexus.compute.errors import DeviceLost, WrongResult
from nexus.compute.job import Job
from nexus.compute.scheduler import Run
from nexus.compute.verify import Projection


def flip(result: Array, call: int) -> None:
    if call == 1:
        result[result.shape[0] // 2, 3] *= -1.0


def poison(result: Array, call: int) -> None:
    result[0, 0] = np.nan


def wait_for(device: Stuck) -> None:
    device.entered.wait()


def big() -> tuple[Array, Array]:
    a, b = matrices(512, 256, 256)
    return a, b


def test_one_flipped_element_is_caught() -> None:
    engine = host_and(Scripted("liar", flip))
    a, b = big()
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
    assert engine.last is not None
    assert "liar: wrong result refused: row" in engine.last.notes[0]
    assert [row.units for row in engine.last.devices] == [512, 0]
    assert len(engine.last.recoveries) == 1


def test_nan_from_a_device_is_its_fault_when_the_operands_have_none() -> None:
    engine = host_and(Scripted("poisoner", poison))
    a, b = big()
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)


def test_many_flips_of_every_element_size_are_caught() -> None:
    """Freivalds' check finds each change above the bound, wherever it is."""
    rng = np.random.default_rng(5)
    a, b = big()
    caught = 0
    for _ in range(20):
        row, column = int(rng.integers(0, 256)), int(rng.integers(0, 256))

        def add(result: Array, call: int, row: int = row, column: int = column) -> None:
            if call == 1:
                result[row, column] += 5.0

        engine = host_and(Scripted("liar", add))
        assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
        assert engine.last is not None
        caught += engine.last.devices[1].wrong
    assert caught == 20


def test_a_wrong_result_without_another_device_is_an_error() -> None:
    engine = equal(Scripted("liar", flip))
    with pytest.raises(WrongResult, match="no device is left"):
        engine.matmul(*big())
    a, b = big()
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)


def test_a_lost_device_costs_its_chunk() -> None:
    engine = host_and(Gone("gone"))
    a, b = big()
    assert np.allclose(engine.matmul(a, b), a @ b, atol=1e-3)
    assert engine.last is not None
    assert engine.last.notes == ["gone went away"]
    assert len(engine.last.recoveries) == 1 and engine.last.devices[1].lost


@pytest.mark.parametrize("equally", [True, False])
def test_a_device_lost_before_its_first_chunk_costs_nothing(equally: bool) -> None:
    class Unready(Scripted):
        def prepare(self, job: Job) -> None:
            raise DeviceLost("unready went away")

    x = np.arange(1000.0)
    job = Job("map", 1000, (x,), np.zeros(1000), {"function": np.sqrt})
    devices = [Scripted("one"), Unready("unready"), Scripted("two")]
    report = Run(job, devices, [1.0, 1.0, 1.0], equal=equally).run()
    assert np.array_equal(job.out, np.sqrt(x)) and report.notes == ["unready went away"]


def test_all_devices_lost() -> None:
    engine = equal(Gone("one"), Gone("two"))
    with pytest.raises(DeviceLost, match="no device is left for 512 of 512 units"):
        engine.matmul(*big())


def test_a_stalled_chunk_is_taken_over_and_its_late_result_ignored() -> None:
    stuck = Stuck("stuck")
    x = np.arange(1000.0)
    job = Job("map", 1000, (x,), np.zeros(1000), {"function": np.sqrt})
    other = Scripted("other", lambda result, call: wait_for(stuck))
    report = Run(job, [other, stuck], [1e5, 1e5]).run()
    assert stuck.given_up.is_set()
    assert np.array_equal(job.out, np.sqrt(x))
    assert "stuck: stalled for" in report.notes[0] and len(report.recoveries) == 1


def test_first_chunks_follow_the_rates_and_the_tail_shrinks() -> None:
    sizes: dict[str, list[int]] = {"fast": [], "slow": []}

    class Recorder(Scripted):
        def run(self, job: Job, start: int, stop: int) -> Array | None:
            sizes[self.name].append(stop - start)
            return super().run(job, start, stop)

    units = 100_000
    job = Job("map", units, (np.zeros(units),), np.empty(units), {"function": np.exp})
    report = Run(job, [Recorder("fast"), Recorder("slow")], [3e6, 1e6]).run()
    assert sum(sizes["fast"]) + sum(sizes["slow"]) == units
    # 60 % of a share of 3/4 and of 1/4.
    assert sizes["fast"][:1] in ([45_000], []) and sizes["slow"][:1] in ([15_000], [])
    assert report.units == units and (job.out == 1.0).all()


@pytest.mark.parametrize("units", [1, 2, 127, 128, 129, 1000])
@pytest.mark.parametrize("granule", [1, 128])
@pytest.mark.parametrize("equally", [True, False])
def test_every_unit_is_done_once(units: int, granule: int, equally: bool) -> None:
    counts = np.zeros(units)
    job = Job("map", units, (np.zeros(units),), np.full(units, -1.0), {"function": np.exp}, granule=granule)

    class Counter(Scripted):
        def run(self, job: Job, start: int, stop: int) -> Array | None:
            counts[start:stop] += 1
            assert start % granule == 0
            return super().run(job, start, stop)

    Run(job, [Counter("a"), Counter("b"), Counter("c")], [1.0, 2.0, 5.0], equal=equally).run()
    assert (counts == 1).all() and (job.out == 1.0).all()


def test_a_device_whose_smallest_piece_outlasts_the_job_is_left_out() -> None:
    """At 10 units a second a granule of 100 takes 10 s, and the job 1 s without it."""
    job = Job("map", 1000, (np.zeros(1000),), np.zeros(1000), {"function": np.sqrt}, granule=100)
    devices = [Scripted("fast"), Scripted("slow")]
    known = Calibration("")
    known.rows[known.key(job, devices)] = {"alone": [1e3, 10.0], "together": [1e3, 10.0], "kept": [0, 1]}
    notes: list[str] = []
    assert known.choose(job, devices, notes.append) == ([devices[0]], [1e3])
    assert notes == ["slow is left out: its smallest piece takes 10 s of a job of 0.99 s (measured)"]


def test_a_device_gets_whole_pieces_of_its_own_size() -> None:
    sizes: list[int] = []

    class Coarse(Scripted):
        def granule(self, job: Job) -> int:
            return 32

        def run(self, job: Job, start: int, stop: int) -> Array | None:
            sizes.append(stop - start)
            return super().run(job, start, stop)

    job = Job("map", 1000, (np.arange(1000.0),), np.zeros(1000), {"function": np.sqrt}, granule=8)
    Run(job, [Coarse("coarse"), Scripted("fine")], [1e6, 1e6]).run()
    assert np.array_equal(job.out, np.sqrt(np.arange(1000.0)))
    assert all(size % 32 == 0 for size in sizes[:-1])


def test_host_alone_takes_everything_at_once() -> None:
    engine = equal(HostDevice())
    engine.matmul(*big())
    assert engine.last is not None and engine.last.devices[0].chunks == 1


class Deep(Scripted):
    """Takes two chunks at a time; neither of the first two returns before the other is there."""

    depth = 2

    def __init__(self, name: str, spoil: Callable[[Array, int], None] = lambda result, call: None) -> None:
        super().__init__(name, spoil)
        self.both = threading.Barrier(2)
        self.paired = 0

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        if self.both.n_waiting or not self.paired:
            self.both.wait(timeout=30)
            self.paired += 1
        return super().run(job, start, stop)


def on_one(device: Deep, *others: Device) -> Run:
    a, b = big()
    params = {"scale": 1.0, "exact": False}
    out = np.zeros((512, 256), np.float32)
    checker = Projection(a, b, 1.0, np.random.default_rng(0))
    job = Job(
        "matmul", 512, (a, b), out, params, granule=8, work=1e6,
        check=lambda start, stop, roundoff: checker.check(out, start, stop, roundoff),
    )  # fmt: skip
    return Run(job, [device, *others], [1e5] * (1 + len(others)))


def test_a_device_may_hold_two_chunks() -> None:
    device = Deep("deep")
    run = on_one(device)
    report = run.run()
    assert device.paired == 2 and report.devices[0].chunks > 2
    a, b = big()
    assert np.allclose(run.job.out, a @ b, atol=1e-3)
    spans = report.devices[0].spans
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert report.devices[0].busy <= report.seconds


def add(result: Array) -> None:
    result += 1.0


def lose(result: Array) -> None:
    raise DeviceLost("deep went away")


@pytest.mark.parametrize(("act", "note"), [(add, "wrong result"), (lose, "went away")])
def test_both_chunks_of_a_lost_device_are_done_by_others(act: Callable[[Array], None], note: str) -> None:
    turns = [act]

    def once(result: Array, call: int) -> None:
        with lock:
            taken = turns.pop() if turns else None
        if taken:
            taken(result)

    lock = threading.Lock()
    run = on_one(Deep("deep", once), Scripted("other"))
    report = run.run()
    a, b = big()
    assert np.allclose(run.job.out, a @ b, atol=1e-3)
    assert note in report.notes[0] and report.devices[0].lost and 1 <= len(report.recoveries) <= 2
    assert sum(row.units for row in report.devices) == 512


def test_sizes_of_chunks() -> None:
    """A long and a short one in turns; never more than what is left; single devices take all at once."""
    assert next_size(1000, 1000, 1, 1.0, 1.0, given=0) == 1000
    assert next_size(1000, 1000, 1, 1.0, 0.5, given=0) == 300
    assert next_size(400, 1000, 8, 1.0, 0.5, given=1) == 104
    assert next_size(1000, 1000, 1, 1.0, 0.5, given=0, depth=2) == 50
    assert next_size(900, 1000, 1, 1.0, 0.5, given=1, held=50, depth=2) == 250
    assert next_size(400, 1000, 1, 1.0, 0.5, given=2, held=250, depth=2) == 32
    assert next_size(400, 1000, 1, 1.0, 0.5, given=3, held=32, depth=2) == 68
    assert next_size(3, 1000, 1, 100.0, 0.5, given=9, held=8, depth=2, shortest=0.1) == 3
