"""`nexus trace [options] PROGRAM [arguments]`: strace for Windows. One line per system call, when it
returns.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from nexus.base.errors import UsageError
from nexus.cli.options import FLAG, LIST, VALUE, Option, help_text, parse
from nexus.cli.run import execute
from nexus.cli.run_options import RUN
from nexus.nt.syscall import SYSCALLS
from nexus.nt.trace import Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from nexus.cli.options import Parsed

TRACE = [
    Option("output", VALUE, "write to a file instead of stderr", "FILE", short="o"),
    Option("json", FLAG, "one JSON object per line"),
    Option("events", LIST, "only these system calls; * and ? are allowed", "NAMES", short="e"),
    Option("calls", LIST, "also calls of exported functions, like 'kernel32!Create*'", "PATTERNS"),
    Option("follow", FLAG, "child processes too", short="f"),
]
USAGE = "usage: nexus trace [options] PROGRAM [arguments]"


def main(arguments: list[str]) -> int:
    parsed = parse(arguments, [*TRACE, *RUN], "trace")
    if parsed.flag("help") or not parsed.rest:
        print(f"{USAGE}\n\n{help_text(TRACE)}\n\noptions of run:\n{help_text(RUN)}")
        return 0 if parsed.flag("help") else 2
    only = chosen(",".join(parsed.list("events"))) if parsed.list("events") else None
    target = parsed.value("output")
    if target is None:
        import sys

        return run_traced(parsed, sys.stderr, only)
    with open(target, "w", encoding="utf-8", errors="backslashreplace") as file:
        return run_traced(parsed, file, only)


def run_traced(parsed: Parsed, file: TextIO, only: frozenset[str] | None) -> int:
    trace = Trace(Sink(file, parsed.flag("json"), parsed.flag("follow")).write, only)
    if parsed.list("calls"):
        from nexus.nt.trace_calls import trace_calls

        patterns = ",".join(parsed.list("calls")).split(",")
        trace.calls = [trace_calls(trace, pattern) for pattern in patterns if pattern]
    return execute(parsed, trace)


def chosen(patterns: str) -> frozenset[str]:
    """The system calls that `-e` means; a leading Nt may be left out."""
    found: set[str] = set()
    for pattern in filter(None, patterns.split(",")):
        matching = {
            name for name in SYSCALLS if fnmatchcase(name, pattern) or fnmatchcase(name, "Nt" + pattern)
        }
        if not matching:
            raise UsageError(f"-e {pattern}: there is no such system call")
        found |= matching
    return frozenset(found)


class Sink:
    """Writes finished lines as they are or as JSON; without `follow` only those of the first process."""

    def __init__(self, file: TextIO, as_json: bool, follow: bool) -> None:
        self.file = file
        self.as_json = as_json
        self.follow = follow
        self.first = ""

    def write(self, line: str) -> None:
        process, _, rest = line[1:].partition(":")
        self.first = self.first or process
        if process == self.first or self.follow:
            self.file.write((to_json(process, rest) if self.as_json else line) + "\n")


def to_json(process: str, rest: str) -> str:
    """`24] NtClose(handle=0x24) = STATUS_SUCCESS` as an object."""
    import json

    thread, _, text = rest.partition("] ")
    row: dict[str, object] = {"process": int(process, 16), "thread": int(thread, 16)}
    call, equals, result = text.rpartition(" = ")
    if equals:
        name, _, arguments = call.partition("(")
        row |= {"call": name, "arguments": arguments.removesuffix(")"), "result": result}
        if "!" in name:
            row["result"], _, row["caller"] = result.partition(" from ")
    else:
        row["event"] = text
    return json.dumps(row)
