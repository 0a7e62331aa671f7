"""The report of `nexus bench all`: labels, charts that mix nothing, and text that stays text."""

from __future__ import annotations

import json

import pytest

from nexus.system.bench.report import Figure, Section, as_json, html


def section() -> Section:
    made = Section("devices")
    made.figures = [
        Figure("a", "measured", 12.0, "GFLOP/s", "rate:"),
        Figure("b", "measured", 24.0, "GFLOP/s", "rate:"),
        Figure("c", "peak", 4800.0, "GFLOP/s", "rate:"),
        Figure("d <script>", "simulated", 0.5, "MW"),
    ]
    made.notes = ["<b>"]
    return made


def test_what_differs_in_label_is_never_in_one_chart() -> None:
    page = html({"processor": "<x>"}, [section()])
    charts = page.split("<svg")[1:]
    assert len(charts) == 2
    assert "rate: GFLOP/s (measured)" in charts[0] and ">24<" in charts[0] and "4,800" not in charts[0]
    assert "rate: GFLOP/s (peak)" in charts[1]
    assert "<td>simulated" in page


def test_nothing_that_was_measured_is_markup() -> None:
    page = html({"processor": "<x>"}, [section()])
    assert "<script" not in page and "<b>" not in page and "<x>" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "src=" not in page


def test_what_could_not_be_measured_says_why() -> None:
    made = Section("guests")
    made.absent = "no sysroot"
    assert "not measured: no sysroot" in html({}, [made])
    assert as_json({}, [made])["sections"][0]["absent"] == "no sysroot"


def test_json_has_every_figure_with_its_label() -> None:
    found = json.loads(json.dumps(as_json({"cores": 2}, [section()])))
    assert found["version"] == 1 and found["machine"] == {"cores": 2}
    assert [row["label"] for row in found["sections"][0]["figures"]] == [
        "measured",
        "measured",
        "peak",
        "simulated",
    ]


def test_a_figure_without_a_label_is_none() -> None:
    with pytest.raises(ValueError, match="not 'guessed'"):
        Figure("x", "guessed", 1.0, "s")
