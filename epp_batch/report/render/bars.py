"""Bars of attempts, and the marks at their ends."""

from __future__ import annotations

from html import escape

from epp_batch.report.model import AttemptSpan
from epp_batch.report.render.frame import ChartFrame, draw_rect, draw_text, fit_text
from epp_batch.report.render.lanes import LaneBar
from epp_batch.report.words import format_duration

ENDING_LABELS = {
    "evicted": "evicted",
    "retried": "pod failed, tried again",
    "failed": "failed",
    "cancelled": "cancelled",
    "lost": "end not seen",
    "open": "not over",
}
"""Endings that want a word; of the others the chart says nothing."""
MARKED_ENDINGS = ("evicted", "retried", "failed")
_HATCHED_ENDINGS = ("failed", "cancelled", "lost")


def draw_bar(frame: ChartFrame, one: LaneBar, y: float, lane: float, *, colour: int, unit: int) -> tuple[str, str]:
    """The bar, and the marks that go above all bars. `y` is the top of its group, `lane` the height of a lane."""
    span = one.span
    gap = 1.0 if lane >= 4 else 0.0
    top, height = y + one.first_lane * lane, (one.last_lane - one.first_lane + 1) * lane - gap
    began = span.ended if span.running is None else span.running
    left, middle, right = frame.x_of(span.allocated), frame.x_of(began), frame.x_of(span.ended)
    parts = [f'<g data-unit="{unit}"><title>{escape(describe_attempt(span))}</title>']
    if middle - left >= 0.5:
        parts.append(draw_rect(f"start m{colour}", left, top, middle - left, height))
    if span.running is not None:
        width = max(1.0, right - middle)
        parts.append(draw_rect(f"bar m{colour}", middle, top, width, height, ' rx="1.5"' if height > 6 else ""))
        if span.ending in _HATCHED_ENDINGS:
            parts.append(draw_rect("", middle, top, width, height, f' fill="url(#{frame.id_prefix}-hatch)"'))
        parts.append(_draw_label(span, middle, top, right - middle, height))
    return "".join(parts) + "</g>", draw_ending_mark(span.ending, right, top + height / 2, height)


def _draw_label(span: AttemptSpan, x: float, y: float, width: float, height: float) -> str:
    if height < 8.5:
        return ""
    size = 11.0 if height >= 12 else 8.5
    room = width - (14 if span.ending in MARKED_ENDINGS else 7)
    label = fit_text(span.label.rpartition("/")[2], room, size)
    return draw_text(x + 4, y + height / 2 + size * 0.36, label, kind="name", size=size) if label else ""


def draw_ending_mark(ending: str, x: float, y: float, height: float) -> str:
    """A black diamond for an eviction, a ring for a pod that failed, a red cross for a failure."""
    half = min(6.0, max(3.0, height / 2))
    if ending == "evicted":
        corner = f"l{-half:.1f} {half:.1f}l{-half:.1f} {-half:.1f}"
        return f'<path class="mark" d="M{x:.1f} {y - half:.1f}l{half:.1f} {half:.1f}{corner}z"/>'
    if ending == "retried":
        return f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{half * 0.75:.1f}"/>'
    if ending == "failed":
        arm = half * 0.9
        return "".join(
            f'<path class="failed" transform="rotate({angle} {x:.1f} {y:.1f})" '
            f'd="M{x - arm:.1f} {y - 1.2:.1f}h{2 * arm:.1f}v2.4h{-2 * arm:.1f}z"/>'
            for angle in (45, -45)
        )
    return ""


def describe_attempt(span: AttemptSpan) -> str:
    """The attempt in a few lines, for whoever points at it."""
    lines = [f"{span.label} · {span.model}"]
    where = [span.place] if span.place else []
    if span.attempt > 1:
        where.append(f"attempt {span.attempt}")
    if where:
        lines.append(" · ".join(where))
    if span.running is None:
        lines.append(
            f"held its device from {format_duration(span.allocated)} to {format_duration(span.ended)}, never ran"
        )
    else:
        lines.append(
            f"ran from {format_duration(span.running)} to {format_duration(span.ended)}: "
            f"{format_duration(span.ended - span.running)}"
        )
        if span.running - span.allocated >= 0.05:
            lines.append(f"admitted {format_duration(span.running - span.allocated)} before")
    ending = ENDING_LABELS.get(span.ending, "")
    if ending:
        lines.append(f"{ending}: {span.detail}" if span.detail else ending)
    return "\n".join(lines)
