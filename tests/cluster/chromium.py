"""A Chromium to test with: the machine's own, else the distribution's, unpacked privately."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

import pytest

from nexus.base.errors import NexusError
from nexus.base.folders import private_folder
from nexus.system.apt import Apt

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--disable-extensions"),
    *("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"),
)
"""WebGPU in software; no sandbox, because inside of containers it cannot be made, and only our page is
opened.
"""


def find() -> tuple[list[str], dict[str, str]]:
    """The command and what it needs in its environment. Skips the test where there is none."""
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return [path, *FLAGS], {}
    folder = private_folder("chromium")
    binary = os.path.join(folder, "root", "usr", "lib", "chromium", "chromium")
    if not os.path.exists(binary):
        unpack(folder)
    libraries = os.path.join(folder, "root", "usr", "lib", "x86_64-linux-gnu")
    return [binary, *FLAGS], {"LD_LIBRARY_PATH": f"{libraries}:{libraries}/pulseaudio"}


def unpack(folder: str) -> None:
    """Download Chromium and those of its libraries that the machine lacks (about 150 MB)."""
    apt = Apt.for_this_machine()
    if apt is None:
        pytest.skip("no Chromium: install one (chromium, chromium-browser or google-chrome on PATH)")
    options = ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "Debug::NoLocking=1"]
    try:
        apt.update()
        apt.run(["install", "--download-only", "--no-install-recommends", *options, "chromium"], folder)
    except NexusError as error:
        pytest.skip(f"no Chromium: install one, the distribution's cannot be downloaded ({error})")
    partial = os.path.join(folder, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    for archive in sorted(glob.glob(os.path.join(glob.escape(apt.folder), "archives", "*.deb"))):
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
        os.unlink(archive)
    shutil.rmtree(os.path.join(folder, "root"), ignore_errors=True)
    os.rename(partial, os.path.join(folder, "root"))
