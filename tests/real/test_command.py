"""What the interface promises about streams, exit codes, signals, permissions and Python, with one small C
program.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import cross
import nexus
from nexus.base.errors import NexusError
from nexus.base.folders import CHECKOUT
from nexus.system import sysroot
from nexus.system.permissions import Permissions
from real.schema import problems

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "programs", "command.c")


@pytest.fixture(scope="module")
def program() -> str:
    if cross.compiler() is None:
        pytest.skip("no cross compiler: install the test group (ziglang) or mingw-w64")
    try:
        sysroot.find()
    except NexusError as error:
        pytest.skip(f"no Windows DLLs: {error}; {error.hint}")
    return cross.build(SOURCE)


def start(folder: Path, *words: str, **more: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.update(more.pop("environment", {}))
    return subprocess.Popen(
        [sys.executable, "-m", "nexus", "run", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def run(folder: Path, *words: str, given: bytes = b"", **more: Any) -> tuple[int, str, str]:
    process = start(folder, *words, **more)
    out, error = process.communicate(given, timeout=100)
    return process.returncode, out.decode().replace("\r\n", "\n"), error.decode()


@pytest.mark.parametrize(
    ("status", "code"), [("0", 0), ("5", 5), ("256", 1), ("0x12345678", 0x78), ("4294967295", 255)]
)
def test_exit_codes(program: str, tmp_path: Path, status: str, code: int) -> None:
    assert run(tmp_path, program, "exit", status) == (code, "", "")


def test_stats_and_profile(program: str, tmp_path: Path) -> None:
    code, out, error = run(tmp_path, "--stats", "--profile=p.json", program, "exit", "5")
    assert (code, out) == (5, "")
    for word in ("instructions ", "time ", "blocks for T0 ", "blocks for T1 ", "system calls ", "exits "):
        assert word in error
    profile = json.loads((tmp_path / "p.json").read_text())
    frames = [frame["name"] for frame in profile["shared"]["frames"]]
    assert any(name.startswith("ntdll.dll!") for name in frames)
    assert sum(profile["profiles"][0]["weights"]) == profile["profiles"][0]["endValue"] > 0
    code, _, error = run(tmp_path, "--profile=/nowhere/p.json", program, "exit", "0")
    assert code == 2 and "--profile /nowhere/p.json: No such file" in error


def test_both_engines_do_the_same(program: str, tmp_path: Path) -> None:
    """A whole program in lockstep; its exit code does not matter, its output is there once."""
    done = subprocess.run(
        [sys.executable, "-m", "nexus", "diff", "cmd", "/c", "echo hi& exit 3"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["hi"])
    assert re.search(r"T0 and T1 agree: [\d,]{9,} instructions; the program ended with 3", done.stderr)


def test_a_crash_ends_with_134_and_says_where(program: str, tmp_path: Path) -> None:
    code, out, error = run(tmp_path, program, "crash")
    assert (code, out) == (134, "")
    assert "0xc0000005 (STATUS_ACCESS_VIOLATION), tried to write 0x10" in error
    assert f"at {os.path.basename(program)}+0x" in error
    assert "rip=" in error
    assert "Traceback" not in error


def test_input_and_output_are_passed_on_unchanged(program: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    process = start(tmp_path, program, "cat")
    out, error = process.communicate(data, timeout=100)
    assert (process.returncode, out, error) == (0, data, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ["a b", "c"],
        ["", 'say "hi"', "\\"],
        ["a\\\\b", 'a\\"b', "a b\\", "\\\\\\"],
        ["é", "漢字", "😀", "*.txt"],
        ["-v", "--", "-A"],
    ],
)
def test_arguments_arrive_as_given(program: str, tmp_path: Path, arguments: list[str]) -> None:
    assert run(tmp_path, program, "args", *arguments) == (0, "".join(f"{word}\n" for word in arguments), "")


def test_one_separator_after_the_program_is_dropped(program: str, tmp_path: Path) -> None:
    assert run(tmp_path, program, "--", "args", "--", "x") == (0, "--\nx\n", "")


def test_a_raw_command_line_is_not_quoted(program: str, tmp_path: Path) -> None:
    _, out, _ = run(tmp_path, "--raw-cmdline", program, "line", 'a" b')
    assert out.endswith(f'{os.path.basename(program)} line a" b\n')


def test_the_current_folder_is_the_guests(program: str, tmp_path: Path) -> None:
    folder = tmp_path / "é space"
    folder.mkdir()
    assert run(folder, program, "cwd")[1] == "Z:" + str(folder).replace("/", "\\") + "\n"
    assert run(tmp_path, "--isolated", program, "cwd")[1] == "C:\\\n"


def test_the_environment_is_ours(program: str, tmp_path: Path) -> None:
    secret = {"A_SECRET": "x"}
    assert run(tmp_path, program, "env", "A_SECRET", environment=secret)[1] == "(unset)\n"
    assert run(tmp_path, "--env", "A_SECRET", program, "env", "A_SECRET", environment=secret)[1] == "x\n"
    assert run(tmp_path, "--env", "A_SECRET=y", program, "env", "a_secret")[1] == "y\n"
    assert run(tmp_path, program, "env", "SystemRoot")[1] == "C:\\windows\n"


def test_writing_needs_a_grant(program: str, tmp_path: Path) -> None:
    code, out, error = run(tmp_path, program, "write", "new.txt")
    assert (code, out) == (1, "error 5\n")
    assert f"--allow-write={tmp_path}/new.txt" in error
    assert not (tmp_path / "new.txt").exists()
    assert run(tmp_path, "--allow-write=.", program, "write", "new.txt") == (0, "", "")
    assert (tmp_path / "new.txt").read_text() == "written\n"
    code, out, _ = run(tmp_path, "--allow-write=.", "--deny-write=new.txt", program, "write", "new.txt")
    assert (code, out) == (1, "error 5\n")


def test_nexus_itself_is_never_writable(program: str, tmp_path: Path) -> None:
    target = os.path.join(CHECKOUT, "planted.txt")
    code, out, _ = run(tmp_path, "-A", program, "write", "Z:" + target.replace("/", "\\"))
    assert (code, out) == (1, "error 5\n")
    assert not os.path.exists(target)


def test_a_kept_drive_keeps_and_a_private_one_does_not(program: str, tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    assert run(tmp_path, f"--drive={drive}", program, "write", "C:\\kept.txt")[0] == 0
    assert (drive / "kept.txt").read_text() == "written\n"
    assert run(tmp_path, program, "write", "C:\\lost.txt") == (0, "", "")


def test_the_time_limit_ends_with_124(program: str, tmp_path: Path) -> None:
    for what in ("sleep", "spin"):
        code, _, error = run(tmp_path, "--timeout", "1", program, what)
        assert code == 124
        assert "did not end within 1 s" in error


def test_output_into_a_file_counts_as_disk(program: str, tmp_path: Path) -> None:
    win = nexus.windows()
    win.settings.disk = 1 << 20
    result = win.run(program, "cat", input=b"x" * (2 << 20), timeout=60)
    assert result.stdout is not None
    assert 0 < len(result.stdout) <= 1 << 20


def test_a_program_without_memory_tells_the_limit(program: str, tmp_path: Path) -> None:
    code, _, said = run(tmp_path, "--memory=1", program)
    assert code
    assert "wanted more than 1 bytes of memory   (--memory)" in said


def test_a_closed_output_ends_it_quietly(program: str, tmp_path: Path) -> None:
    process = start(tmp_path, program, "flood")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGPIPE
    assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("case", "number", "code", "says"),
    [
        ("handles", signal.SIGINT, 7, "leaving after 0"),
        ("handles", signal.SIGTERM, 7, "leaving after 2"),
        ("plain", signal.SIGINT, -signal.SIGINT, ""),
        ("plain", signal.SIGTERM, -signal.SIGTERM, ""),
        ("ignores", signal.SIGINT, -signal.SIGINT, "event 0"),
    ],
)
def test_signals_reach_the_guest(
    program: str, tmp_path: Path, case: str, number: signal.Signals, code: int, says: str
) -> None:
    process = start(tmp_path, program, case)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\r\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert says in out.decode()


def test_a_second_signal_ends_it_at_once(program: str, tmp_path: Path) -> None:
    process = start(tmp_path, program, "ignores")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"event 0\r\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT


def test_the_report_follows_its_schema(program: str, tmp_path: Path) -> None:
    schema = json.loads((Path(CHECKOUT) / "docs/report.schema.json").read_text())
    run(tmp_path, "--report", "a.json", "--allow-write=.", program, "write", "new.txt")
    report = json.loads((tmp_path / "a.json").read_text())
    assert problems(report, schema) == []
    written = [row for row in report["files"] if row["access"] == "written"]
    assert [row["path"] for row in written] == [str(tmp_path / "new.txt")]
    assert written[0]["sha256"] == hashlib.sha256(b"written\n").hexdigest()
    run(tmp_path, "--report", "b.json", program, "crash")
    report = json.loads((tmp_path / "b.json").read_text())
    assert problems(report, schema) == []
    assert (report["exit"]["code"], report["crash"]["code"]) == (134, "0xc0000005")


def test_python(program: str) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)]
    win = nexus.windows(env={"NAME": "value"})
    assert win.run(program, "env", "name").text == "value\n"
    assert win.run(program, "cat", input=b"a\0b").stdout == b"a\0b"
    assert win.run(program, "exit", "0x12345678").exit_code == 0x12345678
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)]
    with pytest.raises(nexus.GuestCrash, match="STATUS_ACCESS_VIOLATION"):
        win.run(program, "crash", check=True)
    with pytest.raises(nexus.GuestTimeout) as slept:
        win.run(program, "sleep", timeout=1)
    assert slept.value.result.report["exit"] == {
        "code": 124,
        "status": None,
        "error": "the program did not end within 1 s and was ended",
    }
    with pytest.raises(nexus.NotFound):
        win.run("/no/such.exe")


def test_python_gets_the_report_and_the_calls(program: str) -> None:
    schema = json.loads((Path(CHECKOUT) / "docs/report.schema.json").read_text())
    plain, recorded = (nexus.windows().run(program, "exit", "5", events=events) for events in (False, True))
    assert problems(recorded.report, schema) == []
    assert recorded.report["exit"] == {"code": 5, "status": 5, "error": None}
    assert plain.events == []
    assert "NtTerminateProcess(handle=0xffffffffffffffff, status=5)" in recorded.events[-1]


def test_python_from_a_thread(program: str, tmp_path: Path) -> None:
    texts = []
    win = nexus.windows(permissions=Permissions(write=[str(tmp_path)]))
    thread = threading.Thread(target=lambda: texts.append(win.run(program, "args", "x", cwd=tmp_path).text))
    thread.start()
    thread.join(100)
    assert texts == ["x\n"]


def test_a_full_disk_is_an_error_for_python_too(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> tuple[str, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/drives")

    monkeypatch.setattr("nexus.system.drive._fresh", full)
    with pytest.raises(NexusError, match="/cache/drives: No space left on device") as caught:
        nexus.windows().run(program)
    assert "free some space" in caught.value.hint
