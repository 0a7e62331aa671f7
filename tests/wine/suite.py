"""Building a group of Wine's tests, and reading what it says.

Sources and headers are Debian's `wine` source package and `libwine-dev`, fetched by name with the machine's
own apt; the compiler is the `ziglang` wheel of the test group. Everything is kept in the cache folder.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
import tarfile

import nexus
from nexus.base.errors import NexusError, Unsupported
from nexus.base.folders import private_folder
from nexus.system.apt import Apt
from nexus.system.permissions import Permissions

SUITES = {"10.0": "trixie", "8.0": "bookworm"}
# What the project promises to hold; the other groups are run for the table in docs/wine-tests.md.
PROMISED = {
    "ntdll": ("rtl", "rtlbitmap", "string", "virtual", "sync", "error", "env", "time", "threadpool", "reg"),
    "kernel32": ("heap", "path", "pipe", "virtual", "thread", "sync", "environ", "locale"),
}
OTHERS = {
    "ntdll": (
        "atom",
        "directory",
        "exception",
        "file",
        "info",
        "large_int",
        "om",
        "path",
        "pipe",
        "rtlstr",
        "thread",
    ),
    "kernel32": (
        "atom",
        "codepage",
        "fiber",
        "file",
        "format_msg",
        "process",
        "resource",
        "time",
        "timer",
        "toolhelp",
        "version",
        "volume",
    ),
}
_EXTRA_LIBRARIES = {"kernel32": ("psapi", "version")}
_LIBRARIES = ("winecrt0", "user32", "advapi32", "kernel32", "ntdll", "ucrtbase")
_LINE = rb"^(?:[0-9a-f]{4}:)?(\w+\.c:\d+): (?:Test [^:\n]*: )?Test "
_FAILED = re.compile(_LINE + b"failed", re.M)
_BEYOND = re.compile(_LINE + b"succeeded inside todo block", re.M)
_SUMMARY = re.compile(
    rb"(\w+): (\d+) tests executed \((\d+) marked as todo, (?:(\d+) as flaky, )?(\d+) failures?\)"
)
_WANTED = re.compile(r"(dlls/(ntdll|kernel32)/tests/|include/wine/)")


class Outcome:
    """What one run of a group said: the lines whose checks failed, and how many checks there were.

    `beyond` are the checks that Windows passes and Wine's authors have marked as known to fail on Wine, and
    that did not fail.
    """

    def __init__(self, output: bytes) -> None:
        self.failed = sorted({line.decode() for line in _FAILED.findall(output)})
        self.beyond = sorted({line.decode() for line in _BEYOND.findall(output)})
        summaries = _SUMMARY.findall(output)
        self.complete = bool(summaries)
        self.executed = sum(int(summary[1]) for summary in summaries)
        self.failures = sum(int(summary[4]) for summary in summaries)


def run(version: str, dll: str, group: str, folder: str, seconds: float) -> tuple[Outcome, str]:
    """Run a group on our kernel, from a copy of its program in `folder`, which it may write.

    The second value is how the run ended if not by itself, with what was said last.
    """
    program = shutil.copy(build(version, dll, group), folder)
    machine = nexus.windows(sysroot=version, permissions=Permissions(write=[folder]))
    try:
        result = machine.run(program, group, cwd=folder, timeout=seconds)
    except nexus.GuestTimeout as timeout:
        return Outcome(timeout.result.stdout or b""), f"{timeout}\n{tail(timeout.result.stdout)}"
    except Unsupported as missing:
        return Outcome(b""), str(missing)
    outcome = Outcome(result.stdout or b"")
    if result.crash is not None:
        return outcome, result.crash.text()
    return outcome, "" if outcome.complete else tail(result.stdout)


def tail(output: bytes | None) -> str:
    return (output or b"")[-2000:].decode(errors="replace")


def _once(folder: str, make: object) -> None:
    """Run `make(folder)` unless it has finished before."""
    stamp = os.path.join(folder, "complete")
    if not os.path.exists(stamp):
        assert callable(make)
        make(folder)
        with open(stamp, "w", encoding="ascii"):
            pass


def sources(version: str) -> str:
    """The folder with `src` (the needed parts of Wine's source) and `dev` (headers, import libraries)."""

    def fetch(folder: str) -> None:
        apt = Apt.for_this_machine(SUITES[version], source=True)
        if apt is None:
            raise NexusError("Wine's sources come through apt, which is not here")
        os.rename(apt.unpack("libwine-dev", folder), os.path.join(folder, "dev"))
        apt.download_source("wine", folder)
        (archive,) = glob.glob(os.path.join(folder, "wine_*.orig.tar.*"))
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.partition("/")[2]
                if member.isreg() and _WANTED.match(name):
                    member.name = name
                    tar.extract(member, os.path.join(folder, "src"), filter="data")
        for path in glob.glob(os.path.join(folder, "wine_*")):
            os.remove(path)

    folder = private_folder("wine-tests", version)
    _once(folder, fetch)
    return folder


def build(version: str, dll: str, group: str) -> str:
    """The path of the Windows program that runs one group."""
    root = sources(version)
    folder = private_folder("wine-tests", version, dll)
    program = os.path.join(folder, f"{group}.exe")
    if os.path.exists(program):
        return program
    main = os.path.join(folder, f"{group}_main.c")
    with open(main, "w", encoding="ascii") as file:
        file.write(
            '#define STANDALONE\n#include <windows.h>\n#include "wine/test.h"\n'
            f"extern void func_{group}(void);\n"
            f'const struct test winetest_testlist[] = {{{{"{group}", func_{group}}}, {{0, 0}}}};\n'
        )
    source = os.path.join(root, "src", "dlls", dll, "tests", f"{group}.c")
    headers = os.path.join(root, "dev", "usr", "include", "wine", "wine")
    (libraries,) = glob.glob(os.path.join(root, "dev", "usr", "lib", "*", "wine", "x86_64-windows"))
    import ziglang  # the test group's cross compiler

    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-O1", "-w"]
    command += ["-fno-sanitize=all", "-fms-extensions", "-fshort-wchar", "-mcx16"]
    command += ["-D_WIN32_WINNT=0x0a00", "-D_UCRT", "-D__WINE_PE_BUILD", "-D__WINESRC__"]
    command += ["-nostdinc", "-isystem", f"{headers}/windows", "-isystem", f"{headers}/msvcrt"]
    command += ["-I", os.path.join(root, "src", "include")]
    command += ["-isystem", os.path.join(os.path.dirname(ziglang.__file__), "lib", "include")]
    command += [source, main, os.path.join(os.path.dirname(__file__), "chkstk.s"), "-nostdlib"]
    command += [f"{libraries}/lib{name}.a" for name in (*_EXTRA_LIBRARIES.get(dll, ()), *_LIBRARIES)]
    command += ["-Wl,--subsystem,console", "-Wl,-e,mainCRTStartup", "-o", program + ".part"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise NexusError(f"{dll} {group} does not build:\n" + done.stdout.decode(errors="replace")[-4000:])
    os.rename(program + ".part", program)
    return program
