"""`nexus sysroot list|add|remove|path`: the Windows DLLs programs run on."""

from __future__ import annotations

import os

from nexus.base.errors import UsageError
from nexus.cli.options import FLAG, Option, parse
from nexus.system import sysroot

USAGE = """\
usage: nexus sysroot list             those of the cache and an installed Wine
       nexus sysroot add VERSION      fetch Wine 10.0 or 8.0 with apt
       nexus sysroot add PATH         copy one: a folder, .deb, .rpm or a Windows System32
       nexus sysroot remove VERSION   delete one of the cache
       nexus sysroot path [VERSION]   the folder of the DLLs that would be used"""


def main(arguments: list[str]) -> int:
    given = parse(arguments, [Option("help", FLAG, "", short="h")], "sysroot", mixed=True)
    if given.flag("help") or not given.rest:
        print(USAGE)
        return 0 if given.flag("help") else 2
    action, *rest = given.rest
    if action == "list" and not rest:
        show()
    elif action == "add" and len(rest) == 1:
        print(add(rest[0]))
    elif action == "remove" and len(rest) == 1:
        from nexus.system.sysroot_fetch import remove

        print(f"removed {remove(rest[0])}")
    elif action == "path" and len(rest) <= 1:
        print(sysroot.find(rest[0] if rest else None).windows)
    else:
        raise UsageError(f"nexus sysroot cannot {' '.join(given.rest)}", hint="nexus sysroot --help")
    return 0


def add(what: str) -> str:
    from nexus.system import sysroot_fetch

    if sysroot.is_version(what) and not os.path.exists(what):
        return sysroot_fetch.fetch(what).windows
    return sysroot_fetch.add(what).windows


def show() -> None:
    """One line per sysroot; a star marks the one that `run` would use."""
    chosen = sysroot.cached() or sysroot.installed()
    found = sysroot.everything()
    own = sysroot.installed()
    for entry in [*found, *([own] if own else [])]:
        mark = "*" if chosen is not None and entry.windows == chosen.windows else " "
        print(f"{mark} {entry.version:<8} {os.path.dirname(entry.windows)}   ({entry.origin})")
    if not found and own is None:
        print("no sysroot yet; the first `nexus run` fetches one, or: nexus sysroot add PATH")
