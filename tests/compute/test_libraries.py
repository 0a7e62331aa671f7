"""With the libraries themselves where they are installed: DLPack both ways, and the Triton kernel."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from compute.rig import equal, matrices
from nexus.base.folders import CHECKOUT
from nexus.compute.devices.host import HostDevice

pytestmark = pytest.mark.long


def installed(name: str) -> Any:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(name)


def test_torch_arrays_in_and_out_without_a_copy() -> None:
    torch = installed("torch")
    a, b = (torch.from_numpy(array) for array in matrices(64, 64, 64))
    engine = equal(HostDevice())
    c = engine.matmul(a, b)
    assert engine.last is not None and engine.last.copied == 0
    back = torch.from_dlpack(c)
    assert back.data_ptr() == c.__array_interface__["data"][0]
    assert torch.allclose(back, a @ b, atol=1e-4)


def test_jax_arrays_in_and_out_without_a_copy() -> None:
    jax = installed("jax")
    a, b = (jax.numpy.asarray(array) for array in matrices(64, 64, 64))
    engine = equal(HostDevice())
    c = engine.matmul(a, b)
    assert engine.last is not None and engine.last.copied == 0
    assert np.allclose(np.from_dlpack(jax.dlpack.from_dlpack(c)), np.asarray(a) @ np.asarray(b), atol=1e-4)


KERNEL = """
import numpy as np, torch
from nexus.compute.devices.triton_kernels import transform
rng = np.random.default_rng(0)
for count in (1, 511, 512, 1300):
    points = torch.from_numpy(rng.standard_normal((count, 4), np.float32))
    turned = torch.from_numpy(rng.standard_normal((4, 4), np.float32))
    out = torch.full((count + 1, 4), 77.0)
    transform(points, turned, out[:count])
    assert np.allclose(out[:count].numpy(), points.numpy() @ turned.numpy(), atol=1e-5), count
    assert (out[count] == 77.0).all()
print("right")
"""


def test_the_triton_kernel_in_its_interpreter() -> None:
    installed("torch")
    installed("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.path.join(CHECKOUT, "src")}
    done = subprocess.run([sys.executable, "-c", KERNEL], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "right", done.stderr
