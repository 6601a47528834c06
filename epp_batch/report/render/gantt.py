"""The chart: a row for each device and slot, a bar for each attempt, below it how many ran and waited at a time.

One SVG without anything from outside. Colours follow the reader's light or dark mode; on paper they are light.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from epp_batch.report.model import Report
from epp_batch.report.render import strips
from epp_batch.report.render.bars import ENDING_LABELS, MARKED_ENDINGS, draw_bar, draw_ending_mark
from epp_batch.report.render.frame import CHARACTER_WIDTH, CHART_WIDTH, ChartFrame, draw_rect, draw_text
from epp_batch.report.render.lanes import DeviceLanes, common_node_prefix, group_by_device
from epp_batch.report.words import format_count, format_duration

CHART_TOP, MAX_ROWS_HEIGHT, FONT_SIZE = 30.0, 640.0, 11.0
"""Pixels: above the rows, of all rows together as far as they need it, of text."""
COLOUR_COUNT = 8


def render_svg(
    report: Report, *, length: float | None = None, models: Sequence[str] | None = None, ident: str = "gantt"
) -> str:
    """For two charts on one scale: `length` in seconds makes the axis longer, `models` fixes the order of colours, and
    `ident` sets their definitions apart.
    """
    found = group_by_device(report.spans, 0.0 if report.kind == "virtual" else min(1.0, report.length / 100))
    prefix = common_node_prefix([group.device for group in found])
    names = [_shorten_device(group.device.removeprefix(prefix)) for group in found]
    left = max([len("summaries"), *map(len, names)]) * FONT_SIZE * CHARACTER_WIDTH + 22
    frame = ChartFrame(left, max(length or 0.0, report.length) or 1.0, ident)
    colours = {name: index % COLOUR_COUNT for index, name in enumerate(models or [one.model for one in report.models])}
    under, over, y = _draw_rows(report, frame, found, names, colours)
    axis = strips.draw_axis(frame, y)
    bottom = y
    y += 30
    curves: list[str] = []
    for strip in strips.build_strips(report):
        curves += [*strips.draw_grid(frame, y, y + strip.height), *strips.draw_strip(frame, strip, y)]
        y += strip.height + 16
    cuts = strips.draw_idle_cuts(frame, report.cuts, CHART_TOP - 4, y - 16)
    parts = [
        *_draw_legend(report, frame, colours),
        *under,
        *strips.draw_grid(frame, CHART_TOP, bottom),
        *over,
        *axis,
        *curves,
        *cuts,
    ]
    return "\n".join([_svg_header(report, y), _svg_definitions(ident), *parts, "</svg>"]) + "\n"


def load_style() -> str:
    """The rules of every chart."""
    return (files("epp_batch.report.render") / "gantt.css").read_text(encoding="utf-8")


def _svg_header(report: Report, height: float) -> str:
    about = f"{format_count(len(report.spans), 'attempt')} in {format_duration(report.length)}, a row for each device"
    return (
        f'<svg class="gantt" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {CHART_WIDTH:g} {height:.0f}" '
        f'role="img" aria-label="{escape(about)}">'
    )


def _svg_definitions(ident: str) -> str:
    return (
        f"<style>\n{load_style()}</style>\n"
        f'<defs><pattern id="{ident}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path class="hatch" d="M0 0V6"/></pattern></defs>'
    )


def _shorten_device(device: str) -> str:
    """The end of a long name tells more than its start."""
    device = device or "not told"
    return device if len(device) <= 30 else f"…{device[-29:]}"


def _lane_heights(found: list[DeviceLanes]) -> tuple[float, float]:
    """Of a lane and of a slot, so that all rows fit in BODY as long as anything is to be seen of them."""
    plain = sum(group.lane_count for group in found if not group.has_slots)
    slots = sum(group.lane_count for group in found if group.has_slots)
    lane = min(22.0, max(3.0, MAX_ROWS_HEIGHT / max(1.0, plain + slots * 0.45)))
    return lane, min(10.0, max(2.5, lane * 0.45))


def _draw_rows(
    report: Report, frame: ChartFrame, found: list[DeviceLanes], names: list[str], colours: dict[str, int]
) -> tuple[list[str], list[str], float]:
    """Backgrounds; bars, marks and names of devices; where they end."""
    lane, slot = _lane_heights(found)
    gap = 4.0 if lane >= 8 else 1.0
    units = {unit: index for index, unit in enumerate(dict.fromkeys(span.unit for span in report.spans))}
    under, bars, marks, labels = [], [], [], []
    y, named = CHART_TOP, float("-inf")
    for group, name in zip(found, names, strict=True):
        one = slot if group.has_slots else lane
        height = group.lane_count * one
        under.append(draw_rect("lane", frame.left, y, frame.right - frame.left, height))
        for each in group.bars:
            span = each.span
            drawn, ending = draw_bar(frame, each, y, one, colour=colours.get(span.model, 0), unit=units[span.unit])
            bars.append(drawn)
            marks.append(ending)
        if y + height / 2 - named >= FONT_SIZE + 1:
            named = y + height / 2
            labels.append(
                draw_text(frame.left - 16 if group.has_slots else frame.left - 8, named + 4, name, anchor="end")
            )
        if group.has_slots and slot >= 8:
            labels += [_draw_slot_number(frame, y + (index + 0.5) * slot, index) for index in range(group.lane_count)]
        y += height + gap
    return under, [*bars, *filter(None, marks), *labels], y


def _draw_slot_number(frame: ChartFrame, y: float, index: int) -> str:
    return draw_text(frame.left - 4, y + 2.6, str(index), anchor="end", kind="faint", size=7)


def _draw_legend(report: Report, frame: ChartFrame, colours: dict[str, int]) -> list[str]:
    """The models, and the marks that occur."""
    parts: list[str] = []
    x = frame.left
    for model, index in colours.items():
        parts += [draw_rect(f"m{index}", x, 7, 12, 12, ' rx="2"'), draw_text(x + 17, 17, model)]
        x += 17 + len(model) * FONT_SIZE * CHARACTER_WIDTH + 18
    if any(span.running is not None and span.running - span.allocated > frame.length / 500 for span in report.spans):
        parts += [draw_rect("start m0", x, 7, 12, 12), draw_text(x + 17, 17, "admitted, not running yet")]
        x += 17 + 25 * FONT_SIZE * CHARACTER_WIDTH + 18
    for ending in MARKED_ENDINGS:
        if any(span.ending == ending for span in report.spans):
            parts += [draw_ending_mark(ending, x + 6, 13, 12), draw_text(x + 17, 17, ENDING_LABELS[ending])]
            x += 17 + len(ENDING_LABELS[ending]) * FONT_SIZE * CHARACTER_WIDTH + 18
    return parts
