"""The comparison of two runs as a table and in sentences."""

from __future__ import annotations

from epp_batch.report.compare import FigureChange, FigureUnit, compare_reports
from epp_batch.report.model import Report
from epp_batch.report.render import text
from epp_batch.report.render.tables import ReportTable, TableCell, device_hours_cell


def build_comparison_table(report: Report, baseline: Report) -> ReportTable:
    """A row for each figure of both runs; the note says how far they did the same work."""
    rows = [
        [
            TableCell(change.name),
            TableCell(_format_figure(change.before, change.unit, report.currency), change.before),
            TableCell(_format_figure(change.after, change.unit, report.currency), change.after),
            _change_cell(change),
        ]
        for change in compare_reports(report, baseline)
    ]
    headers = ("", baseline.run, report.run, "change")
    return ReportTable("Compared", headers, rows, note=describe_different_work(report, baseline))


def summarize_comparison(report: Report, baseline: Report) -> str:
    """The two figures that the paper compares, in a sentence; empty if neither is known."""
    titles = {"makespan": "makespan", "completion, mean": "mean completion"}
    changes = [
        change
        for change in compare_reports(report, baseline)
        if change.name in titles and change.relative_change is not None
    ]
    figures = [
        f"{titles[change.name]} {_change_cell(change).text} "
        f"({_format_figure(change.before, change.unit, report.currency)} before)"
        for change in changes
    ]
    return f"Against {baseline.run}: {' and '.join(figures)}." if figures else ""


def describe_different_work(report: Report, baseline: Report) -> str:
    """How far the two runs had different recordings or models; empty if both had the same."""
    ours, theirs = ({(row.stem, row.model) for row in run.rows if row.model} for run in (report, baseline))
    if ours == theirs:
        return ""
    both = len(ours & theirs)
    return (
        f"Not the same work: {text.format_count(both, 'recording')} with the same model in both, "
        f"{len(theirs - ours):,} only in {baseline.run}, {len(ours - theirs):,} only in {report.run}."
    )


def _format_figure(value: float | None, unit: FigureUnit, currency: str) -> str:
    match unit:
        case "seconds":
            return text.format_duration(value)
        case "number":
            return text.format_number(value)
        case "count":
            return text.format_number(value, 0)
        case "device-hours":
            return device_hours_cell(value).text
        case "share":
            return text.format_percent(value)
        case "money":
            return text.format_money(value, currency)


def _change_cell(change: FigureChange) -> TableCell:
    """The relative change in per cent; its tone is neutral below 0.05 %."""
    relative = change.relative_change
    if relative is None:
        return TableCell("")
    tone = ""
    if abs(relative) >= 0.0005 and change.better_direction:
        tone = "good" if relative * change.better_direction > 0 else "bad"
    percent = round(relative * 100, 1) or 0.0  # no negative zero
    return TableCell(f"{percent:+.1f} %".replace("-", "−"), relative, tone)
