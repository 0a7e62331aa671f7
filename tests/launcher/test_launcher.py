"""`./nexus`: finds a Python, refuses hosts it cannot run on, starts what is prepared; all without a network.

Each test runs the real script in a copy of the few files it reads, with a PATH of fakes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "uname", "readlink", "cksum", "tr", "cat", "env", "dirname")

UNAME = """#!/bin/sh
case $1 in -s) echo "{system}" ;; -m) echo "{machine}" ;; esac
"""


class Checkout:
    """A copy of the launcher and the locks, and a PATH that holds nothing but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out é"
        (self.root / "locks").mkdir(parents=True)
        shutil.copy(ROOT / "nexus", self.root / "nexus")
        shutil.copy(ROOT / "locks/core.txt", self.root / "locks/core.txt")
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)
        self.os_release = folder / "os-release"
        self.os_release.write_text("ID=debian\nVERSION_ID=13\n")
        self.home = folder / "home"
        self.home.mkdir()

    def script(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run(
        self, *arguments: str, launcher: Path | str | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self.bin),
            "HOME": str(self.home),
            "NEXUS_OS_RELEASE": str(self.os_release),
        }
        return subprocess.run(
            [str(launcher or self.root / "nexus"), *arguments],
            cwd=cwd or self.home, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def prepare(self, home: Path | None = None) -> Path:
        """Record an environment whose `python` prints its arguments."""
        home = home or self.root / ".nexus"
        environment = home / "env-1"
        (environment / "bin").mkdir(parents=True)
        python = environment / "bin/python"
        python.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
        python.chmod(0o755)
        base = self.home / "python3.12"
        base.write_text("")
        base.chmod(0o755)
        shutil.copy2(base, environment / "interpreter")
        lock = (self.root / "locks/core.txt").read_text().partition("\n")[0]
        (home / "current").write_text(f"{lock}\n{base}\n{self.root}\n{environment}\n")
        return base


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_prepared_environment_is_started_from_anywhere(checkout: Checkout) -> None:
    checkout.prepare()
    link = checkout.home / "link to nexus"
    link.symlink_to(checkout.root / "nexus")
    (checkout.root / "sub").mkdir()
    for launcher, cwd in [
        (checkout.root / "nexus", checkout.home),
        (link, checkout.home),
        ("./nexus", checkout.root),
        ("../nexus", checkout.root / "sub"),
    ]:
        done = checkout.run("run", "a b", "", "*", launcher=launcher, cwd=cwd)
        assert done.stdout == "<-I><-m><nexus><run><a b><><*>", (launcher, done.stderr)
        assert done.returncode == 0


def test_it_is_found_through_path(checkout: Checkout) -> None:
    checkout.prepare()
    (checkout.bin / "nexus").symlink_to(checkout.root / "nexus")
    done = subprocess.run(
        ["sh", "-c", "nexus x"], env={"PATH": str(checkout.bin), "HOME": str(checkout.home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "<-I><-m><nexus><x>"


@pytest.mark.parametrize("change", ["lock", "interpreter", "moved", "broken"])
def test_what_was_prepared_for_something_else_is_not_started(checkout: Checkout, change: str) -> None:
    base = checkout.prepare()
    if change == "lock":
        path = checkout.root / "locks/core.txt"
        path.write_text("# lock: other\n" + path.read_text())
    elif change == "interpreter":
        os.utime(base, (1, 1))
    elif change == "moved":
        moved = checkout.root.with_name("elsewhere")
        checkout.root.rename(moved)
        checkout.root = moved
    else:
        (checkout.root / ".nexus/env-1/bin/python").unlink()
    done = checkout.run("run")
    assert done.stdout == ""
    assert done.returncode == 125
    assert "no Python 3.11 to 3.14 was found" in done.stderr


@pytest.mark.parametrize(
    ("system", "machine", "sentence"),
    [
        ("Darwin", "arm64", "this runs on Linux only, not on Darwin."),
        ("Linux", "aarch64", "this runs on x86-64 processors only, not on aarch64."),
        ("Linux", "i686", "this runs on x86-64 processors only, not on i686."),
    ],
)
def test_other_hosts_are_refused_in_one_sentence(
    checkout: Checkout, system: str, machine: str, sentence: str
) -> None:
    checkout.script("uname", UNAME.format(system=system, machine=machine))
    checkout.script("python3.12", "#!/bin/sh\necho must not be started >&2\n")
    done = checkout.run("run")
    assert (done.returncode, done.stderr) == (126, f"nexus: {sentence}\n")


@pytest.mark.parametrize(
    ("os_release", "command"),
    [
        ("ID=debian\nVERSION_ID=13", "sudo apt install python3"),
        ("ID=debian\nVERSION_ID=11", "install uv"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"', "sudo apt install python3.11"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\nVERSION_ID=22", "sudo apt install python3"),
        ("ID=fedora\nVERSION_ID=42", "sudo dnf install python3"),
        ("ID=rocky\nID_LIKE='rhel centos fedora'\nVERSION_ID=9.4", "sudo dnf install python3.11"),
        ("ID=manjaro\nID_LIKE=arch", "sudo pacman -S python"),
        ("ID=opensuse-leap\nID_LIKE='suse opensuse'\nVERSION_ID=15.6", "sudo zypper install python313"),
        ("ID=nixos", "nix-shell -p python313"),
        ("ID=homemade", "install Python 3.11 or newer, or uv"),
    ],
)
def test_without_python_the_next_step_is_named(checkout: Checkout, os_release: str, command: str) -> None:
    checkout.os_release.write_text(os_release + "\n")
    done = checkout.run("run")
    assert done.returncode == 125
    assert f"Next: {command}" in done.stderr
    assert not (checkout.root / ".nexus").exists()


def test_an_old_python_is_passed_over_and_uv_asked(checkout: Checkout) -> None:
    log = checkout.home / "log"
    checkout.script("python3.11", "#!/bin/sh\nexit 1\n")
    checkout.script("python3", "#!/bin/sh\nexit 1\n")
    checkout.script("uv", f'#!/bin/sh\necho "$@" >> "{log}"\nexit 1\n')
    done = checkout.run("run")
    assert done.returncode == 125
    assert log.read_text().splitlines() == ["python find >=3.11,<3.15", "python install 3.13"]


def test_the_locks_tell_their_own_digest() -> None:
    import hashlib

    for lock in (ROOT / "locks").glob("*.txt"):
        first, _, rest = lock.read_text().partition("\n")
        assert first == f"# lock: {hashlib.sha256(rest.encode()).hexdigest()}", lock.name
        assert "://" not in rest, lock.name
        for line in rest.splitlines()[1:]:
            assert "==" in line or line.strip().startswith("--hash=sha256:"), line


def test_nothing_but_python_is_started_when_prepared(checkout: Checkout) -> None:
    checkout.prepare()
    for tool in TOOLS[1:]:
        checkout.script(tool, "#!/bin/sh\necho started >&2\nexit 1\n")
    done = checkout.run("x")
    assert (done.stdout, done.stderr) == ("<-I><-m><nexus><x>", "")


@pytest.mark.network
@pytest.mark.long
def test_a_clean_copy_prepares_itself_once(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("nexus", "locks", "src"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
    environment = {**os.environ, "HOME": str(tmp_path), "NEXUS_CACHE": str(tmp_path / "cache")}
    environment["PATH"] = os.path.dirname(os.path.realpath(sys.executable)) + ":/usr/bin:/bin"
    first, second = (
        subprocess.Popen(
            [copy / "nexus", "--version"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    )
    for process in (first, second):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.startswith(b"nexus ")
        assert err == b""
    assert len(list((copy / ".nexus").glob("env-*"))) == 1
