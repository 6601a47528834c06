"""The chart: a row for each device and slot, a bar for each attempt, below it how many ran and waited at a time.

One SVG without anything from outside. Colours follow the reader's light or dark mode; on paper they are light.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from epp_batch.report.model import Report
from epp_batch.report.render import strips
from epp_batch.report.render.bars import ENDINGS, MARKED, bar, mark
from epp_batch.report.render.frame import CHARACTER, WIDTH, Frame, rect, text
from epp_batch.report.render.lanes import Group, common, groups
from epp_batch.report.words import count, lasting

TOP, BODY, FONT = 30.0, 640.0, 11.0
"""Pixels: above the rows, of all rows together as far as they need it, of text."""
COLOURS = 8


def svg(
    report: Report, *, length: float | None = None, models: Sequence[str] | None = None, ident: str = "gantt"
) -> str:
    """For two charts on one scale: `length` in seconds makes the axis longer, `models` fixes the order of colours, and
    `ident` sets their definitions apart.
    """
    found = groups(report.spans, 0.0 if report.kind == "virtual" else min(1.0, report.length / 100))
    prefix = common([group.device for group in found])
    names = [_short(group.device.removeprefix(prefix)) for group in found]
    left = max([len("summaries"), *map(len, names)]) * FONT * CHARACTER + 22
    frame = Frame(left, max(length or 0.0, report.length) or 1.0, ident)
    colours = {name: index % COLOURS for index, name in enumerate(models or [one.model for one in report.models])}
    under, over, y = _rows(report, frame, found, names, colours)
    axis = strips.axis(frame, y)
    bottom = y
    y += 30
    curves: list[str] = []
    for strip in strips.strips(report):
        curves += [*strips.grid(frame, y, y + strip.height), *strips.draw(frame, strip, y)]
        y += strip.height + 16
    cuts = strips.cuts(frame, report.cuts, TOP - 4, y - 16)
    parts = [*_legend(report, frame, colours), *under, *strips.grid(frame, TOP, bottom), *over, *axis, *curves, *cuts]
    return "\n".join([_head(report, y), _definitions(ident), *parts, "</svg>"]) + "\n"


def style() -> str:
    """The rules of every chart."""
    return (files("epp_batch.report.render") / "gantt.css").read_text(encoding="utf-8")


def _head(report: Report, height: float) -> str:
    about = f"{count(len(report.spans), 'attempt')} in {lasting(report.length)}, a row for each device"
    return (
        f'<svg class="gantt" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:.0f}" '
        f'role="img" aria-label="{escape(about)}">'
    )


def _definitions(ident: str) -> str:
    return (
        f"<style>\n{style()}</style>\n"
        f'<defs><pattern id="{ident}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path class="hatch" d="M0 0V6"/></pattern></defs>'
    )


def _short(device: str) -> str:
    """The end of a long name tells more than its start."""
    device = device or "not told"
    return device if len(device) <= 30 else f"…{device[-29:]}"


def _heights(found: list[Group]) -> tuple[float, float]:
    """Of a lane and of a slot, so that all rows fit in BODY as long as anything is to be seen of them."""
    plain = sum(group.lanes for group in found if not group.slotted)
    slots = sum(group.lanes for group in found if group.slotted)
    lane = min(22.0, max(3.0, BODY / max(1.0, plain + slots * 0.45)))
    return lane, min(10.0, max(2.5, lane * 0.45))


def _rows(
    report: Report, frame: Frame, found: list[Group], names: list[str], colours: dict[str, int]
) -> tuple[list[str], list[str], float]:
    """Backgrounds; bars, marks and names of devices; where they end."""
    lane, slot = _heights(found)
    gap = 4.0 if lane >= 8 else 1.0
    units = {unit: index for index, unit in enumerate(dict.fromkeys(span.unit for span in report.spans))}
    under, bars, marks, labels = [], [], [], []
    y, named = TOP, float("-inf")
    for group, name in zip(found, names, strict=True):
        one = slot if group.slotted else lane
        height = group.lanes * one
        under.append(rect("lane", frame.left, y, frame.right - frame.left, height))
        for each in group.bars:
            span = each.span
            drawn, ending = bar(frame, each, y, one, colour=colours.get(span.model, 0), unit=units[span.unit])
            bars.append(drawn)
            marks.append(ending)
        if y + height / 2 - named >= FONT + 1:
            named = y + height / 2
            labels.append(text(frame.left - 16 if group.slotted else frame.left - 8, named + 4, name, anchor="end"))
        if group.slotted and slot >= 8:
            labels += [_slot(frame, y + (index + 0.5) * slot, index) for index in range(group.lanes)]
        y += height + gap
    return under, [*bars, *filter(None, marks), *labels], y


def _slot(frame: Frame, y: float, index: int) -> str:
    return text(frame.left - 4, y + 2.6, str(index), anchor="end", kind="faint", size=7)


def _legend(report: Report, frame: Frame, colours: dict[str, int]) -> list[str]:
    """The models, and the marks that occur."""
    parts: list[str] = []
    x = frame.left
    for model, index in colours.items():
        parts += [rect(f"m{index}", x, 7, 12, 12, ' rx="2"'), text(x + 17, 17, model)]
        x += 17 + len(model) * FONT * CHARACTER + 18
    if any(span.running is not None and span.running - span.allocated > frame.length / 500 for span in report.spans):
        parts += [rect("start m0", x, 7, 12, 12), text(x + 17, 17, "admitted, not running yet")]
        x += 17 + 25 * FONT * CHARACTER + 18
    for ending in MARKED:
        if any(span.ending == ending for span in report.spans):
            parts += [mark(ending, x + 6, 13, 12), text(x + 17, 17, ENDINGS[ending])]
            x += 17 + len(ENDINGS[ending]) * FONT * CHARACTER + 18
    return parts
