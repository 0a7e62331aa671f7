"""Limits the sources keep: the length of files, and what `nexus run` imports before the guest starts."""

from __future__ import annotations

import os
import subprocess

LONGEST = 800
TABLES = ("status.py",)
"""Files that are nothing but a table may be longer."""

FORBIDDEN = (
    "argparse",
    "asyncio",
    "click",
    "dataclasses",
    "enum",
    "inspect",
    "json",
    "llvmlite",
    "logging",
    "pathlib",
    "pickle",
    "re",
    "rich",
    "subprocess",
    "typing",
)
PROBE = """
import sys
import iced_x86  # the decoder; what it imports itself is the price of translating, not of starting
before = set(sys.modules)
from nexus.cli import main, run
from nexus.cli.run import preload
preload()
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def long_files(checkout: str) -> str:
    """Sources with more lines than allowed, one per line."""
    found = []
    for top in ("src", "tests", "tools", "bench"):
        for place, _, names in os.walk(os.path.join(checkout, top)):
            for name in names:
                if name.endswith((".py", ".c", ".h", ".cpp")) and name not in TABLES:
                    path = os.path.join(place, name)
                    with open(path, encoding="utf-8") as file:
                        count = sum(1 for _ in file)
                    if count > LONGEST:
                        found.append(
                            f"{os.path.relpath(path, checkout)} has {count} lines, {LONGEST} are allowed"
                        )
    return "\n".join(found)


def import_budget(python: str) -> str:
    """Modules on the start path of `run` that cost too much, one per line."""
    done = subprocess.run(
        [python, "-I", "-S", "-c", with_source_path(PROBE)], capture_output=True, check=False, text=True
    )
    if done.returncode:
        return done.stderr
    loaded = done.stdout.split()
    return "\n".join(f"`nexus run` imports {name}" for name in FORBIDDEN if name in loaded)


def with_source_path(code: str) -> str:
    """`-S` keeps the environment's own start-up imports out of the count; so the paths are set here."""
    import sys

    return f"import sys\nsys.path[:0] = {[path for path in sys.path if path]!r}\n{code}"
