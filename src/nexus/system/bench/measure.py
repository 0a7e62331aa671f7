"""Measuring in pairs: native and a contender one right after the other, with the same n, again and again.

Times are processor times, so that waiting for a processor does not count. A ratio is that of one pair, so
what slows the machine down for longer than a pair slows both; which one comes first alternates. Native is a
contender too: what comes out for it is what the machine's noise is worth, and where that is not 1 the kernel
gets no verdict.
"""

from __future__ import annotations

from nexus.base.errors import NexusError
from nexus.system.bench import statistics
from nexus.system.bench.contenders import NATIVE, Contender, can_run
from nexus.system.bench.kernels import Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SLOWEST = 4  # a contender gets less to do where it would take more than so many times the wanted time


class WrongResult(NexusError):
    """A contender computed something else than the same code does natively."""


class Row:
    """One kernel on one contender: `ratios` of its time to native, for `n`; `seconds` native took, median."""

    __slots__ = ("contender", "kernel", "level", "n", "ratios", "result", "seconds", "steady")

    def __init__(self, kernel: Kernel, contender: str, n: int) -> None:
        self.kernel = kernel.name
        self.level = kernel.level
        self.contender = contender
        self.n = n
        self.result = 0
        self.ratios: list[float] = []
        self.seconds = 0.0
        self.steady = False

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def interval(self) -> tuple[float, float] | None:
        return statistics.interval(self.ratios)


def calibrate(contender: Contender, seconds: float, limit: int = 0) -> int:
    """An n for which the contender takes about `seconds`, or `limit` if that is less. One that has become
    faster meanwhile, having made code of what is hot, gets more to do."""
    n, taken = 1, contender.measure(1)[1]
    while n != limit:
        while taken < seconds / 10 and n != limit:
            n = max(n + 1, int(n * min(10.0, seconds / 5 / max(taken, 1e-9))))
            if limit:
                n = min(n, limit)
            taken = contender.measure(n)[1]
        if n == limit:
            break
        n = max(1, int(n * seconds / taken))
        if limit:
            n = min(n, limit)
        taken = contender.measure(n)[1]
        if taken >= seconds / 2:
            break
    return n


def measure(
    kernel: Kernel,
    makers: dict[str, Callable[[Kernel], Contender]],
    seconds: float,
    repetitions: int,
    progress: Callable[[str], None],
) -> list[Row]:
    """All contenders on one kernel, whose native run takes at least `seconds`; raises WrongResult."""
    opened: list[Contender] = []
    try:
        native = makers[NATIVE](kernel)
        opened.append(native)
        full = calibrate(native, seconds * 1.1)
        contenders: list[tuple[Row, Contender]] = []
        for name, make in makers.items():
            if not can_run(name, kernel.name):
                continue
            progress(f"{kernel}: preparing {name}")
            contender = make(kernel)
            opened.append(contender)
            n = full if name == NATIVE else calibrate(contender, seconds * SLOWEST, full)
            contender.measure(n)  # unmeasured, so that what makes host code of hot code has had its time
            contenders.append((Row(kernel, name, n), contender))
        times: dict[str, list[float]] = {row.contender: [] for row, _ in contenders}
        for number in range(repetitions):
            for row, contender in contenders:
                progress(f"{kernel}: {row.contender}, {number + 1} of {repetitions}")
                base, taken = pair(native, contender, row, number % 2 == 1)
                times[row.contender].append(base)
                row.ratios.append(taken / base)
        rows = [row for row, _ in contenders]
        quiet = statistics.steady(next(row.ratios for row in rows if row.contender == NATIVE))
        for row in rows:
            row.seconds, row.steady = statistics.median(times[row.contender]), quiet
        return rows
    finally:
        for contender in opened:
            contender.close()


def pair(native: Contender, contender: Contender, row: Row, turned: bool) -> tuple[float, float]:
    """Seconds of native and of the contender, which have to compute the same."""
    if turned:
        result, taken = contender.measure(row.n)
        row.result, base = native.measure(row.n)
    else:
        row.result, base = native.measure(row.n)
        result, taken = contender.measure(row.n)
    if result != row.result:
        raise WrongResult(
            f"{row.kernel} -O{row.level} with n = {row.n} gives {result} on {row.contender}, "
            f"natively {row.result}"
        )
    return base, taken
