"""How long a command takes from start to end, nothing else: for the start-up of `nexus run`.

    python bench/start.py REPEAT COMMAND [arguments]

Prints the best and the median wall time, and the least processor time (which a busy machine disturbs less).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time


def measure(command: list[str]) -> tuple[float, float]:
    """Wall time and processor time of one run, in milliseconds; the command has to succeed."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return wall * 1000, used * 1000


def main(repeat: int, command: list[str]) -> None:
    measure(command)  # caches are filled, and are not part of what is measured
    walls, used = zip(*(measure(command) for _ in range(repeat)), strict=True)
    median = sorted(walls)[repeat // 2]
    print(
        f"wall {min(walls):.0f} ms, median {median:.0f} ms; processor {min(used):.0f} ms   (of {repeat} runs)"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
