"""Run every group, the promised and the others, and write docs/wine-tests.md.

    PYTHONPATH=src:tests python -m wine.table [--only VERSION[:DLL[:GROUP]]]... [--seconds N]

Without `--only` everything is run, one group at a time. What a run said is kept in the cache folder, and the
page is made of all that is kept there; so it may be filled group by group, and a changed kernel asks for a
full run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import tomllib
from typing import Any

from nexus.base.folders import CHECKOUT, private_folder
from wine.suite import OTHERS, PROMISED, run

PAGE = os.path.join(CHECKOUT or ".", "docs", "wine-tests.md")
with open(os.path.join(os.path.dirname(__file__), "stock.toml"), "rb") as _file:
    STOCK: dict[str, Any] = tomllib.load(_file)
_HEAD = """\
# Wine's own tests

Groups of Wine's tests of ntdll and kernel32, from Debian's `wine` source package, run by `nexus` on the DLLs
of the same version, beside what stock Wine of that version does on the same machine
(`tests/wine/stock.toml`). Written by `python -m wine.table`.

- **executed**: checks executed here; **stock**: on stock Wine.
- **fails here only**: places whose check fails here and not on stock Wine.
- **fails on both**, **on stock only**: numbers of such places.
- **beyond**: places marked in the tests as known to fail on Wine, where we do what Windows does.
- A group of which only the end is told did not come to its summary.

The groups in bold are the promised ones: nothing may fail there that does not fail on stock Wine, which
`nexus test --full tests/wine` holds.
"""
_COLUMNS = """\
| group | executed | stock | fails here only | on both | on stock only | beyond |
|---|--:|--:|---|--:|--:|--:|
"""
_SHOWN = 8


def measure(version: str, dll: str, group: str, seconds: float) -> dict[str, Any]:
    """Run one group and keep what it said."""
    with tempfile.TemporaryDirectory() as folder:
        outcome, ended = run(version, dll, group, folder, seconds)
    found = {
        "executed": outcome.executed,
        "failed": outcome.failed,
        "beyond": outcome.beyond,
        "complete": outcome.complete and not ended,
        "ended": ended,
    }
    with open(kept(version, dll, group), "w", encoding="utf-8") as file:
        json.dump(found, file)
    return found


def kept(version: str, dll: str, group: str) -> str:
    return os.path.join(private_folder("wine-tests", version, "results"), f"{dll}-{group}.json")


def groups(version: str) -> list[tuple[str, str, str]]:
    return [(version, dll, group) for dll in PROMISED for group in (*PROMISED[dll], *OTHERS[dll])]


def row(version: str, dll: str, group: str) -> str:
    """One line of the table."""
    stock = STOCK[version][dll][group]
    name = f"{dll} {group}"
    name = f"**{name}**" if group in PROMISED[dll] else name
    there = str(stock["executed"]) if stock["complete"] else "not complete"
    if not os.path.exists(kept(version, dll, group)):
        return f"| {name} | not run | {there} | | | | |\n"
    with open(kept(version, dll, group), encoding="utf-8") as file:
        here = json.load(file)
    ours, theirs = set(here["failed"]), set(stock["failed"])
    new = sorted(ours - theirs)
    told = ", ".join(f"`{place}`" for place in new[:_SHOWN])
    if len(new) > _SHOWN:
        told += f" and {len(new) - _SHOWN} more"
    if not here["complete"]:
        end = (here["ended"].strip().splitlines() or ["no summary"])[0].replace("|", "\\|")
        told = "; ".join(part for part in (told, f"ends early: {end.rpartition(chr(92))[2]}") if part)
        return f"| {name} | {here['executed'] or ''} | {there} | {told} | | | |\n"
    return (
        f"| {name} | {here['executed']} | {there} | {told} | {len(ours & theirs)} | {len(theirs - ours)} "
        f"| {len(here['beyond'])} |\n"
    )


def page() -> str:
    parts = [_HEAD]
    for version in STOCK:
        parts.append(f"\n## Wine {version}\n\n{_COLUMNS}")
        parts += [row(*group) for group in groups(version)]
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="VERSION[:DLL[:GROUP]]")
    parser.add_argument("--seconds", type=float, default=300)
    options = parser.parse_args()
    wanted = [tuple(only.split(":")) for only in options.only] or [(version,) for version in STOCK]
    for version in STOCK:
        for group in groups(version):
            if any(group[: len(only)] == only for only in wanted):
                found = measure(*group, options.seconds)
                new = sorted(set(found["failed"]) - set(STOCK[version][group[1]][group[2]]["failed"]))
                told = found["ended"].splitlines()[:1]
                print(" ".join(group), found["executed"], *new, *told, file=sys.stderr, flush=True)
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page())


if __name__ == "__main__":
    main()
