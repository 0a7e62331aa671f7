"""Private drives: each run has its own, and what a killed run left is removed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nexus.base.errors import NexusError
from nexus.system.drive import Drive


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_forgotten_drive_is_removed(cache: Path) -> None:
    Drive(None).close()
    forgotten = cache / "drives" / "1-dead"
    (forgotten / "windows").mkdir(parents=True)
    held = Drive(None)
    other = Drive(None)
    assert not forgotten.exists()
    assert os.path.isdir(held.folder)
    other.close()
    held.close()
    assert not os.listdir(cache / "drives")


def test_many_runs_start_at_once() -> None:
    """A drive that is being made does not count as forgotten."""
    failures = []

    def work() -> None:
        try:
            for _ in range(30):
                drive = Drive(None)
                assert os.path.isdir(os.path.join(drive.folder, "windows"))
                drive.close()
        except (OSError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_kept_drive_is_used_once(tmp_path: Path) -> None:
    drive = Drive(str(tmp_path / "kept"))
    with pytest.raises(NexusError, match="in use by another nexus"):
        Drive(str(tmp_path / "kept"))
    drive.close()
    Drive(str(tmp_path / "kept")).close()
    assert (tmp_path / "kept" / "windows").is_dir()
