"""One page about one machine: sections of labelled figures, with bars, and the same as plain values.

A figure is measured (in this run), simulated, or peak (a data sheet's); the label stands beside each. Bars of
one chart have one unit and one label, so that nothing is compared that is not comparable.
"""

from __future__ import annotations

from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

VERSION = 1
LABELS = ("measured", "simulated", "peak")
_COLOURS = {"measured": "#4269d0", "simulated": "#efb118", "peak": "#9c9c9c"}
_NAME, _WIDTH, _BAR, _TEXT = 330, 360, 16, 150
_STYLE = """
body { font: 15px system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #222; background: #fff; }
table { border-collapse: collapse; } td, th { padding: .15rem .7rem; text-align: left; vertical-align: top; }
td.value { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.absent { color: #a33; } .note { color: #666; } svg { max-width: 100%; }
"""


class Figure:
    """One figure: what, of which label, its value and unit. `chart` groups figures that share bars."""

    __slots__ = ("chart", "label", "unit", "value", "what")

    def __init__(self, what: str, label: str, value: float, unit: str, chart: str = "") -> None:
        if label not in LABELS:
            raise ValueError(f"a figure is one of {LABELS}, not {label!r}")
        self.what = what
        self.label = label
        self.value = value
        self.unit = unit
        self.chart = chart

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "label": self.label, "value": self.value, "unit": self.unit}


class Section:
    """A part of the report. `absent` says why there are no figures; `pictures` are SVG texts of our own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: list[Figure] = []
        self.pictures: list[str] = []
        self.notes: list[str] = []
        self.absent = ""
        self.raw: Any = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "absent": self.absent,
            "notes": self.notes,
            "figures": [figure.as_json() for figure in self.figures],
            "raw": self.raw,
        }


def as_json(machine: dict[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    return {"version": VERSION, "machine": machine, "sections": [section.as_json() for section in sections]}


def html(machine: dict[str, Any], sections: Sequence[Section]) -> str:
    """The page; it loads nothing."""
    about = "".join(f"<tr><th>{escape(name)}<td>{escape(str(value))}" for name, value in machine.items())
    body = "".join(map(_section, sections))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>nexus bench all</title>'
        f"<style>{_STYLE}</style><h1>What this machine does</h1><table>{about}</table>"
        "<p class=note>Every figure is labelled: measured in this run, simulated, or a data sheet's peak. "
        f"Figures of different labels, units or precisions are never in one chart.</p>{body}\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.name)}</h2>"]
    if section.absent:
        parts.append(f"<p class=absent>not measured: {escape(section.absent)}</p>")
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in section.figures:
        groups.setdefault((figure.chart, figure.label, figure.unit), []).append(figure)
    for (chart, label, unit), figures in groups.items():
        title = " ".join(filter(None, (chart, f"{unit} ({label})")))
        parts.append(bars(title, figures) if chart else table(figures))
    parts += section.pictures
    parts += [f"<p class=note>{escape(note)}</p>" for note in section.notes]
    return "\n".join(parts)


def table(figures: Sequence[Figure]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.what)}<td class=value>{number(one.value)} {escape(one.unit)}<td>{one.label}"
        for one in figures
    )
    return f"<table>{rows}</table>"


def bars(title: str, figures: Sequence[Figure]) -> str:
    """Horizontal bars from 0, all of one unit and label."""
    largest = max((one.value for one in figures), default=0.0) or 1.0
    height = 24 + (_BAR + 4) * len(figures)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_NAME + _WIDTH + _TEXT}" height="{height}" '
        f'font-family="sans-serif" font-size="11" role="img"><text x="0" y="14" font-size="13">'
        f"{escape(title)}</text>"
    ]
    for n, one in enumerate(figures):
        y = 24 + n * (_BAR + 4)
        width = max(1.0, _WIDTH * one.value / largest)
        parts.append(f'<text x="{_NAME - 6}" y="{y + 12}" text-anchor="end">{escape(one.what)}</text>')
        parts.append(
            f'<rect x="{_NAME}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[one.label]}"/>'
        )
        parts.append(f'<text x="{_NAME + width + 5:.1f}" y="{y + 12}">{number(one.value)}</text>')
    return "".join([*parts, "</svg>"])


def number(value: float) -> str:
    """Four digits, with separators where it is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
