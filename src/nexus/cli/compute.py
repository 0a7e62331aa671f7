"""`nexus compute devices|bench|top`: what computes on this machine, how fast, and what it does now."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

from nexus.base.errors import UsageError
from nexus.cli.options import FLAG, LIST, VALUE, Option, help_text, number, parse
from nexus.system.environment import group_python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OPTIONS = [
    Option("json", FLAG, "print JSON; for bench and top one object per line"),
    Option("size", VALUE, "side of the matrices (default 2048; mixed 1024, gpus 512, tensor 8192)", "N"),
    Option(
        "share", LIST, "a worker with this share of a core; may be repeated (default 0.4, 0.2, 0.1)", "SHARE"
    ),
    Option("page", FLAG, "top: charts on a page for a browser on this machine"),
    Option("port", VALUE, "top --page: the port to listen on (default: a free one)", "N"),
    Option("count", VALUE, "top: stop after so many samples", "N"),
    Option("help", FLAG, "print this help", short="h"),
]
USAGE = """\
usage: nexus compute devices [--json]             every device once, absent ones with the reason
       nexus compute bench [options] [SUBJECT]    measure: import numpy formats uneven mixed faults gpus
                                                  tensor points (default: all)
       nexus compute top [--json] [--page]        use, memory, power, heat and jobs of every device, live
       nexus compute cluster ...                  many machines and browsers: nexus compute cluster --help
       nexus compute simulate ...                 machines that are not here: nexus compute simulate --help
"""
SUBJECTS = ("import", "numpy", "formats", "uneven", "mixed", "faults", "gpus", "tensor", "points")
POINTS = 64_000_000


def main(arguments: list[str]) -> int:
    if arguments[:1] in (["cluster"], ["simulate"]):
        command: Callable[[list[str]], int] = import_module(f"nexus.cli.compute_{arguments[0]}").main
        return command(arguments[1:])
    given = parse(arguments, OPTIONS, "compute", mixed=True)
    if given.flag("help") or not given.rest:
        print(USAGE)
        print(help_text(OPTIONS))
        return 0 if given.flag("help") else 2
    what, *subjects = given.rest
    if what not in ("devices", "bench", "top"):
        raise UsageError(f"nexus compute cannot {what}", hint="nexus compute --help")
    if what != "bench" and subjects:
        raise UsageError(f"compute {what} takes no {subjects[0]!r}")
    for subject in subjects:
        if subject not in SUBJECTS:
            raise UsageError(f"there is no benchmark {subject}", hint=f"benchmarks: {' '.join(SUBJECTS)}")
    size, count = number(given, "size") or 0, number(given, "count")
    port = number(given, "port") or 0
    if port > 65535:
        raise UsageError(f"--port is at most 65535, not {port}")
    shares = [share_of(text) for text in given.list("share")] or [0.4, 0.2, 0.1]
    # A Python that has numpy is used as it is: it may have torch or cupy for its GPUs, which no lock has.
    python = sys.executable if find_spec("numpy") else group_python("compute")
    if python != sys.executable:
        os.execv(python, [python, "-m", "nexus", "compute", *arguments])
    if what == "devices":
        return devices(given.flag("json"))
    if what == "top":
        if given.flag("page"):
            from nexus.compute.monitor import page

            return page.serve(count, port)
        from nexus.compute.monitor import top

        return top.top(count, given.flag("json"))
    return bench(list(subjects) or list(SUBJECTS), size, shares, given.flag("json"))


def share_of(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.01 <= share <= 1.0:
        raise UsageError(f"--share is a part of a core between 0.01 and 1, not {text!r}")
    return share


def devices(as_json: bool) -> int:
    import json

    from nexus.compute.devices.discovery import discover

    found = discover()
    if as_json:
        print(json.dumps({"version": 1, "devices": [device.as_json() for device in found]}, indent=1))
        return 0
    for device in found:
        if device.absent:
            print(f"absent  {device.kind:<4} {device.name} through {device.backend}: {device.absent}")
            continue
        about = [device.bus, f"{device.memory / 2**30:.0f} GiB" if device.memory else "", device.driver]
        shown = ", ".join(filter(None, about))
        also = f" (also {device.also})" if device.also else ""
        print(f"present {device.kind:<4} {device.name} through {device.backend}{also}: {shown}")
    return 0


def bench(subjects: list[str], size: int, shares: list[float], as_json: bool) -> int:
    import json

    from nexus.compute.bench import gpu, host, split

    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "import": host.imports,
        "numpy": lambda: [*host.against_numpy(size or 2048), *host.overhead()],
        "formats": lambda: host.formats(size or 2048),
        "uneven": lambda: split.uneven(size or 2048, shares, gpus=False),
        "mixed": lambda: split.uneven(size or 1024, shares, gpus=True),
        "faults": lambda: split.faults(size or 2048),
        "gpus": lambda: gpu.gpus(size or 512),
        "tensor": lambda: gpu.tensor(size or 8192),
        "points": lambda: gpu.bandwidth(POINTS),
    }
    right = True
    for subject in subjects:
        for row in measures[subject]():
            (print_json if as_json else print_text)(row, json)
            right = right and row.get("right") is not False
    return 0 if right else 1


def print_json(row: dict[str, Any], json: Any) -> None:
    print(json.dumps(row), flush=True)


def print_text(row: dict[str, Any], json: Any) -> None:
    print(row["what"])
    for name, value in row.items():
        if name != "what":
            shown = f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
            print(f"  {name.replace('_', ' '):<28} {shown}")
    sys.stdout.flush()
