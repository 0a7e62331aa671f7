"""Private drives: each run has its own, and what a killed run left is removed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nexus.base.errors import NexusError
from nexus.system import drive
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


def test_a_drive_that_is_being_made_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run starts between the making of the folder and its lock; it has to wait or to let it be."""
    others: list[threading.Thread] = []
    made: list[Drive] = []
    lock = drive._lock

    def late(fd: int) -> bool:
        if not others:
            others.append(threading.Thread(target=lambda: made.append(Drive(None))))
            others[0].start()
            others[0].join(0.2)
        return lock(fd)

    monkeypatch.setattr(drive, "_lock", late)
    first = Drive(None)
    others[0].join()
    for each in (first, made[0]):
        assert os.path.samestat(os.fstat(each._fd), os.stat(each.folder))  # what is locked is what is used
        each.close()


def test_a_kept_drive_is_used_once(tmp_path: Path) -> None:
    kept = Drive(str(tmp_path / "kept"))
    with pytest.raises(NexusError, match="in use by another nexus"):
        Drive(str(tmp_path / "kept"))
    kept.close()
    Drive(str(tmp_path / "kept")).close()
    assert (tmp_path / "kept" / "windows").is_dir()
