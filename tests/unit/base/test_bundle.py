"""Compiled modules in one file of the cache: used while they are what the sources say, else passed over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.base.folders import PACKAGE

SCRIPT = """
import sys
from nexus.base import bundle
bundle.install()
import nexus.base.intervals as intervals
print(type(intervals.__loader__).__name__, intervals.__file__, intervals.IntervalMap(3)[5])
bundle.keep()
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package that can be changed."""
    top = tmp_path / "src" / "nexus"
    shutil.copytree(os.path.join(PACKAGE, "base"), top / "base", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(os.path.join(PACKAGE, "__init__.py"), top)
    return top


def run(tree: Path) -> str:
    """Which loader was used, after checking what was imported."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree.parent),
        "NEXUS_CACHE": str(tree.parents[1] / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    loader, file, value = done.stdout.split()
    assert file == str(tree / "base" / "intervals.py")
    assert value == "3"
    return loader


def kept(tree: Path) -> Path:
    (file,) = (tree.parents[1] / "cache" / "modules").iterdir()
    return file


def test_the_second_run_uses_the_file(tree: Path) -> None:
    assert [run(tree) for _ in range(3)] == ["SourceFileLoader", "_Loader", "_Loader"]


def test_a_changed_source_is_compiled_again(tree: Path) -> None:
    run(tree)
    with open(tree / "base" / "intervals.py", "a", encoding="utf-8") as file:
        file.write("\nIntervalMap.__getitem__ = lambda self, point: self.default\n")
    assert [run(tree) for _ in range(2)] == ["SourceFileLoader", "_Loader"]


def test_a_module_that_is_gone_is_not_imported(tree: Path) -> None:
    run(tree)
    (tree / "base" / "intervals.py").unlink()
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(tree)
    assert "No module named 'nexus.base.intervals'" in failed.value.stderr


@pytest.mark.parametrize("place", [0, 9, 30, -1])
def test_a_damaged_file_is_written_again(tree: Path, place: int) -> None:
    run(tree)
    content = bytearray(kept(tree).read_bytes())
    content[place] ^= 0x20
    kept(tree).write_bytes(content)
    run(tree)
    run(tree)
    assert run(tree) == "_Loader"


def test_one_that_is_cut_off(tree: Path) -> None:
    run(tree)
    kept(tree).write_bytes(kept(tree).read_bytes()[:20])
    assert [run(tree) for _ in range(2)] == ["SourceFileLoader", "_Loader"]
