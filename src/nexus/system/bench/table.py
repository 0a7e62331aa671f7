"""The rows of a measurement as text and as plain values."""

from __future__ import annotations

import os
import platform

from nexus import __version__
from nexus.system.bench import statistics
from nexus.system.bench.contenders import NATIVE
from nexus.system.bench.measure import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
_CELL = 20


def contenders(rows: Sequence[Row]) -> list[str]:
    """The names that occur, in order."""
    return list(dict.fromkeys(row.contender for row in rows))


def by_program(rows: Sequence[Row]) -> dict[tuple[str, int], dict[str, Row]]:
    """(kernel, level) -> contender -> row."""
    found: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row.kernel, row.level), {})[row.contender] = row
    return found


def means(rows: Sequence[Row]) -> dict[tuple[int, str], tuple[float, int, int]]:
    """(level, contender) -> geometric mean of the medians of the kernels that have a verdict, how many those
    are, and how many kernels there are."""
    found = {}
    for level in sorted({row.level for row in rows}):
        for name in contenders(rows):
            mine = [row for row in rows if (row.level, row.contender) == (level, name)]
            good = [row.median for row in mine if row.steady]
            if good:
                found[level, name] = statistics.geometric_mean(good), len(good), len(mine)
    return found


def text(rows: Sequence[Row]) -> str:
    """The table: per kernel the native time and each contender's time as a multiple of it."""
    names = contenders(rows)
    lines = [f"{'kernel':16}{'native ms':>10}" + "".join(f"{name:>{_CELL}}" for name in names)]
    for (kernel, level), row_of in by_program(rows).items():
        native = row_of[NATIVE]
        line = f"{kernel + f' -O{level}':16}{native.seconds * 1000:10.1f}"
        line += "".join(f"{cell(row_of[name]) if name in row_of else '-':>{_CELL}}" for name in names)
        lines.append(line if native.steady else line + "   no verdict")
    average = means(rows)
    for level in sorted({row.level for row in rows}):
        cells = [average.get((level, name)) for name in names]
        line = f"{f'mean -O{level}':26}" + "".join(
            f"{f'{mean[0]:.2f}' if mean else '-':>{_CELL}}" for mean in cells
        )
        count = next((mean for mean in cells if mean), None)
        lines.append(line + (f"   of {count[1]} kernels" if count and count[1] < count[2] else ""))
    lines.append("Median of the ratios to native and its 95 % interval; means are geometric.")
    if any(not row.steady for row in rows):
        lines.append("No verdict: native against native did not come out as 1 within 5 %; not in the means.")
    return "\n".join(lines)


def cell(row: Row) -> str:
    found = row.interval
    digits = 1 if row.median >= 10 else 2
    if found is None:
        return f"{row.median:.{digits}f}"
    return f"{row.median:.{digits}f} {found[0]:.{digits}f}-{found[1]:.{digits}f}"


def values(
    rows: Sequence[Row], seconds: float, repetitions: int, absent: dict[str, str]
) -> dict[str, object]:
    """The same, with every ratio, for JSON."""
    return {
        "version": VERSION,
        "nexus": __version__,
        "host": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "load": os.getloadavg(),
        },
        "seconds": seconds,
        "repetitions": repetitions,
        "absent": absent,
        "rows": [
            {
                "kernel": row.kernel,
                "level": row.level,
                "contender": row.contender,
                "n": row.n,
                "result": row.result,
                "native_seconds": row.seconds,
                "ratios": row.ratios,
                "median": row.median,
                "interval": row.interval,
                "verdict": row.steady,
            }
            for row in rows
        ],
        "means": [
            {"level": level, "contender": name, "mean": mean, "kernels": used}
            for (level, name), (mean, used, _) in means(rows).items()
        ],
    }


def processor() -> str:
    """The host's processor by its own name."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
