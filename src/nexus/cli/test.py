"""`nexus test`: the project's own tests and checks, in sections, with one closing line.

Runs in the environment of the test group. What cannot run on this machine is counted and named with the way
to get it; `--strict` makes that a failure, `--full` adds the long suites.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree

from nexus.base.errors import UsageError
from nexus.base.folders import CHECKOUT
from nexus.base.terminal import notice
from nexus.cli import gates
from nexus.cli.options import FLAG, LIST, Option, help_text, parse
from nexus.system.environment import group_python

OPTIONS = [
    Option("strict", FLAG, "what cannot run here is a failure"),
    Option("full", FLAG, "the long suites too"),
    Option("select", LIST, "only this section; may be repeated", "SECTION"),
    Option("help", FLAG, "print this help", short="h"),
]
PYTEST = (
    *("unit", "launcher", "isa", "peers", "nt", "guest", "real", "wine", "gcc"),
    *("compute", "cluster", "speed", "fuzz"),
)
CHECKS = ("ruff", "mypy", "imports", "length", "budget")


class Tally:
    """What happened so far."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self.missing: dict[str, int] = {}


def main(arguments: list[str]) -> int:
    given = parse(arguments, OPTIONS, "test", mixed=True)
    if given.flag("help"):
        print(f"usage: nexus test [options] [tests/FILE ...]\n\nsections: {' '.join(PYTEST + CHECKS)}\n")
        print(help_text(OPTIONS))
        return 0
    chosen = list(given.list("select")) or ([] if given.rest else list(PYTEST + CHECKS))
    for name in chosen:
        if name not in PYTEST + CHECKS:
            raise UsageError(f"there is no section {name}", hint=f"sections: {' '.join(PYTEST + CHECKS)}")
    python = group_python("test")
    tally = Tally()
    for path in given.rest:
        run_pytest(python, path, os.path.abspath(path), given.flag("full"), tally)
    for name in chosen:
        folder = os.path.join(CHECKOUT, "tests", name)
        if name in CHECKS:
            run_check(python, name, tally)
        else:
            run_pytest(python, name, folder, given.flag("full"), tally)
    for reason, count in sorted(tally.missing.items()):
        print(f"not run: {count} ({reason})")
    if given.flag("strict") and tally.missing:
        tally.failed += sum(tally.missing.values())
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return 1 if tally.failed or not tally.passed else 0


def run_pytest(python: str, name: str, path: str, full: bool, tally: Tally) -> None:
    """One section; what pytest says is shown as it comes, the counts come from its report."""
    started = time.monotonic()
    print(f"== {name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="nexus-test-") as scratch:
        report = os.path.join(scratch, "report.xml")
        command = [
            python,
            "-m",
            "pytest",
            path,
            f"--junitxml={report}",
            "--rootdir",
            CHECKOUT,
            "-c",
            os.path.join(CHECKOUT, "pyproject.toml"),
            "-n",
            str(min(2, os.cpu_count() or 1)),
            "--dist",
            "loadfile",
        ]
        if not full:
            command += ["-m", "not long"]
        code = subprocess.run(command, cwd=CHECKOUT, check=False).returncode
        passed, failed, missing = read_report(report)
    if code not in (0, 1, 5):
        failed += 1
    tally.passed += passed
    tally.failed += failed
    for reason, count in missing.items():
        tally.missing[reason] = tally.missing.get(reason, 0) + count
    print(f"== {name}: {passed} passed, {failed} failed in {time.monotonic() - started:.0f} s", flush=True)


def read_report(path: str) -> tuple[int, int, dict[str, int]]:
    """Passed, failed and the reasons of what was skipped, from a JUnit file; one that is missing or was not
    written whole (a full disk) counts as one failure.
    """
    passed, failed, missing = 0, 0, dict[str, int]()
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        notice(f"pytest left no report: {error}")
        return passed, failed + 1, missing
    for case in root.iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif skipped is None:
            passed += 1
        elif skipped.get("type") == "pytest.xfail":
            reason = f"known failure: {skipped.get('message', '')}"
            missing[reason] = missing.get(reason, 0) + 1
        else:
            reason = skipped.get("message", "")
            missing[reason] = missing.get(reason, 0) + 1
    return passed, failed, missing


def run_check(python: str, name: str, tally: Tally) -> None:
    """One of the checks that are not pytest suites; counts as one test."""
    print(f"== {name}", flush=True)
    if name == "ruff":
        problems = command_output(
            [python, "-m", "ruff", "check", "-q", "--no-cache", "src", "tests", "tools", "bench"]
        )
    elif name == "mypy":
        cache = os.path.join(tempfile.gettempdir(), f"nexus-mypy-{os.getuid()}")
        problems = command_output([python, "-m", "mypy", "--cache-dir", cache])
    elif name == "imports":
        code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
        problems = command_output([python, "-c", code])
    elif name == "length":
        problems = gates.long_files(CHECKOUT)
    else:
        problems = gates.import_budget(python)
    if problems:
        notice(f"{name} found problems:")
        print(problems, flush=True)
        tally.failed += 1
    else:
        tally.passed += 1


def command_output(command: list[str]) -> str:
    """What a failing command said; empty when it succeeded."""
    done = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode(errors="replace") or f"exit code {done.returncode}" if done.returncode else ""
