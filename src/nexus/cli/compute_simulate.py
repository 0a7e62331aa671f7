"""`nexus compute simulate`: a cluster that is not here, and how well its model predicts what is here."""

from __future__ import annotations

import os
import sys

from nexus.base.errors import UsageError
from nexus.base.terminal import Progress
from nexus.cli.options import FLAG, LIST, VALUE, Option, help_text, number, parse
from nexus.system.environment import group_python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PRECISIONS = ("fp8", "bf16", "fp64")
SUBJECTS = ("exaflop", "overhead", "validate")
SAMPLES = 8
OPTIONS = [
    Option("precision", LIST, "only this curve; may be repeated: fp8, bf16, fp64", "NAME"),
    Option("samples", VALUE, f"draws of the unknown figures for each point (default {SAMPLES})", "N"),
    Option("picture", VALUE, "exaflop: write the curves as a picture, too", "FILE.svg"),
    Option("json", FLAG, "print JSON"),
    Option("help", FLAG, "print this help", short="h"),
]
USAGE = """\
usage: nexus compute simulate [options] [SUBJECT]
       exaflop     how many H200 GPUs make 1 EFLOP/s, by precision, with uncertainty and power (default)
       overhead    what scheduling costs on up to 10,000 nodes
       validate    predictions beside real runs on 1 to 8 local nodes (two minutes)
"""


def main(arguments: list[str]) -> int:
    given = parse(arguments, OPTIONS, "compute simulate", mixed=True)
    if given.flag("help"):
        print(USAGE)
        print(help_text(OPTIONS))
        return 0
    subject = given.rest[0] if given.rest else SUBJECTS[0]
    if len(given.rest) > 1 or subject not in SUBJECTS:
        raise UsageError(
            f"there is nothing to simulate called {' '.join(given.rest)}", hint=" ".join(SUBJECTS)
        )
    names = list(dict.fromkeys(given.list("precision"))) or list(PRECISIONS)
    for name in names:
        if name not in PRECISIONS:
            raise UsageError(f"there is no curve for {name}", hint=f"curves: {' '.join(PRECISIONS)}")
    samples, picture = number(given, "samples") or SAMPLES, given.value("picture")
    if picture and subject != "exaflop":
        raise UsageError(f"{subject} has no picture")
    python = group_python("cluster" if subject == "validate" else "compute")
    if python != sys.executable:
        os.execv(python, [python, "-m", "nexus", "compute", "simulate", *arguments])
    if subject == "exaflop":
        return exaflop(names, samples, picture, given.flag("json"))
    if subject == "overhead":
        return overhead(given.flag("json"))
    return validate(given.flag("json"))


def exaflop(names: list[str], samples: int, picture: str | None, as_json: bool) -> int:
    from nexus.compute.simulate import scale, table
    from nexus.compute.simulate.picture import svg

    with Progress("simulate") as progress:
        report = scale.report(names, samples, progress.update)
    if picture:
        with open(picture, "w", encoding="utf-8") as file:
            file.write(svg(report))
    show(report, table.text(report), as_json)
    return 0


DISPATCH, START = 1e-3, 3e-3
"""Seconds of the scheduler and of a node for a chunk, as `validate` fits them on this machine, rounded."""


def overhead(as_json: bool) -> int:
    from nexus.compute.simulate import overhead as model

    rows = model.rows(DISPATCH, START)
    show({"version": 1, "dispatch": DISPATCH, "start": START, "rows": rows}, model.text(rows), as_json)
    return 0


def validate(as_json: bool) -> int:
    """Exit code 1 when a prediction is further off than it may be."""
    from nexus.compute.simulate import validation

    with Progress("validate") as progress:
        found = validation.validate(show=progress.update)
    show({"version": 1, **found}, validation.text(found), as_json)
    return 0 if found["all_within"] else 1


def show(report: dict[str, Any], text: str, as_json: bool) -> None:
    import json

    print(json.dumps(report, indent=1) if as_json else text)
