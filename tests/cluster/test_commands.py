"""The commands: what they refuse, and that what they print is what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus.base.errors import UsageError
from nexus.cli import bench_all, compute, compute_cluster, compute_simulate
from nexus.cli.bench_all import NotMeasured
from nexus.compute.errors import ComputeError
from nexus.system.bench.report import Figure, Section


@pytest.mark.parametrize(
    "arguments",
    [
        ["cluster", "dance"],
        ["cluster", "keys"],
        ["cluster", "node"],
        ["cluster", "node", "a", "b"],
        ["cluster", "scheduler", "x"],
        ["cluster", "node", "tcp://127.0.0.1:1", "--share", "2"],
        ["cluster", "node", "tcp://127.0.0.1:1", "--share", "all"],
        ["cluster", "bench", "--nodes", "0"],
        ["simulate", "weather"],
        ["simulate", "exaflop", "overhead"],
        ["simulate", "--precision", "fp7"],
        ["simulate", "--samples", "-1"],
        ["simulate", "overhead", "--picture", "x.svg"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        compute.main(arguments)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for main in (compute_cluster.main, compute_simulate.main, bench_all.main):
        assert main(["--help"]) == 0
        assert "usage: nexus" in capsys.readouterr().out
    assert compute_cluster.main([]) == 2


def test_simulate_prints_a_table_or_json_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "curve.svg"
    words = ["simulate", "--precision", "fp8", "--samples", "2"]
    assert compute.main([*words, "--picture", str(picture)]) == 0
    assert "simulated" in capsys.readouterr().out and picture.read_text().startswith("<svg")
    assert compute.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["label"] == "simulated" and [row["precision"] for row in found["curves"]] == ["fp8"]


def test_status_of_nothing() -> None:
    with pytest.raises(ComputeError, match="cannot be reached"):
        compute.main(["cluster", "status", "tcp://127.0.0.1:1"])


def test_a_report_tells_what_could_not_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def guests(section: Section, quick: bool) -> None:
        raise NotMeasured("no sysroot here")

    def scale(section: Section, quick: bool) -> None:
        section.figures.append(Figure("nodes", "simulated", 100.0, "nodes"))

    monkeypatch.setattr(bench_all, "guests", guests)
    monkeypatch.setattr(bench_all, "scale", scale)
    words = ["--output", str(tmp_path), "--part", "guests", "--part", "scale"]
    assert bench_all.main(words) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "report.html") and "no sysroot here" in said.err
    found: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert [section["absent"] for section in found["sections"]] == ["no sysroot here", ""]
    assert bench_all.main(["--output", str(tmp_path), "--part", "guests"]) == 1
    with pytest.raises(UsageError):
        bench_all.main(["--part", "weather"])


def test_a_command_that_fails_is_not_measured() -> None:
    with pytest.raises(NotMeasured):
        bench_all.command("compute", "devices", "extra")
