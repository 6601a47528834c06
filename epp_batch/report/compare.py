"""Two runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from epp_batch.report import words
from epp_batch.report.model import Report
from epp_batch.report.render.tables import DEVICES, Cell, Table, held
from epp_batch.report.words import lasting, number, percent


class Change(NamedTuple):
    """One figure of both runs; `better` is -1 where less is better, 1 where more is, 0 where neither."""

    name: str
    before: float | None
    after: float | None
    better: int
    show: Callable[[float | None], str]

    @property
    def change(self) -> float | None:
        """after / before - 1; None where that means nothing."""
        if self.before is None or self.after is None or not self.before:
            return None
        return self.after / self.before - 1


def changes(report: Report, baseline: Report) -> list[Change]:
    """What both runs have figures for."""
    made = [
        Change("makespan", baseline.makespan, report.makespan, -1, lasting),
        Change("speed, × real time", baseline.speed, report.speed, 1, number),
        *_latencies(report, baseline),
        Change("at once, peak", baseline.concurrency.peak, report.concurrency.peak, 0, _count),
        Change("at once, mean", baseline.concurrency.mean, report.concurrency.mean, 0, number),
        Change("evictions", baseline.evictions, report.evictions, -1, _count),
        *_devices(report, baseline),
        Change("cost", baseline.cost, report.cost, -1, partial(words.money, currency=report.currency)),
        Change("word error rate", baseline.wer, report.wer, -1, percent),
        Change("failed", baseline.counts["failed"], report.counts["failed"], -1, _count),
    ]
    return [one for one in made if one.before is not None and one.after is not None and (one.before or one.after)]


def _latencies(report: Report, baseline: Report) -> list[Change]:
    made = []
    for name, title in (("wait", "queue wait"), ("completion", "completion"), ("ttft", "first token of a summary")):
        before, after = baseline.latencies.get(name), report.latencies.get(name)
        if before is not None and after is not None:
            made += [
                Change(f"{title}, mean", before.mean, after.mean, -1, lasting),
                Change(f"{title}, P95", before.p95, after.p95, -1, lasting),
                Change(f"{title}, P99", before.p99, after.p99, -1, lasting),
            ]
    return made


def _devices(report: Report, baseline: Report) -> list[Change]:
    before = {use.device: use for use in baseline.uses}
    pairs = [(before[use.device], use) for use in report.uses if use.device in before]
    held = [Change(f"{DEVICES[new.device]} time, held", old.allocated, new.allocated, -1, _held) for old, new in pairs]
    return held + [
        Change(f"{DEVICES[new.device]} time, of makespan", old.share, new.share, 0, percent) for old, new in pairs
    ]


def _held(value: float | None) -> str:
    return held(value).text


def _count(value: float | None) -> str:
    return words.DASH if value is None else f"{value:,.0f}"


def _change(one: Change) -> Cell:
    if one.change is None:
        return Cell("")
    tone = "" if abs(one.change) < 0.0005 else "good" if one.change * one.better > 0 else "bad" if one.better else ""
    return Cell(f"{round(one.change * 100, 1) or 0.0:+.1f} %".replace("-", "−"), one.change, tone)


def table(report: Report, baseline: Report) -> Table:
    """With a note on how much of the work was the same."""
    rows = [
        [Cell(one.name), Cell(one.show(one.before), one.before), Cell(one.show(one.after), one.after), _change(one)]
        for one in changes(report, baseline)
    ]
    return Table("Compared", ("", baseline.run, report.run, "change"), rows, note=same_work(report, baseline))


def verdict(report: Report, baseline: Report) -> str:
    """The two figures that the paper compares, in a sentence; "" where neither is known."""
    names = {"makespan": "makespan", "completion, mean": "mean completion"}
    found = [one for one in changes(report, baseline) if one.name in names and one.change is not None]
    said = [f"{names[one.name]} {_change(one).text} ({one.show(one.before)} before)" for one in found]
    return f"Against {baseline.run}: {' and '.join(said)}." if said else ""


def same_work(report: Report, baseline: Report) -> str:
    """Says how far the two runs had the same to do; "" where it was all the same."""
    ours, theirs = ({(row.stem, row.model) for row in one.rows if row.model} for one in (report, baseline))
    if ours == theirs:
        return ""
    both = len(ours & theirs)
    return (
        f"Not the same work: {words.count(both, 'recording')} with the same model in both, "
        f"{len(theirs - ours):,} only in {baseline.run}, {len(ours - theirs):,} only in {report.run}."
    )
