"""Run GCC's tests and write docs/gcc-tests.md.

    PYTHONPATH=src:tests python -m gcc.table [--only i386|torture] [--match TEXT] [--part N --parts M]

With `--page` nothing is run, only the page is written. Results are kept in the cache folder, test by test, so
that a run may be interrupted and shared between processes; the page is made of what is kept there.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import sys
from collections import Counter

import nexus
from gcc import cases, sources, suite
from nexus.base.folders import CHECKOUT, private_folder
from nexus.isa.x86.features import names

PAGE = os.path.join(CHECKOUT or ".", "docs", "gcc-tests.md")
_HEAD = """\
# GCC's own tests

Run tests of GCC 12 (Debian's `gcc-12-source`): `gcc.target/i386` with each file's own options,
`gcc.c-torture/execute` at -O0 and -O2, built by mingw's GCC 12 as Windows programs and run by `nexus` on Wine
10.0's DLLs. Written by `python -m gcc.table`.

- **not built**: the compiler for Windows refuses it; the reasons are below.
- **no feature**: it looks for a feature that CPUID does not report. It would pass for nothing, so it is not
  run.
- Tests whose directives leave 64-bit Windows out (`ia32`, `lp64`, `fork`, `mmap`, ...) are not counted.
"""

# What else was seen of tests that fail: file -> where, and what came out.
_ELSEWHERE = {
    "pr78622.c": "stock Wine 10.0 (Debian 13): exit code 0x3 too; msvcrt's snprintf prints %hhd as an int",
}


def _kept(part: int) -> str:
    return os.path.join(private_folder("gcc-tests", "results"), f"{part}.jsonl")


def results() -> dict[tuple[str, str], tuple[str, str]]:
    """(group, name) -> (word, why) of everything that was run."""
    out = {}
    for path in glob.glob(os.path.join(private_folder("gcc-tests", "results"), "*.jsonl")):
        with open(path, encoding="utf-8") as file:
            for line in file:
                group, name, word, why = json.loads(line)
                out[group, name] = (word, why)
    return out


def all_cases(only: str | None) -> list[cases.Case]:
    tests = sources.tests()
    out = [] if only == "torture" else cases.i386(tests)
    return out if only == "i386" else out + cases.torture(tests)


def measure(only: str | None, match: str, part: int, parts: int) -> None:
    """Run what has not been run yet, every `parts`-th test."""
    machine = nexus.windows(sysroot="10.0")
    done = results()
    wanted = [case for case in all_cases(only) if match in case.name]
    with open(_kept(part), "a", encoding="utf-8") as file:
        for case in wanted[part::parts]:
            if done.get((case.group, case.name), (suite.UNREPORTED, ""))[0] != suite.UNREPORTED:
                continue
            word, why = suite.run(case, machine)
            file.write(json.dumps([case.group, case.name, word, why]) + "\n")
            file.flush()
            if word == suite.FAIL:
                print(f"{case.group}: {case.name}: {why}", flush=True)


def page() -> str:
    """The page, from what is kept."""
    wanted = {(case.group, case.name): case for case in all_cases(None)}
    found = {
        key: value
        for key, value in results().items()
        if key in wanted and (value[0] != suite.UNREPORTED or suite.missing(wanted[key]))
    }
    groups: dict[str, Counter[str]] = {}
    for (group, _), (word, _) in found.items():
        groups.setdefault(group, Counter())[word] += 1
    rows = ["| group | tests | run | pass | fail | not built | no feature |", "|---|--:|--:|--:|--:|--:|--:|"]
    total: Counter[str] = Counter()
    for group in sorted(groups, key=lambda name: (name.startswith("torture"), name)):
        rows.append(_row(group, groups[group]))
        total += groups[group]
    rows.append(_row("**all**", total))
    parts = [_HEAD, "\n".join(rows), ""]
    if len(found) < len(wanted):
        parts += [f"{len(wanted) - len(found)} of {len(wanted)} tests have not been run yet.", ""]
    parts += ["## Failures", ""]
    parts += _list(found, suite.FAIL) or ["none"]
    parts += ["", "## Not built", ""]
    reasons = Counter(
        why.split(": ", 2)[-1][:120] for word, why in found.values() if word == suite.UNBUILDABLE
    )
    parts += [f"- {count} x `{reason}`" for reason, count in reasons.most_common(40)] or ["none"]
    return "\n".join(parts) + "\n"


def mnemonics(found: dict[tuple[str, str], tuple[str, str]]) -> list[str]:
    """The instructions that tests which pass are named after (`avx-vaddpd-256-1.c`)."""
    known = set(names().values())
    words = {
        word.upper()
        for (group, name), (result, _) in found.items()
        if result == suite.PASS and not group.startswith("torture")
        for word in re.split(r"[-_.]", name)
    }
    return sorted(words & known)


def _row(name: str, count: Counter[str]) -> str:
    run = count[suite.PASS] + count[suite.FAIL]
    numbers = (sum(count.values()), run, count[suite.PASS], count[suite.FAIL])
    more = (count[suite.UNBUILDABLE], count[suite.UNREPORTED])
    return f"| {name} | " + " | ".join(str(n) for n in (*numbers, *more)) + " |"


def _list(found: dict[tuple[str, str], tuple[str, str]], wanted: str) -> list[str]:
    out = []
    for (group, name), (word, why) in sorted(found.items()):
        if word == wanted:
            elsewhere = _ELSEWHERE.get(name.split()[0])
            out.append(f"- {group}: `{name}`: {why}" + (f" ({elsewhere})" if elsewhere else ""))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(prog="gcc.table")
    parser.add_argument("--only", choices=("i386", "torture"))
    parser.add_argument("--match", default="")
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if not given.page:
        measure(given.only, given.match, given.part, given.parts)
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page())
    with open(os.path.join(os.path.dirname(__file__), "passed.txt"), "w", encoding="ascii") as file:
        file.write("\n".join(mnemonics(results())) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
