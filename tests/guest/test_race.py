"""A guest that may write one folder, while a subfolder of it is swapped for a link to the outside."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import cross
import nexus

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]


def test_nothing_outside_changes_while_a_folder_is_swapped_for_a_link(tmp_path: Path) -> None:
    granted, outside = tmp_path / "granted", tmp_path / "outside"
    (granted / "dir").mkdir(parents=True)
    outside.mkdir()
    for name in ("f1.txt", "moved.txt"):
        (outside / name).write_text("host")
    program = cross.build(os.path.join(os.path.dirname(__file__), "race.c"))
    ended, swaps = threading.Event(), 0

    def swap() -> None:
        nonlocal swaps
        while not ended.is_set():
            os.rename(granted / "dir", granted / "aside")
            os.symlink(outside, granted / "dir")
            os.unlink(granted / "dir")
            os.rename(granted / "aside", granted / "dir")
            swaps += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        win = nexus.windows(permissions=nexus.Permissions(write=[str(granted)]))
        result = win.run(program, cwd=granted, timeout=100)
    finally:
        ended.set()
        swapper.join()
    assert (result.exit_code, result.text) == (0, "rounds 1500\n")
    assert swaps > 10
    assert {path.name: path.read_text() for path in outside.iterdir()} == {
        "f1.txt": "host",
        "moved.txt": "host",
    }
