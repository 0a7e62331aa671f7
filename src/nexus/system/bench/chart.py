"""The rows of a measurement as an SVG picture: a bar per kernel and contender on a logarithmic scale."""

from __future__ import annotations

from html import escape
from math import ceil, log10

from nexus.system.bench import table
from nexus.system.bench.contenders import NATIVE
from nexus.system.bench.measure import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2")
_BAR, _GAP, _LEFT, _WIDTH, _TOP, _RIGHT = 12, 14, 130, 700, 50, 140


def svg(rows: Sequence[Row]) -> str:
    """The picture; intervals are thin lines, kernels without a verdict are pale."""
    names = [name for name in table.contenders(rows) if name != NATIVE]
    programs = table.by_program(rows)
    largest = max((row.median for row in rows if row.contender != NATIVE), default=1.0)
    decades = max(1, ceil(log10(max(largest, 1.0))))

    def x(ratio: float) -> float:
        return _LEFT + _WIDTH * (log10(max(ratio, 0.1)) + 1) / (decades + 1)

    group = len(names) * _BAR + _GAP
    height = _TOP + group * len(programs) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + _RIGHT}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="16" font-size="13">Time as a multiple of native</text>',
    ]
    for index, name in enumerate(names):
        left = _LEFT + 90 * index
        parts.append(f'<rect x="{left}" y="26" width="10" height="10" fill="{_colour(index)}"/>')
        parts.append(f'<text x="{left + 14}" y="35">{escape(name)}</text>')
    for decade in range(-1, decades + 1):
        at = x(10.0**decade)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{height - 20}" stroke="#ccc"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - 6}" text-anchor="middle">{10.0**decade:g}</text>')
    for number, ((kernel, level), row_of) in enumerate(programs.items()):
        y = _TOP + number * group
        label, middle = f"{escape(kernel)} -O{level}", y + group / 2
        parts.append(f'<text x="{_LEFT - 8}" y="{middle:.1f}" text-anchor="end">{label}</text>')
        for index, name in enumerate(names):
            if name in row_of:
                parts += _bar(row_of[name], x, y + index * _BAR, _colour(index))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _bar(row: Row, x: Callable[[float], float], y: float, colour: str) -> list[str]:
    left, right = x(0.1), x(row.median)
    opacity = 1 if row.steady else 0.35
    parts = [
        f'<rect x="{left:.1f}" y="{y}" width="{max(right - left, 1):.1f}" height="{_BAR - 2}" '
        f'fill="{colour}" opacity="{opacity}"/>',
        f'<text x="{right + 6:.1f}" y="{y + _BAR - 3}" font-size="9">{table.cell(row)}</text>',
    ]
    found = row.interval
    if found is not None:
        middle = y + _BAR / 2 - 1
        ends = f'x1="{x(found[0]):.1f}" x2="{x(found[1]):.1f}" y1="{middle}" y2="{middle}"'
        parts.append(f'<line {ends} stroke="black"/>')
    return parts
