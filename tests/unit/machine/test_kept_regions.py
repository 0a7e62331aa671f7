"""Regions that are kept between runs: used where they fit, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.ir.state import Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine import faults, kept_regions
from nexus.machine.kept_regions import KeptRegions
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

CODE, PAGE, DATA = 0x40_0000, 0x1000, 0x50_0000
SLICE, TURNS = 500, 100_000
# again: add rax,[rdi+rcx*8]; dec rcx; jns again; syscall
SUM = bytes.fromhex("480304cf" + "48ffc9" + "79f7" + "0f05")
LESS = bytes.fromhex("482b04cf") + SUM[4:]  # sub rax,[rdi+rcx*8]
NUMBERS = [7 * n + 1 for n in range(500)]


class Run:
    """A program from its start until it has compiled code, or for some turns."""

    def __init__(self, code: bytes = SUM, access: int = READ | EXECUTE, size: int = 1 << 40) -> None:
        self.window = Window(size)
        self.vcpu = Vcpu(self.window, "t2")
        self.window.map(CODE, PAGE, access)
        self.window.write_forced(CODE, code)
        self.window.map(DATA, PAGE, READ | WRITE)
        self.window.write(DATA, b"".join(number.to_bytes(8, "little") for number in NUMBERS))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.vcpu.close()
        self.window.close()

    def sum(self) -> int:
        state = CpuState()
        state.reset()
        state.rip, state.rdi, state.rcx, state.rax = CODE, DATA, len(NUMBERS) - 1, 0
        while (stop := self.vcpu.run(state, SLICE)).kind == Exit.BUDGET:
            pass
        assert stop.kind == Exit.SYSCALL
        return int(state.rax)

    def until_compiled(self) -> Run:
        for _ in range(TURNS):
            assert self.sum() == sum(NUMBERS)
            if self.units:
                return self
        pytest.fail("nothing was compiled")

    @property
    def units(self) -> int:
        hot = self.vcpu.translations.hot
        return 0 if hot is None else hot.units

    @property
    def taken_over(self) -> bool:
        """Whether all compiled code is an earlier run's, and this one has no compiler."""
        hot = self.vcpu.translations.hot
        return hot is not None and 0 < hot.units == hot.kept and hot.compiler is None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(faults.engine(), "path", str(tmp_path / "engine.blob"))
    (tmp_path / "pages").mkdir(mode=0o700)
    return tmp_path / "pages"


@pytest.fixture
def file(folder: Path) -> Iterator[Path]:
    with Run() as run:
        run.until_compiled()
    (path,) = folder.glob("*.regions")
    yield path


def used(code: bytes = SUM, expected: int = sum(NUMBERS), size: int = 1 << 40) -> bool:
    """Whether a run takes kept code over; its results have to be right."""
    with Run(code, size=size) as run:
        for _ in range(4):
            assert run.sum() == expected % (1 << 64)
        return run.taken_over


def test_the_next_run_needs_no_compiler(file: Path) -> None:
    assert used()


def test_other_code_does_not_get_it(file: Path) -> None:
    assert not used(LESS, -sum(NUMBERS))


def test_a_smaller_window_does_not_get_it(file: Path) -> None:
    assert not used(size=1 << 39)


def test_code_that_the_guest_may_write_is_not_kept(folder: Path) -> None:
    with Run(access=READ | WRITE | EXECUTE) as run:
        run.until_compiled()
    assert not list(folder.glob("*.regions"))


@pytest.mark.parametrize("part", range(8))
def test_damage_is_seen(file: Path, part: int) -> None:
    whole = file.read_bytes()
    at = part * (len(whole) - 1) // 7
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert not used()
    with Run() as run:
        run.until_compiled()
    assert used(), "the file is not whole again"


@pytest.mark.parametrize("size", [0, 5, 12, 100])
def test_a_file_that_was_cut_off_is_not_used(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])
    assert not used()


def test_a_file_of_another_name_is_not_used(file: Path, folder: Path) -> None:
    with Run(LESS) as other:
        other.sum()
        hot = KeptRegions(other.window, faults.engine())
        path = hot._path(CODE, other.window.read(CODE, PAGE))
    os.rename(file, path)
    assert not used(LESS, -sum(NUMBERS))


def test_a_file_that_others_may_write_is_not_used(file: Path) -> None:
    file.chmod(0o666)
    assert not used()


def test_of_two_writers_nothing_is_lost(file: Path) -> None:
    with Run() as run:
        run.sum()
        code = run.window.read(CODE, PAGE)
        kept = [KeptRegions(run.window, faults.engine()) for _ in range(2)]
        for number, one in enumerate(kept):
            one.add(CODE, {CODE: code}, b"unit %d" % number)
        for one in kept:
            one.save()
        units = [unit for _, unit in kept[0].find(CODE)]
    assert units[:2] == [b"unit 1", b"unit 0"] and len(units) == 3


def test_what_a_killed_writer_left_is_removed(file: Path, folder: Path) -> None:
    left = folder / (file.name + ".77.new")
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    with Run() as run:
        kept = KeptRegions(run.window, faults.engine())
        kept.add(CODE, {CODE: run.window.read(CODE, PAGE)}, b"unit")
        kept.save()
    assert not left.exists() and file.exists()
    assert kept_regions._read(str(file))
