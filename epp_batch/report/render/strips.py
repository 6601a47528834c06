"""The time axis, and the curves below the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from epp_batch.report.axis import IdleCut
from epp_batch.report.model import Report
from epp_batch.report.render import scale
from epp_batch.report.render.frame import ChartFrame, draw_line, draw_text
from epp_batch.report.step_function import Step, build_step_function, peak_level
from epp_batch.report.words import format_duration


class ChartStrip(NamedTuple):
    """One curve."""

    name: str
    css_class: str
    steps: Sequence[Step]
    height: float
    mean: float | None = None


def build_strips(report: Report) -> list[ChartStrip]:
    """What there is to show of how many at once."""
    found = [ChartStrip("running", "area", report.concurrency.running, 64, report.concurrency.mean)]
    if peak_level(report.concurrency.waiting):
        found.append(ChartStrip("waiting", "wait", report.concurrency.waiting, 40))
    if report.summaries:
        steps = build_step_function((one.sent, one.ended) for one in report.summaries)
        found.append(ChartStrip("summaries", "sums", steps, 40))
    return [one for one in found if one.steps]


def draw_strip(frame: ChartFrame, strip: ChartStrip, y: float) -> list[str]:
    """The area under the steps, with its highest value."""
    most, base = peak_level(strip.steps), y + strip.height
    path = [f"M{frame.x_of(strip.steps[0][0]):.1f} {base:.1f}"]
    for at, level in _drop_invisible_dips(frame, strip.steps):
        path.append(f"H{frame.x_of(at):.1f}V{base - strip.height * level / most:.1f}")
    parts = [
        f'<path class="{strip.css_class}" d="{"".join(path)}V{base:.1f}Z"/>',
        draw_line("grid", frame.left, base, frame.right, base),
        draw_text(frame.left - 8, y + 9, f"{most:,}", anchor="end", kind="faint"),
        draw_text(frame.left - 8, base, strip.name, anchor="end"),
    ]
    if strip.mean:
        dashes = base - strip.height * strip.mean / most
        parts.append(draw_line("mean", frame.left, dashes, frame.right, dashes))
        below = 11 if dashes - y < 12 else -3
        parts.append(draw_text(frame.right, dashes + below, f"mean {strip.mean:.1f}", anchor="end", kind="over"))
    return parts


def _drop_invisible_dips(frame: ChartFrame, steps: Sequence[Step]) -> list[Step]:
    """Without dips that are over before they are half a pixel wide: a device that changes hands."""
    kept: list[Step] = []
    for index, (at, level) in enumerate(steps):
        after = steps[index + 1] if index + 1 < len(steps) else (at, 0)
        dip = bool(kept) and level < kept[-1][1] <= after[1] and frame.x_of(after[0]) - frame.x_of(at) < 0.5
        if not dip:
            kept.append((at, level))
    return kept


def draw_axis(frame: ChartFrame, y: float) -> list[str]:
    """Names of the ticks."""
    marks = scale.tick_times(frame.length, 13)
    parts = [
        draw_text(frame.x_of(mark), y + 13, scale.format_tick(mark, frame.length), anchor="middle", kind="faint")
        for mark in marks
    ]
    return [*parts, draw_line("grid", frame.left, y, frame.right, y)]


def draw_grid(frame: ChartFrame, top: float, bottom: float) -> list[str]:
    """Lines at the ticks."""
    return [
        draw_line("grid", frame.x_of(mark), top, frame.x_of(mark), bottom)
        for mark in scale.tick_times(frame.length, 13)
    ]


def draw_idle_cuts(frame: ChartFrame, found: Sequence[IdleCut], top: float, bottom: float) -> list[str]:
    """Where idle time was left out."""
    parts = []
    for cut in found:
        x, last = frame.x_of(cut.at), cut.at > frame.length * 0.85
        about = f"idle for {format_duration(cut.seconds)}"
        parts.append(draw_line("cut", x, top, x, bottom))
        parts.append(
            draw_text(x - 3 if last else x + 3, bottom, about, kind="over", anchor="end" if last else "", size=9)
        )
    return parts
