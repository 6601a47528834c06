"""SVG elements as text, and the mapping of seconds to pixels. Coordinates are in pixels."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

CHART_WIDTH, RIGHT_MARGIN = 1200.0, 18.0
CHARACTER_WIDTH = 0.57
"""Mean width of a character, as a share of the font size."""


class ChartFrame(NamedTuple):
    """The part of a chart that has a time axis, from `left` to `right`."""

    left: float
    length: float
    """Seconds."""
    id_prefix: str
    """Of definitions, which would collide between two charts on one page."""

    @property
    def right(self) -> float:
        """End of the time axis."""
        return CHART_WIDTH - RIGHT_MARGIN

    def x_of(self, seconds: float) -> float:
        """Horizontal position of a second of the report's axis."""
        return self.left + (self.right - self.left) * seconds / self.length


def draw_rect(css_class: str, x: float, y: float, width: float, height: float, attributes: str = "") -> str:
    """A rectangle; `attributes` starts with a space."""
    return f'<rect class="{css_class}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{attributes}/>'


def draw_text(x: float, y: float, content: str, *, css_class: str = "", anchor: str = "", size: float = 0) -> str:
    """A line of text, escaped; its baseline is at `y`."""
    attributes = "".join(
        f' {name}="{value}"'
        for name, value in (("class", css_class), ("text-anchor", anchor), ("font-size", f"{size:g}" if size else ""))
        if value
    )
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(content)}</text>'


def draw_line(css_class: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<path class="{css_class}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def fit_text(content: str, width: float, size: float) -> str:
    """As much of the end of a text as fits into `width`; empty if that is less than six characters.

    The end, because names of recordings have their beginning in common.
    """
    room = int(width / (size * CHARACTER_WIDTH))
    if len(content) <= room:
        return content
    return "…" + content[1 - room :] if room >= 7 else ""
