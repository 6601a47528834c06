"""Two runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from epp_batch.report import words
from epp_batch.report.model import Report
from epp_batch.report.render.tables import DEVICE_NAMES, ReportTable, TableCell, device_hours_cell
from epp_batch.report.words import format_duration, format_number, format_percent


class FigureChange(NamedTuple):
    """One figure of both runs; `better` is -1 where less is better, 1 where more is, 0 where neither."""

    name: str
    before: float | None
    after: float | None
    better_direction: int
    format_value: Callable[[float | None], str]

    @property
    def relative_change(self) -> float | None:
        """after / before - 1; None where that means nothing."""
        if self.before is None or self.after is None or not self.before:
            return None
        return self.after / self.before - 1


def compare_reports(report: Report, baseline: Report) -> list[FigureChange]:
    """What both runs have figures for."""
    made = [
        FigureChange("makespan", baseline.makespan, report.makespan, -1, format_duration),
        FigureChange("speed, × real time", baseline.speed, report.speed, 1, format_number),
        *_compare_latencies(report, baseline),
        FigureChange("at once, peak", baseline.concurrency.peak, report.concurrency.peak, 0, _format_count),
        FigureChange("at once, mean", baseline.concurrency.mean, report.concurrency.mean, 0, format_number),
        FigureChange("evictions", baseline.evictions, report.evictions, -1, _format_count),
        *_compare_devices(report, baseline),
        FigureChange("cost", baseline.cost, report.cost, -1, partial(words.format_money, currency=report.currency)),
        FigureChange("word error rate", baseline.wer, report.wer, -1, format_percent),
        FigureChange("failed", baseline.counts["failed"], report.counts["failed"], -1, _format_count),
    ]
    return [one for one in made if one.before is not None and one.after is not None and (one.before or one.after)]


def _compare_latencies(report: Report, baseline: Report) -> list[FigureChange]:
    made = []
    for name, title in (("wait", "queue wait"), ("completion", "completion"), ("ttft", "first token of a summary")):
        before, after = baseline.latencies.get(name), report.latencies.get(name)
        if before is not None and after is not None:
            made += [
                FigureChange(f"{title}, mean", before.mean, after.mean, -1, format_duration),
                FigureChange(f"{title}, P95", before.p95, after.p95, -1, format_duration),
                FigureChange(f"{title}, P99", before.p99, after.p99, -1, format_duration),
            ]
    return made


def _compare_devices(report: Report, baseline: Report) -> list[FigureChange]:
    before = {use.device: use for use in baseline.uses}
    pairs = [(before[use.device], use) for use in report.uses if use.device in before]
    held = [
        FigureChange(f"{DEVICE_NAMES[new.device]} time, held", old.allocated, new.allocated, -1, _format_device_hours)
        for old, new in pairs
    ]
    return held + [
        FigureChange(f"{DEVICE_NAMES[new.device]} time, of makespan", old.share, new.share, 0, format_percent)
        for old, new in pairs
    ]


def _format_device_hours(value: float | None) -> str:
    return device_hours_cell(value).text


def _format_count(value: float | None) -> str:
    return words.UNKNOWN if value is None else f"{value:,.0f}"


def _change_cell(one: FigureChange) -> TableCell:
    if one.relative_change is None:
        return TableCell("")
    tone = (
        ""
        if abs(one.relative_change) < 0.0005
        else "good"
        if one.relative_change * one.better_direction > 0
        else "bad"
        if one.better_direction
        else ""
    )
    return TableCell(
        f"{round(one.relative_change * 100, 1) or 0.0:+.1f} %".replace("-", "−"), one.relative_change, tone
    )


def build_comparison_table(report: Report, baseline: Report) -> ReportTable:
    """With a note on how much of the work was the same."""
    rows = [
        [
            TableCell(one.name),
            TableCell(one.format_value(one.before), one.before),
            TableCell(one.format_value(one.after), one.after),
            _change_cell(one),
        ]
        for one in compare_reports(report, baseline)
    ]
    return ReportTable(
        "Compared", ("", baseline.run, report.run, "change"), rows, note=describe_different_work(report, baseline)
    )


def summarize_comparison(report: Report, baseline: Report) -> str:
    """The two figures that the paper compares, in a sentence; "" where neither is known."""
    names = {"makespan": "makespan", "completion, mean": "mean completion"}
    found = [one for one in compare_reports(report, baseline) if one.name in names and one.relative_change is not None]
    said = [f"{names[one.name]} {_change_cell(one).text} ({one.format_value(one.before)} before)" for one in found]
    return f"Against {baseline.run}: {' and '.join(said)}." if said else ""


def describe_different_work(report: Report, baseline: Report) -> str:
    """Says how far the two runs had the same to do; "" where it was all the same."""
    ours, theirs = ({(row.stem, row.model) for row in one.rows if row.model} for one in (report, baseline))
    if ours == theirs:
        return ""
    both = len(ours & theirs)
    return (
        f"Not the same work: {words.format_count(both, 'recording')} with the same model in both, "
        f"{len(theirs - ours):,} only in {baseline.run}, {len(ours - theirs):,} only in {report.run}."
    )
