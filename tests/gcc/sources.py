"""Where GCC's tests and the compiler for them come from: Debian packages by name, kept in the cache folder.

The tests are in `gcc-12-source`. They need GCC itself (its builtins and options), so the compiler is mingw's:
the machine's own if it has one, else Debian's packages, unpacked beside the tests and never installed.
"""

from __future__ import annotations

import glob
import os
import shutil
import tarfile

from nexus.base.errors import NexusError
from nexus.base.folders import private_folder
from nexus.system.apt import Apt

SUITE = "bookworm"
_COMPILER = "x86_64-w64-mingw32-gcc"
_PACKAGES = (
    *("gcc-mingw-w64-x86-64-win32", "gcc-mingw-w64-x86-64-win32-runtime", "gcc-mingw-w64-base"),
    *("binutils-mingw-w64-x86-64", "mingw-w64-x86-64-dev", "mingw-w64-common"),
    *("libmpc3", "libmpfr6", "libgmp10", "libisl23"),
)
_WANTED = ("gcc/testsuite/gcc.target/i386/", "gcc/testsuite/gcc.c-torture/execute/", "gcc/testsuite/gcc.dg/")


def _apt() -> Apt:
    apt = Apt.for_this_machine(SUITE)
    if apt is None:
        raise NexusError("GCC's tests come through apt, which is not here")
    return apt


def _unpack(packages: tuple[str, ...], folder: str) -> None:
    apt = _apt()
    for package in packages:
        part = apt.unpack(package, folder)
        shutil.copytree(part, os.path.join(folder, "root"), symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(part)


def tests() -> str:
    """The folder `testsuite` of GCC's source, as far as it is needed."""
    folder = private_folder("gcc-tests")
    target = os.path.join(folder, "testsuite")
    if os.path.isdir(target):
        return target
    found = glob.glob(os.path.join(folder, "root", "usr", "src", "gcc-12", "gcc-12*.tar.xz"))
    if not found:
        _unpack(("gcc-12-source",), folder)
        found = glob.glob(os.path.join(folder, "root", "usr", "src", "gcc-12", "gcc-12*.tar.xz"))
    part = os.path.join(folder, "part")
    with tarfile.open(found[0]) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            if member.isreg() and name.startswith(_WANTED):
                member.name = name.removeprefix("gcc/")
                tar.extract(member, part, filter="data")
    os.rename(os.path.join(part, "testsuite"), target)
    shutil.rmtree(os.path.join(folder, "root"))
    return target


def compiler() -> tuple[list[str], dict[str, str]]:
    """The command that compiles for Windows, and the environment that it needs."""
    found = shutil.which(_COMPILER)
    if found:
        return [found], dict(os.environ)
    root = os.path.join(private_folder("gcc-mingw"), "root")
    binary = os.path.join(root, "usr", "bin", _COMPILER + "-win32")
    if not os.path.exists(binary):
        _unpack(_PACKAGES, os.path.dirname(root))
    libraries = os.path.join(root, "usr", "lib", "x86_64-linux-gnu")
    path = os.path.join(root, "usr", "bin")
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "PATH": f"{path}:{os.environ['PATH']}"}
    return [binary, f"--sysroot={root}"], environment
