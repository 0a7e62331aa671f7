"""How often per second a program can be put back and run again.

    python bench/snapshot.py [SECONDS]

Builds tests/guest/snapshot.c, runs it to its `ready` and takes a snapshot. A cycle is a call of a function,
or the rest of the program to its exit, and a `restore`. Figures are per second of this process's processor
time and of the clock, after a warm-up, the median of five stretches.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "tests"))

import cross  # noqa: E402
import nexus  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STRETCHES = 5
CASES = (
    ("a function that adds one", "count", ()),
    ("one that writes 25 pages", "heap_sum", (1,)),
    ("two system calls, new memory", "allocate", ()),
    ("a thread is woken and waits again", "wake", ()),
)


def rate(cycle: Callable[[], object], seconds: float) -> tuple[float, float]:
    """(per second of processor time, per second)."""
    for _ in range(200):
        cycle()
    processor, clock = [], []
    for _ in range(STRETCHES):
        count, cpu, wall = 0, time.process_time(), time.perf_counter()
        while time.process_time() - cpu < seconds / STRETCHES:
            cycle()
            count += 1
        processor.append(count / (time.process_time() - cpu))
        clock.append(count / (time.perf_counter() - wall))
    return statistics.median(processor), statistics.median(clock)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    with tempfile.TemporaryDirectory() as folder:
        program = shutil.copy(
            cross.build(os.path.join(ROOT, "tests/guest/snapshot.c")), os.path.join(folder, "snapshot.exe")
        )
        with open(os.path.join(folder, "numbers.txt"), "w", encoding="ascii") as file:
            file.write("123456789")
        with nexus.windows().machine(program, cwd=folder) as machine:
            machine.run_to(machine.entry)
            machine.run_to("snapshot.exe!ready")
            begun = time.perf_counter()
            saved = machine.snapshot()
            print(f"snapshot: {(time.perf_counter() - begun) * 1e3:.1f} ms")

            def calling(name: str, arguments: tuple[int, ...]) -> Callable[[], None]:
                function = machine.address(f"snapshot.exe!{name}")

                def cycle() -> None:
                    machine.call(function, *arguments)
                    machine.restore(saved)

                return cycle

            def to_the_end() -> None:
                machine.run()
                machine.restore(saved)

            cases = [("restore alone", lambda: machine.restore(saved))]
            cases += [(what, calling(name, arguments)) for what, name, arguments in CASES]
            cases.append(("the rest of the program, to its exit", to_the_end))
            for what, cycle in cases:
                print(
                    "{:38} {:6.0f} per second of processor time, {:6.0f} of the clock".format(
                        what, *rate(cycle, seconds)
                    )
                )


if __name__ == "__main__":
    main()
