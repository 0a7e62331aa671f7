"""Programs with the code cache empty, filled, and damaged on purpose, on both engines: the same output.

One program is tried by default, the whole corpus in `nexus test --full`.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from nexus.backend import cache
from nexus.base.folders import cache_folder
from real import test_corpus
from real.test_corpus import CORPUS, ENGINES, need_sysroot, text

DEFAULT = "ninja version"


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of page files of a cache that shares everything with the usual one but these."""
    usual, own = Path(cache_folder()), tmp_path / "cache"
    own.mkdir(mode=0o700)
    (own / "code").mkdir(mode=0o700)
    for entry in usual.iterdir():
        if entry.name not in ("code", "drives"):
            (own / entry.name).symlink_to(entry)
    for entry in (usual / "code").iterdir():
        if entry.is_file():
            shutil.copy2(entry, own / "code")
    monkeypatch.setenv("NEXUS_CACHE", str(own))
    return own / "code" / cache.PAGES


def spoil(folder: Path, rng: random.Random) -> None:
    """Flip a bit in some files, cut some off, exchange others."""
    files = sorted(folder.glob("*.pages"))
    assert files
    for number, file in enumerate(files):
        data = bytearray(file.read_bytes())
        how = number % 3
        if how == 0:
            for _ in range(20):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[rng.randrange(len(data)) :]
        else:
            data = bytearray(files[number - 1].read_bytes())
        file.write_bytes(data)


def outcome(folder: Path, program: dict[str, Any], engine: str) -> list[tuple[int, str]]:
    """Exit code and output of each step, in a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, written in program.get("files", {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(written)
    options = [f"--engine={engine}", "--sysroot=10.0", *program.get("options", [])]
    found = []
    for arguments in program.get("steps", [program.get("arguments", [])]):
        done = test_corpus.run(folder, *options, program["reference"], *arguments)
        found.append((done.returncode, text(done.stdout)))
    assert found[-1][0] == program.get("exit", 0), text(done.stderr)
    assert program.get("output", "") in found[-1][1]
    return found


def cases() -> list[Any]:
    return [
        pytest.param(
            program,
            engine,
            marks=[] if program["name"] == DEFAULT else [pytest.mark.long],
            id=f"{engine}-{program['name']}",
        )
        for program in CORPUS
        for engine in ENGINES
    ]


@pytest.mark.network
@pytest.mark.sysroot
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("program", "engine"), cases())
def test_cold_warm_and_damaged(program: dict[str, Any], engine: str, pages: Path, tmp_path: Path) -> None:
    need_sysroot("10.0")
    if ":" in program["reference"]:
        test_corpus.fetched(program["reference"])
    folder = tmp_path / "work"
    assert outcome(folder, program, engine)
    kept = {file.name for file in pages.glob("*.pages")}
    assert kept, "the cold run kept nothing"
    outcome(folder, program, engine)
    for seed in range(2):
        spoil(pages, random.Random(seed))
        outcome(folder, program, engine)
        assert {file.name for file in pages.glob("*.pages")} >= kept
