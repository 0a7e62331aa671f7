"""The measurements: what their rows say, with and without a device of the kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compute import fake_torch
from nexus.cli import compute as command
from nexus.compute.bench import gpu, host, split
from nexus.compute.devices.accelerator import Accelerator
from nexus.compute.devices.torch_library import TorchLibrary


@pytest.fixture
def h200(monkeypatch: pytest.MonkeyPatch) -> None:
    made = lambda memory: [Accelerator(TorchLibrary(fake_torch, "cuda:0"), 0)]  # noqa: E731
    monkeypatch.setattr(gpu, "accelerators", made)
    monkeypatch.setattr(gpu, "CALLS", 2)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert command.main(["bench", "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_matrix_units_beside_the_vendors_library(h200: None) -> None:
    rows = gpu.tensor(64)
    assert [row["precision"] for row in rows] == ["bf16", "fp8_e4m3", "fp16", "tf32", "int8", "fp32"]
    for row in rows:
        assert row["vendor_library_tflops_measured"] > 0 and row["engine_tflops_measured"] > 0
        assert row["relative_error_sampled"] <= row["relative_error_bound"]
    assert rows[1]["tflops_peak"] == 1979.0 and rows[1]["units"] == "fp8_e4m3"


def test_points_beside_a_copy(h200: None) -> None:
    on_gpu, on_host = gpu.bandwidth(1000)
    assert on_gpu["gigabytes_per_second_peak"] == 4800.0 and on_gpu["of_peak_measured"] > 0
    assert on_host["copy_gigabytes_per_second_measured"] > 0


@pytest.mark.parametrize("subject", ["tensor", "points"])
def test_without_a_gpu_the_same_command_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, subject: str
) -> None:
    monkeypatch.setattr(gpu, "accelerators", lambda memory: [])
    monkeypatch.setattr(command, "POINTS", 1000)
    rows = run(capsys, subject, "--size", "64")
    assert rows[0]["absent"] == "no such device" and len(rows) > 1


def test_every_figure_has_a_label_and_a_precision(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "ROUNDS", 1)
    monkeypatch.setattr(host, "LONG", 0.0)
    monkeypatch.setattr(split, "ROUNDS", 1)
    monkeypatch.setattr(split, "CAPACITY_SECONDS", 0.05)
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    rows = run(capsys, "import", "numpy", "formats", "mixed", "gpus", "--size", "256", "--share", "0.5")
    for row in rows:
        assert row["precision"]
        for name, value in row.items():
            assert not isinstance(value, float) or name.rpartition("_")[2] in (
                "measured", "peak", "sampled", "bound",
            ), name  # fmt: skip
