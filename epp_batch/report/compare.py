"""The figures of two runs side by side."""

from __future__ import annotations

from typing import Literal, NamedTuple

from epp_batch.report.model import DEVICE_NAMES, Report

FigureUnit = Literal["seconds", "number", "count", "device-hours", "share", "money"]


class FigureChange(NamedTuple):
    """One figure of both runs."""

    name: str
    before: float | None
    after: float | None
    better_direction: int
    """-1 if less is better, 1 if more is, 0 if neither."""
    unit: FigureUnit

    @property
    def relative_change(self) -> float | None:
        """after / before - 1; None if a figure is unknown or `before` is 0."""
        if self.before is None or self.after is None or not self.before:
            return None
        return self.after / self.before - 1


def compare_reports(report: Report, baseline: Report) -> list[FigureChange]:
    """The figures that both runs have, without those that are 0 in both."""
    changes = [
        FigureChange("makespan", baseline.makespan, report.makespan, -1, "seconds"),
        FigureChange("speed, × real time", baseline.speed, report.speed, 1, "number"),
        *_compare_latencies(report, baseline),
        FigureChange("at once, peak", baseline.concurrency.peak, report.concurrency.peak, 0, "count"),
        FigureChange("at once, mean", baseline.concurrency.mean, report.concurrency.mean, 0, "number"),
        FigureChange("evictions", baseline.evictions, report.evictions, -1, "count"),
        *_compare_devices(report, baseline),
        FigureChange("cost", baseline.cost, report.cost, -1, "money"),
        FigureChange("word error rate", baseline.wer, report.wer, -1, "share"),
        FigureChange("failed", baseline.counts["failed"], report.counts["failed"], -1, "count"),
    ]
    known = [change for change in changes if change.before is not None and change.after is not None]
    return [change for change in known if change.before or change.after]


def _compare_latencies(report: Report, baseline: Report) -> list[FigureChange]:
    changes = []
    for name, title in (("wait", "queue wait"), ("completion", "completion"), ("ttft", "first token of a summary")):
        before, after = baseline.latencies.get(name), report.latencies.get(name)
        if before is not None and after is not None:
            changes += [
                FigureChange(f"{title}, mean", before.mean, after.mean, -1, "seconds"),
                FigureChange(f"{title}, P95", before.p95, after.p95, -1, "seconds"),
                FigureChange(f"{title}, P99", before.p99, after.p99, -1, "seconds"),
            ]
    return changes


def _compare_devices(report: Report, baseline: Report) -> list[FigureChange]:
    before = {usage.device: usage for usage in baseline.uses}
    pairs = [(before[usage.device], usage) for usage in report.uses if usage.device in before]
    held = [
        FigureChange(f"{DEVICE_NAMES[new.device]} time, held", old.allocated, new.allocated, -1, "device-hours")
        for old, new in pairs
    ]
    return held + [
        FigureChange(f"{DEVICE_NAMES[new.device]} time, of makespan", old.share, new.share, 0, "share")
        for old, new in pairs
    ]
