"""Run every group on an installed stock Wine and write what fails there to stock.toml.

    PYTHONPATH=src:tests python -m wine.record_stock VERSION COMMAND...

COMMAND starts Wine: `wine`, or `chroot ROOT wine`. To be run once per Wine version, on a machine (or in a
root file system) that has that Wine installed. Each group runs in the folder of its program, which the
command has to see under the same path.
"""

from __future__ import annotations

import os
import subprocess
import sys

from wine.suite import OTHERS, PROMISED, Outcome, build

STOCK = os.path.join(os.path.dirname(__file__), "stock.toml")
SECONDS = 240


def record(version: str, wine: list[str]) -> str:
    """The table of one version as TOML."""
    lines = []
    for dll in PROMISED:
        for group in (*PROMISED[dll], *OTHERS[dll]):
            program = build(version, dll, group)
            try:
                done = subprocess.run(
                    [*wine, program, group],
                    cwd=os.path.dirname(program),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    timeout=SECONDS,
                    check=False,
                )
                outcome = Outcome(done.stdout)
            except subprocess.TimeoutExpired:
                outcome = Outcome(b"")
            failed = ", ".join(f'"{line}"' for line in outcome.failed)
            lines.append(
                f'["{version}".{dll}.{group}]\nexecuted = {outcome.executed}\nfailures = {outcome.failures}\n'
                f"complete = {str(outcome.complete).lower()}\nfailed = [{failed}]\n"
            )
            print(f"{dll} {group}: {outcome.failures} of {outcome.executed}", file=sys.stderr)
    return "\n".join(lines)


if __name__ == "__main__":
    with open(STOCK, "a", encoding="ascii") as table:
        table.write(record(sys.argv[1], sys.argv[2:]))
