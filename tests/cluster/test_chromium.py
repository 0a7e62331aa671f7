"""The page in a real browser: Chromium without a window, WebGPU in software."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cluster import chromium
from cluster.guests import Guest
from cluster.test_browser import change_one
from nexus.compute.browser.lobby import Lobby
from nexus.compute.calibration import Calibration
from nexus.compute.engine import Engine

START = 60.0


@contextmanager
def browser(address: str, folder: Path) -> Iterator[None]:
    """A browser with that page open."""
    command, more = chromium.find()
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(
            [*command, f"--user-data-dir={folder}/profile", address],
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield
        finally:
            process.kill()


@pytest.mark.long
@pytest.mark.network
def test_chromium_contributes_verified_chunks_beside_a_liar(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal((400, 256)).astype(np.float32)
    b = rng.standard_normal((256, 192)).astype(np.float32)
    lobby = Lobby()
    try:
        with browser(lobby.invite(), tmp_path):
            assert lobby.wait(1, START), (tmp_path / "log").read_text(errors="replace")[-2000:]
            liar = Guest(lobby, change_one)
            assert lobby.wait(2, START)
            page = lobby.devices()[0]
            engine = Engine(lobby.devices(), calibration=Calibration(""), equal_split=True, seed=1)
            for _ in range(3):
                assert np.allclose(engine.matmul(a, b), a @ b, rtol=1e-4, atol=1e-3)
            assert liar.gone() == 1008 and liar.chunks == 1
            assert page.accepted >= 3 and page.rows == 3 * 400
            points, matrix = rng.standard_normal((2000, 4)), rng.standard_normal((4, 4))
            assert np.allclose(engine.transform(points, matrix), points @ matrix.T, rtol=1e-4, atol=1e-4)
    finally:
        lobby.close()
