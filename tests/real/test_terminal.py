"""Ctrl-C, Ctrl-Z and a reader that leaves, typed into a real terminal and seen by a script."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from real import test_command
from real.test_command import start

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
program = test_command.program
CTRL_C, CTRL_D, CTRL_Z = b"\x03", b"\x04", b"\x1a"


class Terminal:
    """A program that believes to be in the foreground of a terminal; `seen` is all it showed."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
            os.execvp(command[0], command)

    def wait_for(self, text: bytes, times: int = 1) -> None:
        while self.seen.count(text) < times:
            data = os.read(self.fd, 4096)
            assert data, self.seen
            self.seen += data

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def end(self) -> int:
        """The exit code, negative for a signal."""
        try:
            while data := os.read(self.fd, 4096):
                self.seen += data
        except OSError:  # how Linux tells the end of a terminal
            pass
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def limit() -> Iterator[None]:
    """A test that hangs ends itself."""
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def words(program: str, case: str) -> list[str]:
    return [sys.executable, "-m", "nexus", "run", program, case]


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(
    ("case", "code", "says"), [("handles", 7, b"leaving after 0"), ("plain", -signal.SIGINT, b"ready")]
)
def test_ctrl_c(program: str, tmp_path: Path, case: str, code: int, says: bytes) -> None:
    terminal = Terminal(tmp_path, words(program, case))
    terminal.wait_for(b"ready")
    terminal.type(CTRL_C)
    assert terminal.end() == code
    assert says in terminal.seen
    assert b"nexus:" not in terminal.seen


@pytest.mark.usefixtures("limit")
def test_a_second_ctrl_c_ends_what_ignores_the_first(program: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, words(program, "ignores"))
    terminal.wait_for(b"ready")
    terminal.type(CTRL_C)
    terminal.wait_for(b"event 0")
    terminal.type(CTRL_C)
    assert terminal.end() == -signal.SIGINT


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(("case", "goes_on"), [("handles", True), ("plain", False)])
def test_a_script_ends_with_the_program_unless_that_handled_it(
    program: str, tmp_path: Path, case: str, goes_on: bool
) -> None:
    script = f"{shlex.join(words(program, case))}; echo status $?"
    terminal = Terminal(tmp_path, ["bash", "-c", script])
    terminal.wait_for(b"ready")
    terminal.type(CTRL_C)
    code = terminal.end()
    assert (b"status 7" in terminal.seen) == goes_on
    assert code == (0 if goes_on else -signal.SIGINT)


@pytest.mark.usefixtures("limit")
def test_ctrl_z_stops_it_and_it_goes_on(program: str, tmp_path: Path) -> None:
    script = f"set -m; {shlex.join(words(program, 'cat'))}; echo stopped $?; fg"
    terminal = Terminal(tmp_path, ["bash", "-c", script])
    for line, keys, answer in ((b"first:line", CTRL_Z, b"stopped 148"), (b"second:line", CTRL_D, b"")):
        terminal.type(line + b"\n")
        terminal.wait_for(line, 2)  # the terminal's echo and the program's; what `fg` says may come between
        terminal.type(keys)
        terminal.wait_for(answer)
    assert terminal.end() == 0


def test_leaving_by_itself_when_the_reader_is_gone_is_still_sigpipe(program: str, tmp_path: Path) -> None:
    process = start(tmp_path, program, "cat")
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdout.close()
    try:
        process.communicate(b"x" * 100_000, timeout=60)
    except BrokenPipeError:
        process.wait(timeout=60)
    assert process.returncode == -signal.SIGPIPE
