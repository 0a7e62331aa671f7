"""Programs that go on from a saved start find their own arguments, environment, folder, handles, time, ids
and random numbers, and their own code runs every time. What start.c prints is compared with a plain start.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import cross
import nexus
from nexus.base import folders
from nexus.base.errors import NotReversible
from nexus.nt.ps import start_save
from nexus.system import guest_environment, paths, start_builder, starts
from nexus.system.script_cache import registry_script
from nexus.system.windows import Result, Settings, find_sysroot

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "start.c")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, but for the interpreter and the sysroot."""
    found = find_sysroot(None)
    old = os.path.join(folders.cache_folder(), "code")
    (tmp_path / "cache").mkdir(mode=0o700)
    os.symlink(old, tmp_path / "cache" / "code")
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NEXUS_SYSROOT", os.path.dirname(found.windows))
    return tmp_path / "cache"


@pytest.fixture
def program(tmp_path: Path) -> str:
    folder = tmp_path / "program"
    folder.mkdir()
    return str(shutil.copy(cross.build(SOURCE), folder / "start.exe"))


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each run went on from a saved start."""
    seen: list[bool] = []
    find = starts.find

    def noted(*arguments: Any) -> Any:
        found = find(*arguments)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(starts, "find", noted)
    monkeypatch.setattr(start_builder, "build_meanwhile", lambda *arguments: 0)
    return seen


def save(program: str) -> str:
    """Save the program's start; the file it is in."""
    settings = Settings(find_sysroot(None))
    given = settings, program, paths.to_guest(program), guest_environment.variables({}, 1)
    start_builder.build(*given)
    return starts.path_of(*given)


def run(program: str, *arguments: str, env: dict[str, str] | None = None, **how: Any) -> Result:
    win = nexus.windows(env=env)
    win.settings.saves_starts = True
    return win.run(program, *arguments, **how)


def fields(result: Result) -> dict[str, str]:
    assert result.stderr is not None
    return dict(line.split(" ", 1) for line in result.stderr.decode().splitlines())


def test_it_is_a_start_like_any_other(program: str, tmp_path: Path, resumed: list[bool]) -> None:
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "here.txt").write_text("7")
    ways: list[dict[str, Any]] = [
        {"env": {"WHO": "first"}, "input": b"one", "cwd": folder},
        {"env": {"WHO": "second", "MORE": "x" * 9000}, "input": b"two"},
        {"env": {}, "input": b"", "cwd": tmp_path / "program"},
    ]
    words = [("a", "b c", 'quo"te'), ("long " * 2000,), ()]
    plain = [run(program, *given, **way) for given, way in zip(words, ways, strict=True)]
    save(program)
    again = [run(program, *given, **way) for given, way in zip(words, ways, strict=True)]
    assert resumed == [False] * 3 + [True] * 3
    assert [result.stdout for result in again] == [result.stdout for result in plain]
    assert [result.exit_code for result in again] == [4, 2, 1]
    text = again[0].text
    assert "who first\n" in text
    assert "argument b c\n" in text
    assert "input one\n" in text
    assert f"here {ord('7')}\n" in text
    assert "ids 1 1\n" in text
    assert "callback\n" in text
    assert "callbacks 1\n" in text
    assert "who second\n" in again[1].text


def test_time_ids_cookies_and_random_numbers_are_new(program: str, resumed: list[bool]) -> None:
    save(program)
    one, other = fields(run(program)), fields(run(program))
    assert resumed == [True, True]
    for name in ("time", "created", "random", "pointer", "seed"):
        assert one[name] != other[name], name
    if int(one["cookie"], 16) == 0x2B992DDFA232:
        pytest.skip("not run: this compiler's linker makes no load configuration, so there is no cookie")
    assert one["cookie"] != other["cookie"]
    assert int(other["cookie"], 16) >> 48 == 0


@pytest.mark.parametrize("place", [0, 9, 40, 5000, -1])
def test_a_damaged_file_is_not_used(program: str, place: int, resumed: list[bool]) -> None:
    path = save(program)
    expected = run(program).stdout
    content = bytearray(Path(path).read_bytes())
    content[place] ^= 0x10
    Path(path).write_bytes(content)
    assert run(program).stdout == expected
    assert resumed == [True, False]
    assert not os.path.exists(path)
    assert os.path.exists(path + ".wanted")


def test_one_that_is_cut_off_or_of_something_else_is_not_used(program: str, resumed: list[bool]) -> None:
    path = save(program)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-4096])
    run(program)
    other = shutil.copy(program, os.path.join(os.path.dirname(program), "other.exe"))
    shutil.move(save(other), path)
    assert b"file " + paths.to_guest(program).encode() in (run(program).stdout or b"")
    assert resumed == [False, False]


def test_what_lies_beside_the_program_comes_first(program: str, resumed: list[bool]) -> None:
    save(program)
    beside = Path(program).with_name("start.exe.Manifest")
    beside.write_text("<assembly xmlns='urn:schemas-microsoft-com:asm.v1' manifestVersion='1.0'/>")
    run(program)
    beside.unlink()
    run(program)
    Path(program).with_name("KERNELBASE.DLL").write_bytes(b"")
    run(program)
    assert resumed == [False, True, False]


def test_a_changed_program_has_another_start(program: str, resumed: list[bool]) -> None:
    save(program)
    os.utime(program)
    run(program)
    assert resumed == [False]


def test_an_environment_that_does_not_fit(program: str, resumed: list[bool]) -> None:
    save(program)
    assert "who x" in run(program, env={"WHO": "x" + "y" * 1000, "MORE": "z" * 20000}).text
    assert resumed == [True]


def test_it_is_made_the_second_time(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(start_builder, "build_meanwhile", lambda *given: asked.append(given))
    for count in (0, 1, 1):
        run(program)
        assert len(asked) == count
    settings, *given = asked[0]
    start_builder.main([settings.sysroot.windows, "", "1", given[0], given[1], *given[2]])
    path = starts.path_of(settings, *given)
    assert os.path.exists(path)
    assert not os.path.exists(path + ".wanted")


def test_old_ones_make_room(program: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = save(program)
    os.utime(first, (1, 1))
    monkeypatch.setattr(starts, "LIMIT", 3 * os.path.getsize(first) // 2)
    second = save(shutil.copy(program, os.path.join(os.path.dirname(program), "other.exe")))
    assert not os.path.exists(first)
    assert os.path.exists(second)


def test_differences_that_nobody_expects_are_refused() -> None:
    start = {"ids": (1, 2), "mappings": (), "teb": 0x9000, "cookies": ()}
    pages = [{0x1000: number.to_bytes(4, "little") + bytes(4092)} for number in (5, 6)]
    with pytest.raises(NotReversible, match="0x1000"):
        start_save.varying((start, pages[0]), ({**start, "ids": (3, 4)}, pages[1]), (0x5000, 0x6000))
    found = start_save.varying((start, pages[0]), ({**start, "ids": (3, 4)}, pages[1]), (0x1000, 0x2000))
    assert found == [(0x1000, "random")]


def test_the_registry_script_is_the_same_from_the_cache(cache: Path) -> None:
    sysroot = find_sysroot(None)
    made = registry_script(sysroot)()
    assert registry_script(sysroot)() == made
    kept = next(path for path in (cache / "numbers").iterdir() if path.suffix == ".registry")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100] + b"?" + whole[101:])
    assert registry_script(sysroot)() == made
    assert kept.read_bytes() == whole
