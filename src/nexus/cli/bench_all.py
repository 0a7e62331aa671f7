"""`nexus bench all`: one report about this machine, from engine kernels to simulated scale.

Every part runs as a command of its own; one that cannot run here is in the report with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from nexus import __version__
from nexus.base.errors import UsageError
from nexus.base.terminal import Progress, notice
from nexus.cli.options import FLAG, LIST, VALUE, Option, help_text, parse
from nexus.system.bench import report
from nexus.system.bench.report import Figure, Section
from nexus.system.bench.table import processor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OPTIONS = [
    Option("output", VALUE, "write report.html and report.json there (default: nexus-bench)", "FOLDER"),
    Option("part", LIST, "only this part; may be repeated: engine guests devices cluster scale", "NAME"),
    Option("quick", FLAG, "fewer kernels, smaller matrices: a few minutes"),
    Option("help", FLAG, "print this help", short="h"),
]
GUESTS = (("pypi:ninja", "--version"), ("pypi:ruff", "--version"), ("npm:@esbuild/win32-x64", "--version"))
STARTS = 5
PART_SECONDS = 7200.0


class NotMeasured(Exception):
    """Why a part has no figures."""


def main(arguments: list[str]) -> int:
    """Exit code 1 when no part could be measured."""
    given = parse(arguments, OPTIONS, "bench all")
    if given.flag("help"):
        print(f"usage: nexus bench all [options]\n\n{help_text(OPTIONS)}")
        return 0
    if given.rest:
        raise UsageError(f"nexus bench all takes options only, not {given.rest[0]}")
    parts: dict[str, Callable[[Section, bool], None]] = {
        "engine": engine,
        "guests": guests,
        "devices": devices,
        "cluster": cluster,
        "scale": scale,
    }
    chosen = list(dict.fromkeys(given.list("part"))) or list(parts)
    for name in chosen:
        if name not in parts:
            raise UsageError(f"the report has no part {name}", hint=f"parts: {' '.join(parts)}")
    folder = given.value("output") or "nexus-bench"
    os.makedirs(folder, exist_ok=True)
    sections = []
    with Progress("bench all") as progress:
        for name in chosen:
            progress.update(name)
            section = Section(name)
            try:
                parts[name](section, given.flag("quick"))
            except NotMeasured as why:
                section.absent = str(why)
            sections.append(section)
            write(folder, sections)  # after each part: the next may take an hour
    for section in sections:
        if section.absent:
            notice(f"not measured: {section.name} ({section.absent})")
    print(os.path.join(folder, "report.html"))
    return 0 if any(section.figures for section in sections) else 1


def write(folder: str, sections: list[Section]) -> None:
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "kernel": os.uname().release,
        "load": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "nexus": __version__,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as file:
        json.dump(report.as_json(machine, sections), file, indent=1)
    with open(os.path.join(folder, "report.html"), "w", encoding="utf-8") as file:
        file.write(report.html(machine, sections))


def command(*words: str) -> str:
    """What a nexus command prints. Raises NotMeasured with its last words when it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nexus", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PART_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"nexus {words[0]} took longer than {PART_SECONDS:g} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NotMeasured(said[-1] if said else f"nexus {words[0]} ended with {done.returncode}")
    return done.stdout.decode(errors="replace")


def engine(section: Section, quick: bool) -> None:
    """Kernels on every engine, as multiples of native time."""
    words = ["--kernel", "crc32", "--level", "2", "--repetitions", "7"] if quick else []
    found = json.loads(command("bench", "--json", *words))
    section.raw = found
    for row in found["rows"]:
        if row["contender"] != "native":
            what = f"{row['kernel']} -O{row['level']}"
            what += "" if row["verdict"] else " (no verdict: native was not steady)"
            figure = Figure(what, "measured", row["median"], "times native", f"{row['contender']}:")
            section.figures.append(figure)
    section.notes = [f"{name}: {why}" for name, why in found["absent"].items()]


def guests(section: Section, quick: bool) -> None:
    """Published Windows programs from start to end."""
    section.raw = {}
    for reference, argument in GUESTS[: 1 if quick else None]:
        try:
            command("run", reference, argument)
            times = []
            for _ in range(STARTS):
                began = time.perf_counter()
                command("run", reference, argument)
                times.append(1000 * (time.perf_counter() - began))
        except NotMeasured as why:
            section.notes.append(f"{reference}: {why}")
            continue
        section.raw[reference] = times
        what = f"{reference} {argument}, median of {STARTS}"
        section.figures.append(Figure(what, "measured", sorted(times)[STARTS // 2], "ms", "start to end:"))
    if not section.figures:
        raise NotMeasured("; ".join(section.notes))


def devices(section: Section, quick: bool) -> None:
    """What computes here, and how fast."""
    found = json.loads(command("compute", "devices", "--json"))["devices"]
    for row in found:
        if row["absent"]:
            section.notes.append(f"{row['name']} through {row['backend']}: {row['absent']}")
        else:
            section.notes.append(f"present: {row['name']} through {row['backend']}")
    size = "512" if quick else "2048"
    subjects = ("formats",) if quick else ("numpy", "formats", "uneven", "faults")
    lines = command("compute", "bench", "--json", "--size", size, *subjects).splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    section.raw = {"devices": found, "rows": rows}
    for row in rows:
        for name, value in row.items():
            if name.endswith("_measured") and isinstance(value, int | float) and not isinstance(value, bool):
                section.figures.append(measured(row, name.removesuffix("_measured"), float(value)))


def measured(row: dict[str, Any], name: str, value: float) -> Figure:
    """A figure of the compute benchmark. In a table, because precisions do not share bars."""
    what = " ".join(filter(None, (row.get("precision", ""), row["what"])))
    if name.endswith("gflops"):
        return Figure(f"{what} {name.removesuffix('gflops').strip('_')}", "measured", value, "GFLOP/s")
    return Figure(f"{what}: {name.replace('_', ' ')}", "measured", value, "s" if "seconds" in name else "")


def cluster(section: Section, quick: bool) -> None:
    """Local nodes on one job, beside the sum of their rates."""
    words = ["--nodes", "3", "--size", "512"] if quick else []
    found = json.loads(command("compute", "cluster", "bench", "--json", *words))
    section.raw = found
    for job in found["jobs"]:
        what = f"{job['job']} on {found['what']}, of their co-run rates"
        section.figures.append(Figure(what, "measured", job["of_corun_rates_median_measured"], ""))
    message = 1000 * found["overhead_of_a_chunk_seconds_measured"]
    section.figures.append(Figure("a chunk without work", "measured", message, "ms"))


def scale(section: Section, quick: bool) -> None:
    """GPUs for 1 EFLOP/s and the cost of scheduling, simulated."""
    with tempfile.TemporaryDirectory() as scratch:
        picture = os.path.join(scratch, "picture.svg")
        samples = "3" if quick else "12"
        found = json.loads(
            command("compute", "simulate", "--json", "--samples", samples, "--picture", picture)
        )
        with open(picture, encoding="utf-8") as file:
            section.pictures.append(file.read())
    section.raw = found
    for curve in found["curves"]:
        name, at = curve["precision"], curve["at_1_eflops"]
        section.figures.append(Figure(f"{name}, one H200", "peak", curve["gpu_peak"] / 1e12, "TFLOP/s"))
        if "gpus" in at:
            figure = Figure(f"{name} block products, 1 EFLOP/s", "simulated", at["gpus"], "H200 GPUs")
            power = Figure(f"{name}, power of that", "simulated", at["watts_median"] / 1e6, "MW")
            section.figures += [figure, power]
    if not quick:
        rows = json.loads(command("compute", "simulate", "overhead", "--json"))
        section.raw = {"curves": found, "overhead": rows}
        for row in rows["rows"]:
            what = f"{row['nodes']:,} nodes, {row['schedulers']} schedulers"
            value = 100 * row["efficiency"]
            section.figures.append(Figure(what, "simulated", value, "% of the work's rate", "efficiency:"))
