"""`nexus bench`: how fast guest code runs, beside native and beside others, in one run."""

from __future__ import annotations

import json
from functools import partial

from nexus.base.errors import UsageError
from nexus.base.terminal import Progress, notice
from nexus.cli.options import FLAG, LIST, VALUE, Option, Parsed, help_text, number, parse, seconds
from nexus.system.bench import chart, contenders, kernels, table
from nexus.system.bench.contenders import NATIVE
from nexus.system.bench.kernels import Kernel
from nexus.system.bench.measure import Row, measure
from nexus.system.environment import group_python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nexus.system.bench.contenders import Contender

ENGINES = (*contenders.WORKERS[1:], *contenders.OTHERS)
SECONDS, FULL_SECONDS, REPETITIONS = 0.05, 1.0, 15
OPTIONS = [
    Option("kernel", LIST, "only this program of bench/kernels; may be repeated", "NAME"),
    Option("engine", LIST, f"only this one: {' '.join(ENGINES)}; may be repeated", "NAME"),
    Option("level", LIST, "only programs compiled with -O0 or -O2", "0|2"),
    Option("repetitions", VALUE, f"pairs to measure (default {REPETITIONS})", "N"),
    Option("seconds", VALUE, f"how long a program runs natively (default {SECONDS})", "SECONDS"),
    Option("full", FLAG, f"--seconds {FULL_SECONDS:g}: what published figures are made with (an hour)"),
    Option("json", FLAG, "print everything measured as JSON"),
    Option("chart", VALUE, "write a picture, too", "FILE.svg"),
    Option("help", FLAG, "print this help", short="h"),
]


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["all"]:
        from nexus.cli import bench_all

        return bench_all.main(arguments[1:])
    parsed = parse(arguments, OPTIONS, "bench", mixed=True)
    if parsed.flag("help"):
        print(
            "usage: nexus bench [options]\n"
            "       nexus bench all [options]    one report about this machine\n\n"
            f"programs: {' '.join(kernels.names())}\n\n{help_text(OPTIONS)}"
        )
        return 0
    if parsed.rest:
        raise UsageError(f"nexus bench takes options only, not {parsed.rest[0]}", hint="nexus bench --help")
    names = chosen(parsed.list("kernel"), kernels.names(), "kernel")
    levels = [int(level) for level in chosen(parsed.list("level"), [*map(str, kernels.LEVELS)], "level")]
    engines = chosen(parsed.list("engine"), ENGINES, "engine")
    repetitions = number(parsed, "repetitions") or REPETITIONS
    duration = seconds(parsed, "seconds") or (FULL_SECONDS if parsed.flag("full") else SECONDS)
    picture = open_chart(parsed)
    rows, absent = run(names, levels, engines, duration, repetitions)
    for name, reason in absent.items():
        notice(f"not measured: {name} ({reason})")
    if parsed.flag("json"):
        print(json.dumps(table.values(rows, duration, repetitions, absent), indent=1))
    else:
        print(table.text(rows))
    if picture is not None:
        with open(picture, "w", encoding="utf-8") as file:
            file.write(chart.svg(rows))
    return 0


def chosen(given: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """What the options name, or everything."""
    for name in given:
        if name not in known:
            raise UsageError(f"there is no {what} {name}", hint=f"there are {', '.join(known)}")
    return list(dict.fromkeys(given)) or list(known)


def open_chart(parsed: Parsed) -> str | None:
    """The file of the picture, which has to be writable before anything is measured."""
    path = parsed.value("chart")
    if path is not None:
        try:
            with open(path, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise UsageError(f"--chart {path}: {error.strerror}") from None
    return path


def run(
    names: Sequence[str], levels: Sequence[int], engines: Sequence[str], duration: float, repetitions: int
) -> tuple[list[Row], dict[str, str]]:
    """Everything measured, and what could not be, with the reasons."""
    python = group_python("bench")
    makers: dict[str, Callable[[Kernel], Contender]] = {}
    absent: dict[str, str] = {}
    for name in (NATIVE, *engines):
        try:
            makers[name] = contenders.maker(name, python)
        except contenders.Absent as reason:
            absent[name] = str(reason)
    rows: list[Row] = []
    for name in names:
        if not contenders.can_run(NATIVE, name):
            absent[name] = "this processor has no AVX2"
    names = [name for name in names if name not in absent]
    total = len(names) * len(levels)
    with Progress("bench") as progress:
        for place, name in enumerate(names):
            for number, level in enumerate(levels):
                done = place * len(levels) + number
                show = partial(shown, progress, f"[{'#' * (20 * done // total):20}]")
                show(f"building {name} -O{level}")
                kernel = Kernel(name, level, kernels.compiler(python))
                rows += measure(kernel, makers, duration, repetitions, show)
    return rows, absent


def shown(progress: Progress, bar: str, text: str) -> None:
    progress.update(f"{bar} {text}")
