"""What a few ratios are said to mean, and the table, the values and the picture made of them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest

from nexus.base.errors import UsageError
from nexus.cli import bench
from nexus.system.bench import chart, contenders, statistics, table
from nexus.system.bench.contenders import Contender
from nexus.system.bench.measure import Row, calibrate, pair


class FakeKernel:
    name, level = "fib", 2


def row(contender: str, ratios: list[float], steady: bool = True) -> Row:
    made = Row(FakeKernel(), contender, 100)  # type: ignore[arg-type]
    made.ratios, made.seconds, made.steady = ratios, 0.25, steady
    return made


def test_interval_of_the_median() -> None:
    """Ranks from published tables of the sign test: n = 15 has the 4th and 12th value, n = 6 the extremes."""
    values = [float(n) for n in range(1, 16)]
    assert statistics.interval(values[::-1]) == (4.0, 12.0)
    assert statistics.interval(values[:6]) == (1.0, 6.0)
    assert statistics.interval(values[:10]) == (2.0, 9.0)
    assert statistics.interval(values[:5]) is None


def test_medians_and_means() -> None:
    assert statistics.median([3.0, 1.0, 2.0]) == 2.0
    assert statistics.median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert statistics.geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)


def test_steady_needs_native_to_be_as_fast_as_native() -> None:
    assert statistics.steady([0.97, 1.0, 1.01, 0.99, 1.02, 1.03, 1.0])
    assert not statistics.steady([0.97, 1.0, 1.01, 0.99, 1.02, 1.2, 1.3])
    assert not statistics.steady([1.0] * 5)


def test_table_leaves_kernels_without_verdict_out_of_the_means() -> None:
    good = [row("native", [1.0] * 7), row("t1", [2.0] * 7)]
    bad = [row("native", [1.0] * 7, steady=False), row("t1", [50.0] * 7, steady=False)]
    for one in bad:
        one.kernel = "sieve"
    _, fib, sieve, mean, *_ = [" ".join(line.split()) for line in table.text([*good, *bad]).splitlines()]
    assert fib == "fib -O2 250.0 1.00 1.00-1.00 2.00 2.00-2.00"
    assert sieve == "sieve -O2 250.0 1.00 1.00-1.00 50.0 50.0-50.0 no verdict"
    assert mean == "mean -O2 1.00 2.00 of 1 kernels"
    assert table.means([*good, *bad])[2, "t1"] == (pytest.approx(2.0), 1, 2)
    values = table.values([*good, *bad], 1.0, 7, {"wine": "not installed"})
    assert [(r["contender"], r["verdict"]) for r in values["rows"]] == [
        ("native", True), ("t1", True), ("native", False), ("t1", False),
    ]  # fmt: skip


def test_picture_has_a_bar_per_kernel_and_contender_on_a_logarithmic_scale() -> None:
    rows = [
        row("native", [1.0] * 7),
        row("t1", [1.0] * 7),
        row("t0", [10.0] * 7),
        row("unicorn", [100.0] * 7),
    ]
    root = ElementTree.fromstring(chart.svg(rows))
    bars = [
        float(e.get("width", "")) for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("opacity")
    ]
    steps = [b - a for a, b in pairwise(bars)]
    assert len(bars) == 3 and steps[0] == pytest.approx(steps[1], abs=0.2) and steps[0] > 10


class Clocked(Contender):
    """Takes so many seconds per unit, and remembers the order of calls."""

    def __init__(self, each: float, order: list[str], name: str) -> None:
        self.each, self.order, self.name = each, order, name

    def measure(self, n: int) -> tuple[int, float]:
        self.order.append(self.name)
        return n, n * self.each


def test_calibration_finds_the_amount_of_work() -> None:
    assert calibrate(Clocked(1e-6, [], ""), 0.5) == pytest.approx(500_000, rel=0.01)
    assert calibrate(Clocked(1e-6, [], ""), 0.5, limit=1000) == 1000
    assert calibrate(Clocked(1.0, [], ""), 0.5) == 1


class Warming(Clocked):
    """A hundred times slower while it does its first 200 units."""

    done = 0

    def measure(self, n: int) -> tuple[int, float]:
        slow, self.done = min(n, max(200 - self.done, 0)), self.done + n
        return n, (slow * 100 + n - slow) * self.each


def test_calibration_waits_for_what_becomes_faster() -> None:
    assert calibrate(Warming(1e-5, [], ""), 0.5) == pytest.approx(50_000, rel=0.05)
    assert calibrate(Warming(1e-5, [], ""), 0.5, limit=20_000) == 20_000


def test_pairs_alternate() -> None:
    order: list[str] = []
    native, other = Clocked(1.0, order, "native"), Clocked(3.0, order, "other")
    one = row("other", [])
    assert pair(native, other, one, False) == (100.0, 300.0)
    assert pair(native, other, one, True) == (100.0, 300.0)
    assert order == ["native", "other", "other", "native"]


def test_what_is_absent_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path))
    monkeypatch.setattr(contenders.shutil, "which", lambda name: None)
    monkeypatch.setattr(contenders.Apt, "for_this_machine", lambda: None)
    with pytest.raises(contenders.Absent, match="qemu-user is not installed, and this machine has no apt"):
        contenders.maker("qemu", "python")
    with pytest.raises(contenders.Absent, match="Wine is not installed"):
        contenders.maker("wine", "python")
    assert contenders.is_qemu("./usr/bin/qemu-x86_64-static") and not contenders.is_qemu("usr/bin/qemu-x86")


def test_kernels_that_need_avx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unicorn has none; without it on the host there is nothing to compare with."""
    monkeypatch.setattr(contenders, "host_flags", lambda: frozenset(("sse2",)))
    assert contenders.can_run("native", "fib") and contenders.can_run("unicorn", "fib")
    assert not contenders.can_run("native", "matrix")
    assert not contenders.can_run("unicorn", "matrix")
    assert contenders.can_run("t1", "matrix")


def test_unknown_names_are_refused() -> None:
    for words in (["--kernel", "nope"], ["--engine", "t9"], ["--level", "3"], ["sieve"]):
        with pytest.raises(UsageError):
            bench.main(words)


def test_the_picture_must_be_writable_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match=r"--chart /nowhere/x\.svg: No such file"):
        bench.main(["--chart", "/nowhere/x.svg"])
