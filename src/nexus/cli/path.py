"""`nexus path`: what a host path is called inside the guest, and the other way round."""

from __future__ import annotations

from nexus.cli.options import FLAG, VALUE, Option, help_text, parse
from nexus.system.paths import is_guest, to_guest, to_host

OPTIONS = [
    Option("drive", VALUE, "the folder that holds C:", "DIR"),
    Option("help", FLAG, "print this help", short="h"),
]


def main(arguments: list[str]) -> int:
    given = parse(arguments, OPTIONS, "path", mixed=True)
    if given.flag("help") or not given.rest:
        print(
            f"usage: nexus path PATH ...   Z:\\... and C:\\... become host paths, others Windows paths\n"
            f"\n{help_text(OPTIONS)}"
        )
        return 0 if given.flag("help") else 2
    for path in given.rest:
        print(to_host(path, given.value("drive")) if is_guest(path) else to_guest(path))
    return 0
