"""Who may talk to a cluster: nothing beyond the loopback without keys, and nobody without them where they
are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nexus.compute.calibration import Calibration
from nexus.compute.cluster import keys
from nexus.compute.cluster.engine import cluster
from nexus.compute.cluster.membership import Membership
from nexus.compute.errors import BadInput, ComputeError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = str(tmp_path_factory.mktemp("keys") / "keys")
    keys.make(made)
    return made


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "0.0.0.0:8786", "tcp://[2001:db8::1]:80"])
def test_beyond_the_loopback_only_with_keys(address: str) -> None:
    with pytest.raises(BadInput, match="can run code there"):
        keys.check_address(address, None)
    with pytest.raises(ComputeError):
        cluster(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "tcp://",
        "localhost",
        "http://localhost:80",
        "tcp://localhost:99999",
        "tls://h:1",
        "tcp://[::1",
        "ucx://a:1",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(BadInput):
        keys.check_address(address, None)


def test_keys_go_with_encryption_only(folder: str) -> None:
    with pytest.raises(BadInput, match="not encrypted"):
        keys.check_address("tcp://127.0.0.1:1", folder)
    assert keys.check_address("127.0.0.1:1", folder) == "tls://127.0.0.1:1"
    assert keys.check_address("127.0.0.1:1", None) == "tcp://127.0.0.1:1"
    for host in ("127.0.0.1", "localhost", "::1"):
        assert keys.check_host(host, None) == host
    with pytest.raises(BadInput):
        keys.check_host("0.0.0.0", None)
    assert keys.check_host("0.0.0.0", folder) == "0.0.0.0"


def test_keys_are_private_and_never_overwritten(folder: str, tmp_path: Path) -> None:
    assert all(os.stat(os.path.join(folder, name)).st_mode & 0o077 == 0 for name in os.listdir(folder))
    with pytest.raises(BadInput, match="there already"):
        keys.make(folder)
    with pytest.raises(ComputeError, match="missing"):
        keys.security(str(tmp_path))
    other = str(tmp_path / "keys")
    keys.make(other)
    os.chmod(os.path.join(other, "key.pem"), 0o644)
    with pytest.raises(ComputeError, match="others can read"):
        keys.security(other)
    os.chmod(os.path.join(other, "key.pem"), 0o600)
    Path(other, "cert.pem").write_text("not a certificate")
    with pytest.raises(ComputeError, match="cannot be used"):
        keys.security(other)


@pytest.fixture(scope="module")
def address(folder: str) -> Iterator[str]:
    """A scheduler and a node with keys, as the programs that a user starts."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    code = f"from nexus.compute.cluster.scheduler import run_scheduler as r; r('127.0.0.1', 0, {folder!r})"
    scheduler = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert scheduler.stderr is not None
    found = scheduler.stderr.readline().split()[-1]
    node = subprocess.Popen(
        [sys.executable, "-m", "nexus.compute.cluster.node", found, "--keys", folder, "--share", "0.5"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert node.stderr is not None
    assert "a node of" in node.stderr.readline()
    yield found
    scheduler.terminate()
    assert scheduler.wait(30) == 0
    assert node.wait(30) == 0
    scheduler.stderr.close()
    node.stderr.close()


def test_a_cluster_behind_keys_works_with_them(address: str, folder: str) -> None:
    assert address.startswith("tls://")
    with cluster(address, keys=folder, seed=1) as engine:
        engine.calibration = Calibration("")
        a = np.random.default_rng(0).standard_normal((600, 300), np.float32)
        assert np.allclose(engine.matmul(a, a.T), a @ a.T, rtol=1e-4, atol=1e-3)
        assert engine.last is not None and engine.last.devices[0].device.name == "node0"


def test_without_the_keys_nobody_gets_in(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus.compute.cluster.membership.REACH", 3.0)
    with pytest.raises(ComputeError, match="cannot be reached"):
        Membership(address.replace("tls://", "tcp://"))
    other = str(tmp_path / "others")
    keys.make(other)
    with pytest.raises(ComputeError, match="cannot be reached"):
        Membership(address, other)
