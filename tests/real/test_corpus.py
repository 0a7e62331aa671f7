"""Published programs through the public command: right output, right exit code, on both tested versions of
Wine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus.base.errors import NexusError
from nexus.system import packages, sysroot

CORPUS: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("corpus.toml").read_text())["program"]
ON_BOTH = {"setuptools cli-64", "ninja version", "cmd echoes and ends with a code"}
"""What the default run tries on Wine 8.0 too; the others there are long."""


def cases() -> Iterator[Any]:
    for version in ("10.0", "8.0"):
        for program in CORPUS:
            long = version == "8.0" and program["name"] not in ON_BOTH
            marks = [pytest.mark.long] if long else []
            yield pytest.param(program, version, marks=marks, id=f"{version}-{program['name']}")


def need_sysroot(version: str) -> None:
    try:
        sysroot.find(version)
    except NexusError as error:
        pytest.skip(f"no Wine {version}: {error}; {error.hint}")


def fetched(reference: str) -> str:
    """The host path of the program, downloaded at most once."""
    try:
        return packages.locate(reference)[0]
    except NexusError as error:
        if error.exit_code == 125:
            pytest.skip(f"{reference} cannot be downloaded: {error}")
        raise


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nexus", "run", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=110, check=False, env=environment)


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


@pytest.mark.network
@pytest.mark.sysroot
@pytest.mark.parametrize(("program", "version"), cases())
def test_program(program: dict[str, Any], version: str, tmp_path: Path) -> None:
    need_sysroot(version)
    reference = program["reference"]
    if "sha256" in program:
        content = Path(fetched(reference)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == program["sha256"], "not the pinned program"
    for name, written in program.get("files", {}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(written)
    options = [f"--sysroot={version}", *program.get("options", [])]
    outputs = []
    for arguments in program.get("steps", [program.get("arguments", [])]):
        done = run(tmp_path, *options, reference, *arguments)
        told = f"{text(done.stdout)}\n{text(done.stderr)}"
        assert done.returncode == program.get("exit", 0), told
        outputs.append(done)
    assert program.get("output", "") in text(outputs[-1].stdout)
    assert program.get("error", "") in text(outputs[-1].stderr + outputs[-1].stdout)
    for name, expected in program.get("creates", {}).items():
        assert (tmp_path / name).read_bytes().replace(b"\r\n", b"\n").decode() == expected
