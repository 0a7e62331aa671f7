"""Write the plots of `docs/compute-walkthrough.md`: SVG files made from what this machine measures now.

    python tools/plot_compute.py [FOLDER]

FOLDER is docs/plots unless given. Every plot names what it shows, measured or computed, and its precision.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from nexus.compute.bench.timing import in_turns, operands
from nexus.compute.calibration import Calibration
from nexus.compute.devices.base import Device
from nexus.compute.devices.host import HostDevice
from nexus.compute.devices.worker import WorkerDevice
from nexus.compute.engine import Engine
from nexus.compute.formats import FORMATS
from nexus.compute.operations.cloth import sheet
from nexus.compute.report import Report

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "plots"
WIDTH, HEIGHT, LEFT, TOP = 640, 260, 90, 46
COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49")
SIZE = 2048
SHARES = (0.2, 0.1, 0.05)


class Plot:
    """An SVG picture with a title and a line under it that says how the figures came about."""

    def __init__(self, title: str, note: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        ]
        self.text(12, 18, title, size=14)
        self.text(12, 34, note, colour="#666")

    def text(
        self, x: float, y: float, words: str, *, size: int = 12, colour: str = "#222", anchor: str = "start"
    ) -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
            f'fill="{colour}" stroke="white" stroke-width="0.6"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.5) -> None:
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def write(self, path: Path) -> None:
        path.write_text("\n".join([*self.parts, "</svg>"]) + "\n", encoding="utf-8")


def conditions() -> str:
    return f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"


def split() -> Plot:
    """When each worker was busy, with an equal split and with the engine's."""
    workers: list[Device] = [WorkerDevice(n, share) for n, share in enumerate(SHARES)]
    calibration = Calibration("")
    reports: list[Report] = []
    a, b = operands(SIZE)
    for equal in (True, False):
        engine = Engine(workers, calibration=calibration, equal_split=equal)
        for _ in range(2):
            engine.matmul(a, b)
        assert engine.last is not None
        reports.append(engine.last)
    for worker in workers:
        worker.close()
    plot = Plot(
        f"One product {SIZE}³ on three workers with {', '.join(map(str, SHARES))} of a core",
        f"chunks over time, measured, fp32; {conditions()}",
    )
    longest = max(report.seconds for report in reports)
    y = TOP + 10.0
    for name, report in zip(("equal split", "the engine's split"), reports, strict=True):
        plot.text(12, y, f"{name}: {report.seconds:.2f} s, balance {report.balance:.2f}")
        for n, row in enumerate(report.devices):
            y += 8
            plot.text(12, y + 10, row.device.name, colour="#666")
            for began, ended in row.spans:
                scale = (WIDTH - LEFT - 20) / longest
                plot.bar(LEFT + began * scale, y, (ended - began) * scale, 14, COLOURS[n])
            y += 12
        y += 36
    return plot


def errors() -> Plot:
    """The error found of every format and its bound, on a logarithmic axis."""
    a, b = operands(512)
    engine = Engine([HostDevice()], calibration=Calibration(""), seed=1)
    plot = Plot(
        "Relative error of a product 512³ in every format",
        "found in 32 elements against fp64 (bar), and the bound (line)",
    )
    lowest, highest = -8.5, 0.0
    step = (HEIGHT - TOP - 30) / len(FORMATS)
    for n, name in enumerate(FORMATS):
        engine.matmul(a, b, dtype=name)
        report = engine.last
        assert report is not None and report.error is not None and report.bound is not None
        y = TOP + 6 + n * step
        plot.text(LEFT - 8, y + step / 2 + 3, name, anchor="end")
        at = [
            LEFT + (np.log10(value) - lowest) / (highest - lowest) * (WIDTH - LEFT - 20)
            for value in (report.error, report.bound)
        ]
        plot.bar(LEFT, y + 2, at[0] - LEFT, step - 6, COLOURS[0])
        plot.line([(at[1], y), (at[1], y + step - 2)], COLOURS[1], 2.5)
    for power in range(-8, 1, 2):
        x = LEFT + (power - lowest) / (highest - lowest) * (WIDTH - LEFT - 20)
        plot.text(x, HEIGHT - 8, f"1e{power}", colour="#666", anchor="middle")
    return plot


def rates() -> Plot:
    """fp32 products of several sizes by numpy and by the engine on the processor, in turns."""
    sizes = (128, 256, 512, 1024, 1536)
    found: list[list[float]] = [[], []]
    with threadpool_limits(1), Engine([HostDevice()], calibration=Calibration("")) as engine:
        for size in sizes:
            a, b = operands(size)
            times = in_turns([lambda: np.matmul(a, b), lambda: engine.matmul(a, b)], 9)  # noqa: B023
            for n in range(2):
                found[n].append(2e-9 * size**3 / statistics.median(times[n]))
    plot = Plot(
        "fp32 product on the processor: numpy and the engine",
        f"GFLOP/s of one thread, measured, median of 9 in turns; {conditions()}",
    )
    top = max(map(max, found))
    for n, name in enumerate(("numpy", "engine")):
        points = [
            (
                LEFT + k * (WIDTH - LEFT - 60) / (len(sizes) - 1),
                HEIGHT - 34 - rate / top * (HEIGHT - TOP - 44),
            )
            for k, rate in enumerate(found[n])
        ]
        plot.line(points, COLOURS[n])
        plot.text(LEFT + 12, TOP + 16 + 16 * n, name, colour=COLOURS[n])
        for k, (x, _) in enumerate(points):
            plot.text(x, HEIGHT - 12, f"{sizes[k]}³", colour="#666", anchor="middle")
    plot.text(LEFT - 8, TOP + 10, f"{top:.0f}", colour="#666", anchor="end")
    plot.text(LEFT - 8, HEIGHT - 30, "0", colour="#666", anchor="end")
    return plot


def cloth() -> Plot:
    """A sheet that hangs by two corners, at three moments."""
    rows = columns = 24
    points, springs = sheet(rows, columns, 1.0 / (columns - 1))
    x, v = points, np.zeros_like(points)
    options = {"stiffness": 400.0, "damping": 0.6, "mass": 0.02, "pinned": (0, columns - 1), "dt": 1e-3}
    plot = Plot(
        "A cloth of 576 masses, hung by two corners of its far edge",
        "seen from the side, computed in fp64; after 0, 0.2 and 1.5 s",
    )
    with Engine([HostDevice()], calibration=Calibration("")) as engine:
        for n, steps in enumerate((0, 200, 1300)):
            if steps:
                x, v = engine.cloth(x, v, springs, steps=steps, **options)  # type: ignore[arg-type]
            grid = x.reshape(rows, columns, 3)
            across = 190 * n + 30 + 110 * grid[..., 0] + 42 * grid[..., 1]
            down = 76 - 130 * grid[..., 2] + 36 * grid[..., 1]
            for k in range(rows):
                plot.line(list(zip(across[k], down[k], strict=True)), COLOURS[n], 0.6)
                plot.line(list(zip(across[:, k], down[:, k], strict=True)), COLOURS[n], 0.6)
    return plot


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (split, errors, rates, cloth):
        began = time.monotonic()
        draw().write(folder / f"compute-{draw.__name__}.svg")
        print(f"{draw.__name__}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
