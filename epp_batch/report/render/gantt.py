"""The Gantt chart as SVG: a row for each device and slot, a bar for each attempt, and below them curves of how many
units ran, waited and were being summarised.

One SVG that loads nothing. Colours follow the reader's light or dark mode; in print they are light.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple

from epp_batch.report.model import AttemptSpan, IdleCut, Report
from epp_batch.report.render.layout import (
    DeviceLanes,
    LaneBar,
    common_node_prefix,
    format_tick,
    group_by_device,
    tick_times,
)
from epp_batch.report.render.svg import (
    CHARACTER_WIDTH,
    CHART_WIDTH,
    ChartFrame,
    draw_line,
    draw_rect,
    draw_text,
    fit_text,
)
from epp_batch.report.render.text import format_count, format_duration
from epp_batch.report.stats import Step, build_step_function, peak_level

CHART_TOP, FONT_SIZE = 30.0, 11.0
"""Pixels; above CHART_TOP is the legend."""
MAX_ROWS_HEIGHT = 640.0
"""Pixels of all rows together, as long as each can still be seen."""
COLOUR_COUNT = 8
"""Colours of models in gantt.css."""
MAX_TICKS = 13

ENDING_LABELS = {
    "evicted": "evicted",
    "retried": "pod failed, retried",
    "failed": "failed",
    "cancelled": "cancelled",
    "lost": "end not seen",
    "open": "not finished",
}
"""Endings other than success."""
MARKED_ENDINGS = ("evicted", "retried", "failed")
_HATCHED_ENDINGS = ("failed", "cancelled", "lost")


def render_svg(
    report: Report, *, length: float | None = None, models: Sequence[str] | None = None, id_prefix: str = "gantt"
) -> str:
    """The chart of a report.

    For two charts on one scale, `length` in seconds extends the axis, `models` fixes the order of colours, and
    `id_prefix` keeps their definitions apart.
    """
    groups = group_by_device(report.spans, 0.0 if report.kind == "virtual" else min(1.0, report.length / 100))
    node_prefix = common_node_prefix([group.device for group in groups])
    names = [_shorten_device(group.device.removeprefix(node_prefix)) for group in groups]
    left = max([len("summaries"), *map(len, names)]) * FONT_SIZE * CHARACTER_WIDTH + 22
    frame = ChartFrame(left, max(length or 0.0, report.length) or 1.0, id_prefix)
    colours = {
        model: index % COLOUR_COUNT for index, model in enumerate(models or [row.model for row in report.models])
    }
    backgrounds, foreground, y = _draw_rows(report, frame, groups, names, colours)
    axis = draw_axis(frame, y)
    bottom = y
    y += 30
    curves: list[str] = []
    for strip in build_strips(report):
        curves += [*draw_grid(frame, y, y + strip.height), *draw_strip(frame, strip, y)]
        y += strip.height + 16
    cuts = draw_idle_cuts(frame, report.cuts, CHART_TOP - 4, y - 16)
    grid = draw_grid(frame, CHART_TOP, bottom)
    parts = [*_draw_legend(report, frame, colours), *backgrounds, *grid, *foreground, *axis, *curves, *cuts]
    return "\n".join([_svg_header(report, y), _svg_definitions(id_prefix), *parts, "</svg>"]) + "\n"


def load_style() -> str:
    """The style sheet of the chart."""
    return (files("epp_batch.report.render") / "gantt.css").read_text(encoding="utf-8")


def _svg_header(report: Report, height: float) -> str:
    label = f"{format_count(len(report.spans), 'attempt')} in {format_duration(report.length)}, a row for each device"
    return (
        f'<svg class="gantt" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {CHART_WIDTH:g} {height:.0f}" '
        f'role="img" aria-label="{escape(label)}">'
    )


def _svg_definitions(id_prefix: str) -> str:
    return (
        f"<style>\n{load_style()}</style>\n"
        f'<defs><pattern id="{id_prefix}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path class="hatch" d="M0 0V6"/></pattern></defs>'
    )


def _shorten_device(device: str) -> str:
    """The end of a long name, which differs more between devices than its beginning."""
    device = device or "unknown device"
    return device if len(device) <= 30 else f"…{device[-29:]}"


def _lane_heights(groups: list[DeviceLanes]) -> tuple[float, float]:
    """Height of a lane and of a slot, such that all rows fit into MAX_ROWS_HEIGHT unless they would be too thin."""
    lanes = sum(group.lane_count for group in groups if not group.has_slots)
    slots = sum(group.lane_count for group in groups if group.has_slots)
    lane_height = min(22.0, max(3.0, MAX_ROWS_HEIGHT / max(1.0, lanes + slots * 0.45)))
    return lane_height, min(10.0, max(2.5, lane_height * 0.45))


def _draw_rows(
    report: Report, frame: ChartFrame, groups: list[DeviceLanes], names: list[str], colours: dict[str, int]
) -> tuple[list[str], list[str], float]:
    """Backgrounds of the devices; their bars, marks and names, to be drawn above the grid; and the lower edge."""
    lane_height, slot_height = _lane_heights(groups)
    gap = 4.0 if lane_height >= 8 else 1.0
    unit_numbers = {unit: index for index, unit in enumerate(dict.fromkeys(span.unit for span in report.spans))}
    backgrounds, bars, marks, labels = [], [], [], []
    y, last_label_y = CHART_TOP, float("-inf")
    for group, name in zip(groups, names, strict=True):
        height_of_lane = slot_height if group.has_slots else lane_height
        height = group.lane_count * height_of_lane
        backgrounds.append(draw_rect("lane", frame.left, y, frame.right - frame.left, height))
        for bar in group.bars:
            colour, unit_number = colours.get(bar.span.model, 0), unit_numbers[bar.span.unit]
            drawn, mark = draw_bar(frame, bar, y, height_of_lane, colour=colour, unit_number=unit_number)
            bars.append(drawn)
            marks.append(mark)
        middle = y + height / 2
        if middle - last_label_y >= FONT_SIZE + 1:  # else it would overlap the label above
            last_label_y = middle
            labels.append(draw_text(frame.left - (16 if group.has_slots else 8), middle + 4, name, anchor="end"))
        if group.has_slots and slot_height >= 8:
            labels += [
                _draw_slot_number(frame, y + (index + 0.5) * slot_height, index) for index in range(group.lane_count)
            ]
        y += height + gap
    return backgrounds, [*bars, *filter(None, marks), *labels], y


def _draw_slot_number(frame: ChartFrame, y: float, number: int) -> str:
    return draw_text(frame.left - 4, y + 2.6, str(number), anchor="end", css_class="faint", size=7)


def _draw_legend(report: Report, frame: ChartFrame, colours: dict[str, int]) -> list[str]:
    """The models, and the marks that occur."""
    parts: list[str] = []
    x = frame.left
    for model, colour in colours.items():
        parts += [draw_rect(f"m{colour}", x, 7, 12, 12, ' rx="2"'), draw_text(x + 17, 17, model)]
        x += 17 + len(model) * FONT_SIZE * CHARACTER_WIDTH + 18
    shortest = frame.length / 500
    if any(span.running is not None and span.running - span.allocated > shortest for span in report.spans):
        parts += [draw_rect("start m0", x, 7, 12, 12), draw_text(x + 17, 17, "admitted, not running yet")]
        x += 17 + 25 * FONT_SIZE * CHARACTER_WIDTH + 18
    for ending in MARKED_ENDINGS:
        if any(span.ending == ending for span in report.spans):
            label = ENDING_LABELS[ending]
            parts += [draw_ending_mark(ending, x + 6, 13, 12), draw_text(x + 17, 17, label)]
            x += 17 + len(label) * FONT_SIZE * CHARACTER_WIDTH + 18
    return parts


def draw_bar(
    frame: ChartFrame, bar: LaneBar, y: float, lane_height: float, *, colour: int, unit_number: int
) -> tuple[str, str]:
    """A bar, and the mark of its ending, which is drawn above all bars. `y` is the upper edge of the device.

    `unit_number` lets page.html find the other attempts of the same unit.
    """
    span = bar.span
    gap = 1.0 if lane_height >= 4 else 0.0
    top, height = y + bar.first_lane * lane_height, (bar.last_lane - bar.first_lane + 1) * lane_height - gap
    started = span.ended if span.running is None else span.running
    left, middle, right = frame.x_of(span.allocated), frame.x_of(started), frame.x_of(span.ended)
    parts = [f'<g data-unit="{unit_number}"><title>{escape(describe_attempt(span))}</title>']
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
    """The recording's name within the bar, if there is room."""
    if height < 8.5:
        return ""
    size = 11.0 if height >= 12 else 8.5
    room = width - (14 if span.ending in MARKED_ENDINGS else 7)
    label = fit_text(span.label.rpartition("/")[2], room, size)
    return draw_text(x + 4, y + height / 2 + size * 0.36, label, css_class="name", size=size) if label else ""


def draw_ending_mark(ending: str, x: float, y: float, height: float) -> str:
    """A black diamond for an eviction, a ring for a pod that was replaced, a red cross for a failure; else nothing."""
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
    """The attempt in a few lines, shown when the pointer is over its bar."""
    lines = [f"{span.label} · {span.model}"]
    where = [span.place] if span.place else []
    if span.attempt > 1:
        where.append(f"attempt {span.attempt}")
    if where:
        lines.append(" · ".join(where))
    allocated, ended = format_duration(span.allocated), format_duration(span.ended)
    if span.running is None:
        lines.append(f"held its device from {allocated} to {ended}, never ran")
    else:
        duration = format_duration(span.ended - span.running)
        lines.append(f"ran from {format_duration(span.running)} to {ended}: {duration}")
        if span.running - span.allocated >= 0.05:
            lines.append(f"admitted {format_duration(span.running - span.allocated)} before")
    ending = ENDING_LABELS.get(span.ending, "")
    if ending:
        lines.append(f"{ending}: {span.detail}" if span.detail else ending)
    return "\n".join(lines)


class ChartStrip(NamedTuple):
    """One curve below the rows."""

    name: str
    css_class: str
    steps: Sequence[Step]
    height: float
    mean: float | None = None


def build_strips(report: Report) -> list[ChartStrip]:
    """The curves that are not empty."""
    strips = [ChartStrip("running", "area", report.concurrency.running, 64, report.concurrency.mean)]
    if peak_level(report.concurrency.waiting):
        strips.append(ChartStrip("waiting", "wait", report.concurrency.waiting, 40))
    if report.summaries:
        steps = build_step_function((summary.sent, summary.ended) for summary in report.summaries)
        strips.append(ChartStrip("summaries", "sums", steps, 40))
    return [strip for strip in strips if strip.steps]


def draw_strip(frame: ChartFrame, strip: ChartStrip, y: float) -> list[str]:
    """The area under a step function, with its peak and its mean. `y` is the upper edge."""
    peak, base = peak_level(strip.steps), y + strip.height
    path = [f"M{frame.x_of(strip.steps[0][0]):.1f} {base:.1f}"]
    for at, level in _drop_invisible_dips(frame, strip.steps):
        path.append(f"H{frame.x_of(at):.1f}V{base - strip.height * level / peak:.1f}")
    parts = [
        f'<path class="{strip.css_class}" d="{"".join(path)}V{base:.1f}Z"/>',
        draw_line("grid", frame.left, base, frame.right, base),
        draw_text(frame.left - 8, y + 9, f"{peak:,}", anchor="end", css_class="faint"),
        draw_text(frame.left - 8, base, strip.name, anchor="end"),
    ]
    if strip.mean:
        mean_y = base - strip.height * strip.mean / peak
        parts.append(draw_line("mean", frame.left, mean_y, frame.right, mean_y))
        offset = 11 if mean_y - y < 12 else -3
        label = f"mean {strip.mean:.1f}"
        parts.append(draw_text(frame.right, mean_y + offset, label, anchor="end", css_class="over"))
    return parts


def _drop_invisible_dips(frame: ChartFrame, steps: Sequence[Step]) -> list[Step]:
    """Without dips narrower than half a pixel, as between two units on one device."""
    kept: list[Step] = []
    for index, (at, level) in enumerate(steps):
        after = steps[index + 1] if index + 1 < len(steps) else (at, 0)
        dip = bool(kept) and level < kept[-1][1] <= after[1] and frame.x_of(after[0]) - frame.x_of(at) < 0.5
        if not dip:
            kept.append((at, level))
    return kept


def draw_axis(frame: ChartFrame, y: float) -> list[str]:
    """The time axis, with the labels of its ticks below `y`."""
    labels = [
        draw_text(frame.x_of(tick), y + 13, format_tick(tick, frame.length), anchor="middle", css_class="faint")
        for tick in tick_times(frame.length, MAX_TICKS)
    ]
    return [*labels, draw_line("grid", frame.left, y, frame.right, y)]


def draw_grid(frame: ChartFrame, top: float, bottom: float) -> list[str]:
    """Vertical lines at the ticks."""
    return [
        draw_line("grid", frame.x_of(tick), top, frame.x_of(tick), bottom)
        for tick in tick_times(frame.length, MAX_TICKS)
    ]


def draw_idle_cuts(frame: ChartFrame, cuts: Sequence[IdleCut], top: float, bottom: float) -> list[str]:
    """A dashed line where idle time is cut out, and how much."""
    parts = []
    for cut in cuts:
        x, near_right_edge = frame.x_of(cut.at), cut.at > frame.length * 0.85
        parts.append(draw_line("cut", x, top, x, bottom))
        label, anchor = f"idle for {format_duration(cut.seconds)}", "end" if near_right_edge else ""
        label_x = x - 3 if near_right_edge else x + 3
        parts.append(draw_text(label_x, bottom, label, css_class="over", anchor=anchor, size=9))
    return parts
