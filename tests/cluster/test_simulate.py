"""The simulator against arithmetic: what one can say of a job without simulating it must come out."""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import pytest

from nexus.compute.errors import BadInput, ComputeError
from nexus.compute.simulate import overhead, scale, table
from nexus.compute.simulate.campaign import Campaign, play
from nexus.compute.simulate.farm import Farm, simulate
from nexus.compute.simulate.model import Loss, Machine, Work
from nexus.compute.simulate.picture import svg


def test_one_node_takes_its_kernel_its_messages_and_its_data() -> None:
    machine = Machine(
        rates=(10.0,), latency=0.2, dispatch=0.05, start=0.01, bandwidth=1e6, root_bandwidth=1e6
    )
    outcome = simulate(Work(units=100, bytes_in=1000.0, bytes_out=500.0, shared=2e6), machine)
    assert outcome.chunks == 1
    assert outcome.seconds == pytest.approx(100 / 10 + 0.2 + 0.05 + 0.01 + 100 * 1500 / 1e6 + 2.0)
    assert outcome.moved == 100 * 1500 + 2e6
    assert outcome.efficiency == pytest.approx(10 / outcome.seconds)


@pytest.mark.parametrize("nodes", [2, 5, 8, 100])
def test_equal_nodes_share_a_job_to_within_a_granule(nodes: int) -> None:
    outcome = simulate(Work(units=1000 * nodes), Machine(rates=(50.0,) * nodes))
    assert 20.0 - 1e-9 <= outcome.seconds <= 20.0 + 2 / 50.0
    assert outcome.busy == pytest.approx(20.0 * nodes)


def test_uneven_nodes_end_together() -> None:
    rates = (100.0, 50.0, 10.0, 1.0)
    outcome = simulate(Work(units=16100), Machine(rates=rates))
    assert 100.0 <= outcome.seconds <= 101.0


def test_rates_that_were_believed_wrong_are_found_out() -> None:
    machine = Machine(rates=(20.0, 40.0, 40.0), believed=(40.0, 40.0, 40.0))
    outcome = simulate(Work(units=3000), machine)
    assert 30.0 <= outcome.seconds <= 30.6


def test_data_through_one_link_takes_as_long_as_the_link_needs() -> None:
    machine = Machine(rates=(1e4,) * 16, believed=(62.0,) * 16, bandwidth=1e9, root_bandwidth=1e8)
    outcome = simulate(Work(units=10_000, bytes_in=1e5), machine)
    assert outcome.seconds == pytest.approx(10_000 * 1e5 / 1e8, rel=0.02)
    fat = Machine(rates=(1e5,) * 16, believed=(1e3,) * 16, bandwidth=1e8, topology="fat-tree")
    assert simulate(Work(units=10_000, bytes_in=1e5), fat).seconds == pytest.approx(10.0 / 16, rel=0.05)


def test_streamed_data_hides_behind_the_work() -> None:
    work = Work(units=1000, bytes_in=1e6)
    machine = Machine(rates=(10.0,), bandwidth=2e7, topology="fat-tree")
    assert simulate(work, machine).seconds == pytest.approx(100 + 50)
    streamed = Machine(rates=(10.0,), bandwidth=2e7, topology="fat-tree", streamed=True)
    assert simulate(work, streamed).seconds == pytest.approx(100 + 0.05)


def test_a_lost_node_costs_its_chunk_and_not_the_job() -> None:
    quiet = simulate(Work(units=4000), Machine(rates=(10.0,) * 4))
    lost = Machine(rates=(10.0,) * 4, losses=(Loss(node=2, at=30.0, noticed=1.0),))
    outcome = simulate(Work(units=4000), lost)
    assert len(outcome.recoveries) == 1
    assert outcome.seconds >= (4000 - 0) / 40
    # The chunk of the lost node, 60 units for every 100 of its share, is done again by three.
    assert quiet.seconds + 10 < outcome.seconds < 4000 / 30 + 30


def test_a_loss_that_nobody_reports_is_noticed_as_a_stall() -> None:
    silent = Machine(rates=(10.0,) * 4, losses=(Loss(node=1, at=10.0, noticed=math.inf),))
    outcome = simulate(Work(units=4000), silent)
    assert len(outcome.recoveries) == 1 and outcome.seconds > 200


def test_without_nodes_there_is_an_error() -> None:
    with pytest.raises(ComputeError, match="no simulated node"):
        simulate(Work(units=100), Machine(rates=(1.0, 1.0), losses=(Loss(0, 3.0), Loss(1, 4.0))))


def test_seeds_repeat_and_differ() -> None:
    machine = Machine(rates=(10.0,) * 6, jitter=0.1, stragglers=0.05, slowdown=3.0)
    first, again, other = (simulate(Work(units=900), machine, seed).seconds for seed in (1, 1, 2))
    assert first == again != other


def test_more_schedulers_relieve_a_busy_one() -> None:
    one = Machine(rates=(10.0,) * 400, dispatch=0.02)
    many = Machine(rates=(10.0,) * 400, dispatch=0.02, fanout=20)
    work = Work(units=400 * 400, granule=4)
    alone, grouped = simulate(work, one), simulate(work, many)
    assert alone.busiest_scheduler == pytest.approx(alone.chunks * 0.02)
    assert grouped.busiest_scheduler < alone.busiest_scheduler / 4
    assert grouped.efficiency > alone.efficiency + 0.1


@pytest.mark.parametrize("fanout", [0, 8])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("topology", ["star", "fat-tree"])
def test_every_unit_is_done_once(topology: str, depth: int, fanout: int) -> None:
    machine = Machine(
        rates=tuple(5.0 + n % 7 for n in range(50)),
        jitter=0.3,
        topology=topology,
        depth=depth,
        fanout=fanout,
        latency=0.01,
        dispatch=0.001,
        bandwidth=1e8,
    )
    farm = Farm(Work(units=20_011, bytes_in=10.0, granule=3), machine, seed=4)
    outcome = farm.run()
    assert sum(node.units for node in farm.nodes) == 20_011
    assert outcome.seconds >= 20_011 / sum(machine.rates)


def test_memory_is_bounded_by_what_is_under_way() -> None:
    class Watched(Farm):
        largest = 0

        def at(self, time: float, action: Callable[..., None], *arguments: object) -> None:
            super().at(time, action, *arguments)
            self.largest = max(self.largest, len(self.heap))

    farm = Watched(Work(units=300_000), Machine(rates=(10.0,) * 300, jitter=0.1))
    farm.run()
    assert farm.outcome.events > 6000
    assert farm.largest <= 2 * 300


def test_energy_is_power_times_time() -> None:
    outcome = simulate(Work(units=100), Machine(rates=(1.0,), busy_watts=700.0, idle_watts=100.0))
    assert outcome.joules == pytest.approx(100 * 700.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Machine(rates=()),
        lambda: Machine(rates=(1.0, 0.0)),
        lambda: Machine(rates=(1.0,), believed=(1.0, 2.0)),
        lambda: Machine(rates=(1.0,), topology="ring"),
        lambda: Machine(rates=(1.0,), latency=-1.0),
        lambda: Machine(rates=(1.0,), bandwidth=0.0),
        lambda: Machine(rates=(1.0,), fanout=1),
        lambda: Machine(rates=(1.0,), losses=(Loss(3, 1.0),)),
        lambda: Campaign(seconds=0, nodes=1, mtbf=1, checkpoint=1, restart=1),
        lambda: play(Campaign(seconds=1e5, nodes=1000, mtbf=10.0, checkpoint=1.0, restart=60.0)),
    ],
)
def test_bad_input(wrong: Callable[[], Any]) -> None:
    with pytest.raises(BadInput):
        wrong()


def test_a_campaign_without_failures_pays_for_checkpoints_only() -> None:
    course = play(Campaign(seconds=1000, nodes=1, mtbf=1e12, checkpoint=2.0, restart=5.0, interval=100.0))
    assert (course.seconds, course.checkpoints, course.failures) == (1000 + 9 * 2.0, 9, 0)


def test_a_campaign_with_failures_takes_what_dalys_formula_says() -> None:
    """Daly 2006: exponential failures, segments of work and checkpoint repeated until one passes."""
    mtbf, interval, checkpoint, restart, work = 500.0, 100.0, 10.0, 20.0, 10_000.0
    expected = (mtbf + restart) * (math.exp((interval + checkpoint) / mtbf) - 1) * work / interval
    campaign = Campaign(work, 10, mtbf * 10, checkpoint, restart, interval)
    found = statistics.mean(play(campaign, seed).seconds for seed in range(400))
    assert found == pytest.approx(expected, rel=0.03)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return scale.report(["fp8", "bf16"], 3)


def test_the_curve_reaches_its_goal_below_peak(report: dict[str, Any]) -> None:
    for curve in report["curves"]:
        found = curve["at_1_eflops"]
        assert scale.GOAL / curve["gpu_rate"]["high"] < found["gpus"] < 2 * scale.GOAL / curve["gpu_peak"]
        for point in curve["points"]:
            flops = point["flops"]
            assert flops["p5"] <= flops["median"] <= flops["p95"] < point["gpus"] * curve["gpu_peak"]
    fp8, bf16 = (curve["at_1_eflops"]["gpus"] for curve in report["curves"])
    assert fp8 < bf16


def test_every_figure_says_what_it_is(report: dict[str, Any]) -> None:
    assert report["label"] == "simulated"
    assert all(curve["label"] == "simulated" for curve in report["curves"])
    assert {row["label"] for row in report["ranges"].values()} <= {"measured", "published", "peak", "assumed"}
    assert all(record["label"] == "published" and record["source"] for record in report["records"])
    assert "simulated" in table.text(report) and "neither HPL nor HPL-MxP" in table.text(report)


def test_precisions_are_never_mixed_in_the_picture(report: dict[str, Any]) -> None:
    picture = ElementTree.fromstring(svg(report))
    words = [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    # Without the fp64 curve no HPL record has a place; HPL-MxP has one of its own.
    assert not any("HPL (published)" in text for text in words)
    assert any("HPL-MxP records" in text for text in words)
    double = {**report, "curves": [{**report["curves"][0], "precision": "fp64"}]}
    words = [element.text or "" for element in ElementTree.fromstring(svg(double)).iter()]
    assert any("El Capitan" in text and "HPL (published)" in text for text in words)


def test_overhead_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "NODES", (8, 200))
    rows = overhead.rows(0.001, 0.002)
    assert [(row["nodes"], row["schedulers"]) for row in rows] == [(8, 1), (200, 1), (200, 3)]
    assert all(0.9 < row["efficiency"] < 1 for row in rows)
    assert "200" in overhead.text(rows)
