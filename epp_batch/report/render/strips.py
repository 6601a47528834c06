"""The time axis, and the curves below the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from epp_batch.report.axis import Cut
from epp_batch.report.model import Report
from epp_batch.report.render import scale
from epp_batch.report.render.frame import Frame, line, text
from epp_batch.report.step_function import Step, curve, peak
from epp_batch.report.words import lasting


class Strip(NamedTuple):
    """One curve."""

    name: str
    kind: str
    steps: Sequence[Step]
    height: float
    mean: float | None = None


def strips(report: Report) -> list[Strip]:
    """What there is to show of how many at once."""
    found = [Strip("running", "area", report.concurrency.running, 64, report.concurrency.mean)]
    if peak(report.concurrency.waiting):
        found.append(Strip("waiting", "wait", report.concurrency.waiting, 40))
    if report.summaries:
        steps = curve((one.sent, one.ended) for one in report.summaries)
        found.append(Strip("summaries", "sums", steps, 40))
    return [one for one in found if one.steps]


def draw(frame: Frame, strip: Strip, y: float) -> list[str]:
    """The area under the steps, with its highest value."""
    most, base = peak(strip.steps), y + strip.height
    path = [f"M{frame.x(strip.steps[0][0]):.1f} {base:.1f}"]
    for at, level in _seen(frame, strip.steps):
        path.append(f"H{frame.x(at):.1f}V{base - strip.height * level / most:.1f}")
    parts = [
        f'<path class="{strip.kind}" d="{"".join(path)}V{base:.1f}Z"/>',
        line("grid", frame.left, base, frame.right, base),
        text(frame.left - 8, y + 9, f"{most:,}", anchor="end", kind="faint"),
        text(frame.left - 8, base, strip.name, anchor="end"),
    ]
    if strip.mean:
        dashes = base - strip.height * strip.mean / most
        parts.append(line("mean", frame.left, dashes, frame.right, dashes))
        below = 11 if dashes - y < 12 else -3
        parts.append(text(frame.right, dashes + below, f"mean {strip.mean:.1f}", anchor="end", kind="over"))
    return parts


def _seen(frame: Frame, steps: Sequence[Step]) -> list[Step]:
    """Without dips that are over before they are half a pixel wide: a device that changes hands."""
    kept: list[Step] = []
    for index, (at, level) in enumerate(steps):
        after = steps[index + 1] if index + 1 < len(steps) else (at, 0)
        dip = bool(kept) and level < kept[-1][1] <= after[1] and frame.x(after[0]) - frame.x(at) < 0.5
        if not dip:
            kept.append((at, level))
    return kept


def axis(frame: Frame, y: float) -> list[str]:
    """Names of the ticks."""
    marks = scale.ticks(frame.length, 13)
    parts = [
        text(frame.x(mark), y + 13, scale.label(mark, frame.length), anchor="middle", kind="faint") for mark in marks
    ]
    return [*parts, line("grid", frame.left, y, frame.right, y)]


def grid(frame: Frame, top: float, bottom: float) -> list[str]:
    """Lines at the ticks."""
    return [line("grid", frame.x(mark), top, frame.x(mark), bottom) for mark in scale.ticks(frame.length, 13)]


def cuts(frame: Frame, found: Sequence[Cut], top: float, bottom: float) -> list[str]:
    """Where idle time was left out."""
    parts = []
    for cut in found:
        x, last = frame.x(cut.at), cut.at > frame.length * 0.85
        about = f"idle for {lasting(cut.seconds)}"
        parts.append(line("cut", x, top, x, bottom))
        parts.append(text(x - 3 if last else x + 3, bottom, about, kind="over", anchor="end" if last else "", size=9))
    return parts
