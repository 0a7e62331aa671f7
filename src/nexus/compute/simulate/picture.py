"""The curves as an SVG picture: one panel for each precision, with axes of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from nexus.compute.simulate.records import HPL, HPL_MXP
from nexus.compute.simulate.scale import GOAL

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 44, 40
NEAR = 0.95
BLUE, PALE, GREY, RED = "#4269d0", "#c6d2f0", "#888", "#c0392b"


class Panel:
    """One pair of linear axes from 0; `x` and `y` turn values into places on the page."""

    def __init__(self, column: int, row: int, title: str, below: str, right: float, top: float) -> None:
        self.left, self.top = column * WIDTH + LEFT, row * HEIGHT + TOP
        self.right, self.bottom = (column + 1) * WIDTH - RIGHT, (row + 1) * HEIGHT - BOTTOM
        self.across, self.up = right, top
        self.parts = [
            f'<text x="{self.left}" y="{self.top - 24}" font-size="13">{escape(title)}</text>',
            f'<path d="M{self.left} {self.top}V{self.bottom}H{self.right}" fill="none" stroke="black"/>',
            f'<text x="{(self.left + self.right) / 2}" y="{self.bottom + 32}" text-anchor="middle">'
            f"{escape(below)}</text>",
        ]

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * value / self.across

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * value / self.up

    def ticks(self, across: Sequence[float], up: Sequence[float]) -> None:
        for value in across:
            self.text(self.x(value), self.bottom + 15, f"{value:,.0f}", "middle")
        for value in up:
            self.text(self.left - 6, self.y(value) + 4, f"{value / 1e18:g}", "end")

    def text(self, x: float, y: float, words: str, anchor: str = "start", colour: str = "black") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
        )

    def level(self, value: float, words: str, colour: str) -> None:
        """A dashed line across, with its name above it at the right."""
        at = self.y(value)
        self.parts.append(
            f'<path d="M{self.left} {at:.1f}H{self.right}" stroke="{colour}" stroke-dasharray="4 3"/>'
        )
        self.text(self.right, at - 3, words, "end", colour)

    def path(self, points: Sequence[tuple[float, float]], fill: str, stroke: str) -> None:
        line = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        kind = "polygon" if fill != "none" else "polyline"
        self.parts.append(f'<{kind} points="{line}" fill="{fill}" stroke="{stroke}"/>')


def svg(report: dict[str, Any]) -> str:
    """The picture of `scale.report`: curves with bands; published records only beside their own benchmark."""
    panels = [curve_panel(n, curve, report["records"]) for n, curve in enumerate(report["curves"])]
    panels.append(mixed_panel(len(panels), report["records"]))
    rows = (len(panels) + 1) // 2
    body = "\n".join(part for panel in panels for part in panel.parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{rows * HEIGHT}" '
        'font-family="sans-serif" font-size="10">\n<rect width="100%" height="100%" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


def curve_panel(number: int, curve: dict[str, Any], records: Sequence[dict[str, Any]]) -> Panel:
    points = curve["points"]
    beside = [row for row in records if row["benchmark"] == HPL] if curve["precision"] == "fp64" else []
    highest = max([points[-1]["flops"]["p95"], *(row["flops"] for row in beside)]) * 1.08
    title = f"{curve['precision']} block products, EFLOP/s (simulated)"
    panel = Panel(number % 2, number // 2, title, "H200 GPUs (simulated)", points[-1]["gpus"] * 1.02, highest)
    steps = 0.5e18
    panel.ticks(
        [point["gpus"] for point in points[::2]], [n * steps for n in range(1, int(highest / steps) + 1)]
    )
    upper = [(point["gpus"], point["flops"]["p95"]) for point in points]
    lower = [(point["gpus"], point["flops"]["p5"]) for point in points]
    panel.path([*upper, *reversed(lower)], PALE, "none")
    panel.path([(point["gpus"], point["flops"]["median"]) for point in points], "none", BLUE)
    panel.level(GOAL, "", GREY)
    for row, others in neighbours(beside):
        names = " and ".join(one["machine"] for one in [row, *others])
        panel.level(row["flops"], f"{names} {row['date']}, {row['benchmark']} (published)", RED)
    found = curve["at_1_eflops"]
    if "gpus" in found:
        panel.text(panel.left, panel.top - 10, crossing_text(found))
    return panel


def neighbours(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Records from the largest down, each with those that would lie on the same line."""
    found: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for row in sorted(rows, key=lambda row: -float(row["flops"])):
        if found and row["flops"] > NEAR * found[-1][0]["flops"]:
            found[-1][1].append(row)
        else:
            found.append((row, []))
    return found


def crossing_text(found: dict[str, Any]) -> str:
    """Where the curve meets 1 EFLOP/s."""
    best, worst = found.get("gpus_at_best"), found.get("gpus_at_worst")
    band = f" ({best:,} to {worst:,})" if best and worst else ""
    return (
        f"1 EFLOP/s: {found['gpus']:,} GPUs{band}, {100 * found['of_peak']:.0f} % of peak, "
        f"{found['watts_median'] / 1e6:.1f} MW"
    )


def mixed_panel(number: int, records: Sequence[dict[str, Any]]) -> Panel:
    """HPL-MxP on its own: mixed precision and another benchmark, comparable with none of the curves."""
    rows = [row for row in records if row["benchmark"] == HPL_MXP]
    largest = max(row["flops"] for row in rows) * 1.1
    title = f"{HPL_MXP} records, EFLOP/s (published)"
    panel = Panel(number % 2, number // 2, title, "another benchmark, in mixed precision", len(rows), largest)
    panel.ticks([], [4e18, 8e18, 12e18][: int(largest / 4e18)])
    for n, row in enumerate(rows):
        panel.path(
            [(n + 0.25, 0), (n + 0.25, row["flops"]), (n + 0.75, row["flops"]), (n + 0.75, 0)], RED, "none"
        )
        panel.text(panel.x(n + 0.5), panel.y(row["flops"]) - 4, f"{row['flops'] / 1e18:g}", "middle")
        panel.text(panel.x(n + 0.5), panel.bottom + 15, f"{row['machine']} {row['date']}", "middle")
    return panel
