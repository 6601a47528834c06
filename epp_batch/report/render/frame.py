"""Where on the chart a second lies, and how its elements are written."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

CHART_WIDTH, RIGHT_MARGIN = 1200.0, 18.0
"""Pixels: of the chart, and of its right margin."""
CHARACTER_WIDTH = 0.57
"""Width of a character, as a part of the font size."""


class ChartFrame(NamedTuple):
    """The part of a chart that has a time axis."""

    left: float
    """Pixels."""
    length: float
    """Seconds."""
    id_prefix: str
    """Sets the definitions of two charts on one page apart."""

    @property
    def right(self) -> float:
        return CHART_WIDTH - RIGHT_MARGIN

    def x_of(self, seconds: float) -> float:
        return self.left + (self.right - self.left) * seconds / self.length


def draw_rect(kind: str, x: float, y: float, width: float, height: float, more: str = "") -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{more}/>'


def draw_text(x: float, y: float, content: str, *, kind: str = "", anchor: str = "", size: float = 0) -> str:
    more = "".join(
        f' {name}="{value}"'
        for name, value in (("class", kind), ("text-anchor", anchor), ("font-size", f"{size:g}" if size else ""))
        if value
    )
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(content)}</text>'


def draw_line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def fit_text(content: str, width: float, size: float) -> str:
    """As much of the end of the text as fits, since the start is what names have in common; "" for less than six
    characters of it.
    """
    room = int(width / (size * CHARACTER_WIDTH))
    if len(content) <= room:
        return content
    return "…" + content[1 - room :] if room >= 7 else ""
