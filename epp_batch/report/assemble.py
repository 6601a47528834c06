"""A report from a run, its events and its results. Pure: files are read by `read`, texts compared by `wer`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from epp_batch.output_folder import Failure, Result
from epp_batch.report import rows as by_recording
from epp_batch.report.axis import Axis
from epp_batch.report.cost import Prices, cost, uses
from epp_batch.report.model import (
    Concurrency,
    Report,
    Row,
    Status,
    Trouble,
    Words,
)
from epp_batch.report.run_timeline import Course
from epp_batch.report.stats import Distribution, distribution
from epp_batch.report.step_function import area, curve, peak, union
from epp_batch.spec import Run
from epp_batch.timeline import Event

_SINCE_1970 = 1e8
"""Smaller times are virtual."""


def build(
    run: Run,
    events: Iterable[Event],
    results: Mapping[str, Result],
    failures: Iterable[Failure],
    prices: Prices | None = None,
    *,
    shares: Mapping[str, float] | None = None,
    words: Mapping[str, Words] | None = None,
    normaliser: str = "",
) -> Report:
    """Measures one run, finished or not.

    `results` are by stem and belong to this run's options. `shares` tells by model how many GPUs a unit holds, 0 for a
    CPU, where places do not name the slots of a slice; one if it is not said, none for a run without a cluster.
    `words` are errors against references by stem. A failure without a key is of a source that never became a task.
    """
    prices, failures = prices or Prices(), list(failures)
    course = Course.of(run, list(events), results, shares or {})
    rows = by_recording.rows(run, course, results, prices, words or {}) + by_recording.unread(failures)
    transcribed = _transcribed(run, results)
    report = _measured(run, course, rows, prices, transcribed)
    return replace(report, normaliser=normaliser, troubles=_troubles(run, rows, failures, course))


def _measured(
    run: Run, course: Course, rows: tuple[Row, ...], prices: Prices, transcribed: Mapping[str, float]
) -> Report:
    """Everything but words about it. `transcribed` is the workers' seconds by unit."""
    audio = sum(row.audio_seconds or 0.0 for row in rows if row.status == "done" and not row.reused)
    counts, units = _counts(rows), course.histories.values()
    errors = sum((row.words for row in rows if row.words), Words(reference=0))
    return Report(
        run=run.name,
        kind=_kind(run, course.axis),
        began=course.axis.began,
        makespan=course.makespan,
        length=course.axis.length,
        complete=not counts["running"] and not counts["waiting"],
        counts=counts,
        reused=sum(row.reused for row in rows),
        audio_seconds=audio,
        speed=audio / course.makespan if course.makespan and audio else None,
        latencies=_latencies(course, rows),
        concurrency=_concurrency(course),
        evictions=sum(unit.evictions for unit in units),
        preemptions=sum(unit.preemptions for unit in units),
        retries=sum(unit.retries for unit in units),
        models=by_recording.models(rows, course.spans, prices),
        uses=uses(course.spans, transcribed, course.makespan, prices),
        cost=cost(course.spans, prices),
        currency=prices.currency,
        words=errors if errors.reference else None,
        wer=errors.rate,
        rows=rows,
        spans=course.spans,
        summaries=course.summaries,
        cuts=tuple(course.axis.cuts()),
    )


def _counts(rows: Sequence[Row]) -> dict[Status, int]:
    counts: dict[Status, int] = {"done": 0, "failed": 0, "cancelled": 0, "running": 0, "waiting": 0}
    for row in rows:
        counts[row.status] += 1
    return counts


def _kind(run: Run, axis: Axis) -> Literal["cluster", "local", "virtual"]:
    if axis.length and axis.began < _SINCE_1970:
        return "virtual"
    return "local" if run.cluster is None else "cluster"


def _latencies(course: Course, rows: Sequence[Row]) -> dict[str, Distribution]:
    ended = [history for history in course.histories.values() if history.state == "finished"]
    done = {span.stem: span for span in course.summaries if span.ending == "summarized"}
    finished = {row.stem: row.finished for row in rows if row.finished is not None}
    found = {
        "wait": [history.wait for history in course.histories.values() if history.wait is not None],
        "start": [history.running - history.created for history in ended if history.running is not None],
        "completion": [history.end.at - history.created for history in ended if history.end is not None],
        "service": [course.service[history.unit] for history in ended if history.unit in course.service],
        "ttft": [span.first_token - span.asked for span in done.values() if span.first_token is not None],
        "summary": [span.ended - span.sent for span in done.values()],
        "handoff": [span.ended - finished[stem] for stem, span in done.items() if stem in finished],
    }
    made = {name: distribution(values) for name, values in found.items()}
    return {name: one for name, one in made.items() if one is not None}


def _concurrency(course: Course) -> Concurrency:
    ran: dict[str, list[tuple[float, float]]] = {}
    for span in course.spans:
        if span.running is not None:
            ran.setdefault(span.unit, []).append((span.running, span.ended))
    running = curve(interval for intervals in ran.values() for interval in intervals)
    waits = [
        gap for unit, lives in course.lives.items() for life in lives for gap in _gaps(life, union(ran.get(unit, ())))
    ]
    return Concurrency(
        peak=peak(running),
        mean=area(running) / course.makespan if course.makespan else 0.0,
        running=tuple(running),
        waiting=tuple(curve(waits)),
    )


def _gaps(life: tuple[float, float], taken: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is left of `life` without `taken`, which is in order and does not overlap."""
    begin, end = life
    left = []
    for start, stop in taken:
        if stop > begin and start < end:
            left.append((begin, max(begin, start)))
            begin = stop
    return [*left, (begin, max(begin, end))]


def _transcribed(run: Run, results: Mapping[str, Result]) -> dict[str, float]:
    """The workers' seconds of transcribing, by unit."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for unit in run.units:
        for task in unit.tasks:
            result = results.get(task.stem)
            if result is not None and "transcribe" in result.timings:
                seconds[unit.name] += result.timings["transcribe"]
    return dict(seconds)


def _troubles(run: Run, rows: Sequence[Row], failures: Iterable[Failure], course: Course) -> tuple[Trouble, ...]:
    """The failures given; of failed recordings without one, what the events say."""
    given = tuple(
        Trouble(source=one.source, stage=one.stage, message=one.message, remedy=one.remedy) for one in failures
    )
    known = {trouble.source for trouble in given if trouble.stage != "summary"}
    rest = []
    for row in rows:
        if row.status == "failed" and row.source not in known:
            said = course.reason(row.unit, row.stem) or "failed; nobody told why"
            remedy = "the worker's log has more: epp-batch logs" if run.cluster else ""
            rest.append(Trouble(source=row.source, stage="", message=said, remedy=remedy))
    return given + tuple(rest)
