"""What a process behind the second wall can do to the cache: in a process of its own, for it is final."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nexus.backend import cache
from nexus.cli import doctor
from nexus.system import wall

SCRIPT = """
import os, sys
from nexus.cli import run
from nexus.backend import cache

class Anything:
    def __init__(self, **fields):
        self.__dict__.update(fields)

drive = sys.argv[1]
sysroot = Anything(windows=sys.argv[2], nls=sys.argv[2], extra=None)
run.build_wall(Anything(
    settings=Anything(sysroot=sysroot), program=sys.executable, network=Anything(allowed=[]),
    drive=Anything(folder=drive), grants=[]))
code = cache.folder()

def attempt(name, action):
    try:
        action()
        print(name, "done")
    except OSError:  # also EXDEV, for a link to another folder
        print(name, "refused")

def write(*parts):
    with open(os.path.join(*parts), "w") as file:
        file.write("x")

attempt("blob", lambda: write(code, "interp.blob"))
attempt("new", lambda: write(code, "new"))
attempt("unlink", lambda: os.unlink(os.path.join(code, "interp.blob")))
attempt("swap", lambda: os.rename(os.path.join(code, "pages"), os.path.join(code, "other")))
attempt("link", lambda: os.link(os.path.join(code, "interp.blob"), os.path.join(code, "pages", "blob")))
attempt("read", lambda: open(os.path.join(code, "interp.blob")).close())
attempt("sysroot", lambda: write(sys.argv[2], "ntdll.dll"))
attempt("page", lambda: cache.write(os.path.join(code, "pages", "a.pages"), b"x"))
attempt("drive", lambda: write(drive, "file"))
"""


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path))
    for name in ("drive", "sysroots/wine/windows"):
        (tmp_path / name).mkdir(parents=True)
    code = cache.folder()
    cache.private(os.path.join(code, cache.PAGES))
    cache.write(os.path.join(code, "interp.blob"), b"code")
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "drive"), str(tmp_path / "sysroots/wine/windows")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def test_only_pages_and_the_drive_can_be_written(results):
    if wall.landlock_version():
        names = ("blob", "new", "unlink", "swap", "link", "sysroot")
        assert {name: results[name] for name in names} == dict.fromkeys(names, "refused")
    assert [results[name] for name in ("read", "page", "drive")] == ["done"] * 3


@pytest.mark.parametrize(("version", "state"), [(7, "ok"), (0, "note")])
def test_doctor_says_whether_the_cache_is_protected(monkeypatch, version, state):
    monkeypatch.setattr(wall, "landlock_version", lambda libc=None: version)
    (found,) = [finding for finding in doctor.protection() if finding.name == "code cache"]
    assert found.state == state
    assert ("cannot" in found.value) == (version > 0)
