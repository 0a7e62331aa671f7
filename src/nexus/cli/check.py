"""`nexus check PROGRAM`: what the program would need that is not there; exit code 1 if something is
missing.
"""

from __future__ import annotations

from nexus.base.errors import UsageError
from nexus.cli.options import FLAG, VALUE, Option, help_text, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus.system.needs import Need

OPTIONS = [
    Option("json", FLAG, "print it as JSON"),
    Option("sysroot", VALUE, "Windows DLLs to check against: a version or a path", "VERSION|PATH"),
    Option("refresh", FLAG, "look for a newer version of the package"),
    Option("offline", FLAG, "use only what was downloaded before"),
    Option("help", FLAG, "print this help", short="h"),
]
HEADINGS = {
    "dll": "missing DLLs",
    "export": "functions that the DLLs here do not have",
    "syscall": "system calls that are not implemented",
    "instruction": "instructions that are not implemented",
    "extension": "not needed: instructions of CPU extensions that programs test for before they use them",
}


def main(arguments: list[str]) -> int:
    parsed = parse(arguments, OPTIONS, "check", mixed=True)
    if parsed.flag("help") or not parsed.rest:
        print(f"usage: nexus check [options] PROGRAM\n\n{help_text(OPTIONS)}")
        return 0 if parsed.flag("help") else 2
    if len(parsed.rest) > 1:
        raise UsageError("nexus check takes one program")
    from nexus.cli.run import locate
    from nexus.system import sysroot
    from nexus.system.needs import Survey

    target = locate(parsed)
    program = target.path
    needs = Survey(program, target.sysroot or sysroot.find(parsed.value("sysroot"))).run(program)
    if parsed.flag("json"):
        import json

        rows = [
            {name: getattr(need, name) for name in ("kind", "name", "late", "count", "places")}
            for need in needs
        ]
        print(json.dumps({"version": 1, "program": program, "missing": rows}, indent=1))
        return missing(needs)
    heading = ""
    for need in needs:
        if need.kind != heading:
            heading = need.kind
            print(f"{HEADINGS[heading]}:")
        late = ", only on first use" if need.late else ""
        more = f", ... ({need.count} places)" if need.count > len(need.places) else ""
        print(f"  {need.name}{late}: {', '.join(need.places)}{more}")
    if not missing(needs):
        print("nothing is missing")
    return missing(needs)


def missing(needs: Sequence[Need]) -> int:
    """The exit code: 1 if anything is missing that the program cannot do without."""
    return int(any(need.kind != "extension" for need in needs))
