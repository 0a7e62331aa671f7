"""What is kept between runs, for both engines: used when it is what was written, and only then.

Damage is done on purpose, at every part of a file; the guest's results must not change, nothing damaged may
be used, and the file must be whole again afterwards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus.ir.state import Exit
from nexus.machine import faults, native, page_file
from nexus.machine.page_file import PageFile, PagePart
from nexus.machine.tiers import AT_ONCE, Policy
from unit.machine.test_page_cache import BLOCKS, EXPECTED, SECOND, Run, text

T0 = ("t0", None)
MAKES = ("t1", AT_ONCE)
KEPT_ONLY = ("t1", Policy(0, 1 << 40, 0))
"""Uses host code that was kept, and makes none."""
ENGINES = {"t0": T0, "t1": MAKES}


@pytest.fixture(autouse=True)
def t1() -> None:
    try:
        native.prepare()
    except native.NexusError as reason:
        pytest.skip(f"not run: {reason}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(faults.engine(), "path", str(tmp_path / "engine.blob"))
    (tmp_path / "pages").mkdir(mode=0o700)
    return tmp_path / "pages"


def the_file(folder: Path) -> Path:
    (name,) = os.listdir(folder)
    return folder / name


def test_host_code_is_taken_over(folder: Path) -> None:
    first = Run(text(), how=MAKES)
    assert first.result == EXPECTED
    assert first.counts.host_code_made == BLOCKS + 3
    second = Run(text(), how=KEPT_ONLY)
    assert second.result == EXPECTED
    assert second.counts.host_code_made == second.counts.made == 0
    assert second.counts.host_code_kept == BLOCKS + 2, "all but the block across two pages"


def test_a_fault_in_kept_host_code_has_its_exact_place(folder: Path) -> None:
    Run(text(), how=MAKES)
    run = Run(text(), pointer=0x18, how=KEPT_ONLY)
    assert run.counts.host_code_kept
    assert (run.stop.kind, run.stop.address, run.state.rip) == (Exit.FAULT, 0x18, SECOND)
    assert run.state.rax == BLOCKS * (BLOCKS - 1) // 2


def test_kept_host_code_goes_with_the_bytes_it_was_made_from(folder: Path) -> None:
    Run(text(), how=MAKES)
    code = bytearray(text())
    code[3] = 100  # the first block adds 100
    run = Run(bytes(code), how=KEPT_ONLY)
    assert run.result == (Exit.SYSCALL, EXPECTED[1] + 100, EXPECTED[2])
    assert run.counts.host_code_kept == 1, "the other page is the same"


def test_the_interpreter_keeps_the_host_code_of_others(folder: Path) -> None:
    Run(text(), how=MAKES)
    kept = the_file(folder).read_bytes()
    Run(text(), how=T0)
    assert the_file(folder).read_bytes() == kept


def test_host_code_of_other_stencils_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run(text(), how=MAKES)
    built = native.built()
    assert built is not None
    monkeypatch.setattr(built, "check", built.check ^ 1)
    assert Run(text(), how=KEPT_ONLY).counts.host_code_kept == 0
    assert Run(text(), how=MAKES).result == EXPECTED
    assert Run(text(), how=KEPT_ONLY).counts.host_code_kept == BLOCKS + 2


def test_code_changed_in_a_run_drops_its_host_code(folder: Path) -> None:
    Run(text(), how=MAKES)

    def change(window: object) -> None:
        window.write_forced(SECOND - 1, b"\x34")  # type: ignore[attr-defined]

    run = Run(text(), between=change, how=KEPT_ONLY)
    assert run.result == EXPECTED
    assert run.state.rdx == 0x34000000


# damage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_flipped_bits(folder: Path, engine: str) -> None:
    Run(text(), how=ENGINES[engine])
    good = the_file(folder).read_bytes()
    for number in range(40):
        at = number * len(good) // 40
        damaged = bytearray(good)
        damaged[at] ^= 1 << number % 8
        the_file(folder).write_bytes(damaged)
        assert Run(text(), how=ENGINES[engine]).result == EXPECTED, at
        again = Run(text(), how=ENGINES[engine])
        assert again.result == EXPECTED
        assert again.counts.made == again.counts.host_code_made - (engine == "t1") <= 0, (
            f"{at}: not whole again"
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_cut_off(folder: Path, engine: str) -> None:
    Run(text(), how=ENGINES[engine])
    good = the_file(folder).read_bytes()
    for size in (0, 1, 11, 19, 40, 200, len(good) // 2, len(good) - 1):
        the_file(folder).write_bytes(good[:size])
        assert Run(text(), how=ENGINES[engine]).result == EXPECTED, size
        assert Run(text(), how=ENGINES[engine]).counts.made == 0, size


def test_a_file_in_the_place_of_another_is_not_used(folder: Path, tmp_path: Path) -> None:
    Run(text(), how=MAKES)
    path = the_file(folder)
    for name in ("0000000000000000-140000000-00000000.pages", path.name.replace("140000000", "150000000")):
        other = folder / name
        other.write_bytes(path.read_bytes())
        other.chmod(0o600)
        file = PageFile(str(other))
        assert (file.pages(), file.damaged) == ([], True)
        file.close()


def test_another_version_is_not_used(folder: Path) -> None:
    Run(text(), how=MAKES)
    path = the_file(folder)
    good = path.read_bytes()
    head = b"NXPAGES4" + zlib.crc32(good[12:]).to_bytes(4, "little")
    path.write_bytes(head + good[12:])
    run = Run(text(), how=MAKES)
    assert run.result == EXPECTED
    assert run.counts.kept == run.counts.host_code_kept == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_damage_behind_the_index(
    folder: Path, engine: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is looked at when it is wanted, perhaps long after the file was opened."""
    Run(text(), how=ENGINES[engine])
    path = the_file(folder)

    def spoil(*_: object) -> None:
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)

    if when == "before":
        spoil()
    else:
        real: Callable[[PageFile], None] = PageFile._read_index
        monkeypatch.setattr(PageFile, "_read_index", lambda file: (real(file), spoil())[0])
    run = Run(text(), how=ENGINES[engine])
    assert run.result == EXPECTED
    assert run.counts.made


# writers -------------------------------------------------------------------------------------------

WRITER = """
import sys
from nexus.machine.page_file import PagePart, write
path, letter = sys.argv[1:]
parts = {page << 12: PagePart(1, letter.encode() * 20_000, 1, letter.encode() * 9_999) for page in range(40)}
print("ready", flush=True)
while True:
    write(path, parts)
"""


def writer(path: Path, letter: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", WRITER, str(path), letter]
    started = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert started.stdout is not None and started.stdout.readline() == b"ready\n"
    return started


def letters(path: Path) -> set[bytes]:
    """What is in the file, which has to be whole."""
    file = PageFile(str(path))
    parts = [file.part(page) for page in file.pages()]
    assert not file.damaged
    file.close()
    assert len(parts) == 40
    return {bytes(part.records[:1] + part.host_code[-1:]) for part in parts if part is not None}


def test_two_writers_and_sudden_deaths_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "image.pages"
    page_file.write(str(path), {page << 12: PagePart(1, b"z", 1, b"z") for page in range(40)})
    seen: set[bytes] = set()
    for round in range(6):
        writers = [writer(path, "a"), writer(path, "b")]
        for _ in range(30):
            (found,) = letters(path)
            seen.add(found)
        for process in writers:
            process.send_signal(signal.SIGKILL)
            process.wait()
        (found,) = letters(path)
        assert found in (b"zz", b"aa", b"bb"), round
    assert seen & {b"aa", b"bb"}


def test_what_a_dead_writer_left_is_removed(folder: Path) -> None:
    old, young = folder / "a.pages.1.new", folder / "b.pages.2.new"
    for left in (old, young):
        left.write_bytes(b"half")
    os.utime(old, (0, 0))
    Run(text(), how=MAKES)
    assert (old.exists(), young.exists()) == (False, True)
