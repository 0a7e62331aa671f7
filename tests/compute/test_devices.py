"""Finding devices, the GPU kernels where a Vulkan driver is there, the command, and what an import costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from compute.rig import equal, matrices
from nexus.base.folders import CHECKOUT
from nexus.cli import compute as command
from nexus.compute.devices import discovery, wgsl
from nexus.compute.devices.discovery import Found
from nexus.compute.devices.host import HostDevice
from nexus.compute.engine import Engine

NO_VULKAN = "no Vulkan device for wgpu; a software one is in mesa-vulkan-drivers"


@pytest.fixture(scope="module")
def gpu() -> Engine:
    gpus = discovery.usable_gpus(None)
    if not gpus:
        pytest.skip(NO_VULKAN)
    return equal(gpus[0])


@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 33, 5), (64, 64, 64), (130, 70, 90)])
@pytest.mark.parametrize("variant", wgsl.PRODUCTS, ids=lambda variant: variant.name)
def test_products_on_a_gpu(gpu: Engine, shape: tuple[int, int, int], variant: wgsl.Variant) -> None:
    a, b = matrices(*shape)
    gpu.devices[0].variant = variant  # type: ignore[attr-defined]
    assert np.allclose(gpu.matmul(a, b), a.astype(np.float64) @ b, atol=1e-4)
    assert gpu.last is not None and gpu.last.copied >= a.nbytes + b.nbytes


def test_a_product_larger_than_the_gpu_allows(gpu: Engine) -> None:
    a, b = matrices(150, 200, 120)
    gpu.devices[0].memory = 40_000
    try:
        wanted = equal(HostDevice()).matmul(a, b, dtype="bf16")
        assert np.allclose(gpu.matmul(a, b, dtype="bf16"), wanted, atol=1e-3)
    finally:
        gpu.devices[0].memory = None


def test_points_on_a_gpu(gpu: Engine) -> None:
    rng = np.random.default_rng(8)
    points, matrix = rng.standard_normal((100_001, 4), np.float32), rng.standard_normal((4, 4), np.float32)
    assert np.allclose(gpu.transform(points, matrix), points @ matrix.T, atol=1e-5)


def test_devices_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["devices", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["devices"]
    assert rows[0]["backend"] == "numpy"
    assert all(set(row) == set(Found("", "", "").as_json()) for row in rows)


def test_faults_are_survived_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["bench", "faults", "--json", "--size", "512"]) == 0
    killed, changed = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert killed["right"] and changed["right"]
    assert "wrong result refused" in changed["notes"][0] and len(changed["recovery_seconds_measured"]) == 1


def test_importing_the_package_loads_no_numpy() -> None:
    code = "import sys, nexus.compute; print(sorted({'numpy', 'wgpu', 'torch', 'json'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.path.join(CHECKOUT, "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"
