"""`nexus doctor`: what works on this machine, what is missing and how to get it; and `nexus --version`."""

from __future__ import annotations

import os
import platform
import shutil
import sys

from nexus import __version__
from nexus.base.errors import NexusError
from nexus.base.folders import CHECKOUT, cache_folder
from nexus.cli.options import FLAG, Option, help_text, parse
from nexus.system import host, sysroot, wall

OPTIONS = [Option("json", FLAG, "print it as JSON"), Option("help", FLAG, "print this help", short="h")]


class Finding:
    """One line: `state` is ok, missing (something is impossible without it) or note."""

    __slots__ = ("hint", "name", "state", "value")

    def __init__(self, name: str, state: str, value: str, hint: str = "") -> None:
        self.name = name
        self.state = state
        self.value = value
        self.hint = hint


def main(arguments: list[str]) -> int:
    given = parse(arguments, OPTIONS, "doctor")
    if given.flag("help"):
        print(f"usage: nexus doctor [--json]\n\n{help_text(OPTIONS)}")
        return 0
    findings = examine()
    if given.flag("json"):
        import json

        rows = [{name: getattr(finding, name) for name in Finding.__slots__} for finding in findings]
        print(json.dumps({"version": 1, "findings": rows}, indent=1))
    else:
        for finding in findings:
            print(f"{finding.state:<8} {finding.name:<16} {finding.value}")
            if finding.hint:
                print(f"{'':<25} -> {finding.hint}")
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def examine() -> list[Finding]:
    return [*python(), *disk(), *dlls(), *clients(), *protection()]


def python() -> list[Finding]:
    import importlib.util

    found = [
        Finding("nexus", "ok", f"{__version__} in {CHECKOUT}"),
        Finding(
            "host",
            "ok",
            f"{platform.machine()}, Linux {platform.release()}, "
            f"{host.os_release().get('PRETTY_NAME', 'unknown distribution')}",
        ),
        Finding("python", "ok", f"{platform.python_version()} in {sys.prefix}"),
    ]
    for name in ("llvmlite", "iced_x86"):
        there = importlib.util.find_spec(name) is not None
        found.append(
            Finding(
                name,
                "ok" if there else "missing",
                "installed" if there else "not installed",
                "" if there else "start nexus through ./nexus, which installs it",
            )
        )
    return found


def disk() -> list[Finding]:
    folder = cache_folder()
    existing = folder
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    free = shutil.disk_usage(existing).free // 1_000_000
    writable = os.access(existing, os.W_OK)
    state = "ok" if writable and free > 1000 else "missing"
    hint = "" if state == "ok" else "set NEXUS_CACHE to a folder you can write, with 1 GB free"
    return [Finding("cache", state, f"{folder}, {free} MB free", hint)]


def dlls() -> list[Finding]:
    try:
        found = sysroot.cached() or sysroot.installed()
    except NexusError as error:
        return [Finding("sysroot", "missing", str(error), error.hint)]
    if found is None:
        possible = shutil.which("apt-get") is not None
        hint = "the first run fetches it with apt" if possible else "nexus sysroot add PATH"
        return [Finding("sysroot", "note" if possible else "missing", "none yet", hint)]
    return [Finding("sysroot", "ok", f"Wine {found.version} in {found.windows}")]


def clients() -> list[Finding]:
    """Programs that some commands use; only their absence is worth a hint."""
    found = []
    for name, purpose in (
        ("apt-get", "fetches the Windows DLLs"),
        ("npm", "npm: references"),
        ("zstd", "reads newer .deb and .rpm files"),
    ):
        path = shutil.which(name)
        hint = "" if path or name not in host.PACKAGES else host.install_command(name) or ""
        found.append(Finding(name, "ok" if path else "note", path or f"not installed ({purpose})", hint))
    return found


def protection() -> list[Finding]:
    """Which parts of the second wall around guest code this kernel offers."""
    return [Finding(name, "ok" if active else "note", text) for name, active, text in wall.available()]


def print_versions() -> int:
    found = sysroot.cached() or sysroot.installed()
    print(f"nexus {__version__}")
    print(f"Python {platform.python_version()}")
    print(f"Wine {found.version} ({found.windows})" if found else "no sysroot yet")
    return 0
