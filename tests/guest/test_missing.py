"""Programs whose imports cannot be bound: the same program with one letter changed in a name it imports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import cross
from real.test_command import run

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "crash.c")


def altered(folder: Path, name: bytes, other: bytes) -> str:
    """The program, importing `other` where it imported `name`."""
    data = Path(cross.build(SOURCE)).read_bytes()
    assert name in data and len(name) == len(other)
    program = folder / "altered.exe"
    program.write_bytes(data.replace(name, other))
    return str(program)


def test_a_missing_dll_is_named(tmp_path: Path) -> None:
    program = altered(tmp_path, b"KERNEL32.dll\0", b"KERNEL3X.dll\0")
    code, out, error = run(tmp_path, program, "exit")
    assert (code, out) == (126, "")
    assert "KERNEL3X.dll is missing, imported by altered.exe" in error
    assert "put the missing DLLs beside the program" in error
    assert "Traceback" not in error


def test_a_missing_function_is_named_when_it_is_called(tmp_path: Path) -> None:
    program = altered(tmp_path, b"RaiseException\0", b"RaiseExceptioX\0")
    code, _, error = run(tmp_path, program, "raise")
    assert code == 134
    assert "a function that is missing here" in error
    assert "!RaiseExceptioX" in error
