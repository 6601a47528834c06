"""A report from a run, its events and its results. Pure: files are read by `read`, texts compared by `wer`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from epp_batch.output_folder import TaskFailure, TranscriptionResult
from epp_batch.report import rows as by_recording
from epp_batch.report.axis import TimeAxis
from epp_batch.report.cost import DevicePrices, compute_cost, measure_device_usage
from epp_batch.report.model import (
    Concurrency,
    RecordingFailure,
    RecordingRow,
    RecordingStatus,
    Report,
    WordErrors,
)
from epp_batch.report.run_timeline import RunTimeline
from epp_batch.report.stats import Distribution, describe_distribution
from epp_batch.report.step_function import build_step_function, integrate_steps, merge_intervals, peak_level
from epp_batch.spec import Run
from epp_batch.timeline import TimelineEvent

_EARLIEST_WALL_TIME = 1e8
"""Smaller times are virtual."""


def build_report(
    run: Run,
    events: Iterable[TimelineEvent],
    results: Mapping[str, TranscriptionResult],
    failures: Iterable[TaskFailure],
    prices: DevicePrices | None = None,
    *,
    shares: Mapping[str, float] | None = None,
    words: Mapping[str, WordErrors] | None = None,
    normaliser: str = "",
) -> Report:
    """Measures one run, finished or not.

    `results` are by stem and belong to this run's options. `shares` tells by model how many GPUs a unit holds, 0 for a
    CPU, where places do not name the slots of a slice; one if it is not said, none for a run without a cluster.
    `words` are errors against references by stem. A failure without a key is of a source that never became a task.
    """
    prices, failures = prices or DevicePrices(), list(failures)
    course = RunTimeline.from_events(run, list(events), results, shares or {})
    rows = by_recording.build_recording_rows(
        run, course, results, prices, words or {}
    ) + by_recording.build_unread_rows(failures)
    transcribed = _transcription_seconds(run, results)
    report = _measure_run(run, course, rows, prices, transcribed)
    return replace(report, normaliser=normaliser, troubles=_collect_failures(run, rows, failures, course))


def _measure_run(
    run: Run,
    course: RunTimeline,
    rows: tuple[RecordingRow, ...],
    prices: DevicePrices,
    transcribed: Mapping[str, float],
) -> Report:
    """Everything but words about it. `transcribed` is the workers' seconds by unit."""
    audio = sum(row.audio_seconds or 0.0 for row in rows if row.status == "done" and not row.reused)
    counts, units = _count_statuses(rows), course.histories.values()
    errors = sum((row.words for row in rows if row.words), WordErrors(reference=0))
    return Report(
        run=run.name,
        kind=_run_kind(run, course.axis),
        began=course.axis.start_time,
        makespan=course.makespan,
        length=course.axis.length,
        complete=not counts["running"] and not counts["waiting"],
        counts=counts,
        reused=sum(row.reused for row in rows),
        audio_seconds=audio,
        speed=audio / course.makespan if course.makespan and audio else None,
        latencies=_measure_latencies(course, rows),
        concurrency=_measure_concurrency(course),
        evictions=sum(unit.evictions for unit in units),
        preemptions=sum(unit.preemptions for unit in units),
        retries=sum(unit.retries for unit in units),
        models=by_recording.build_model_rows(rows, course.spans, prices),
        uses=measure_device_usage(course.spans, transcribed, course.makespan, prices),
        cost=compute_cost(course.spans, prices),
        currency=prices.currency,
        words=errors if errors.reference else None,
        wer=errors.rate,
        rows=rows,
        spans=course.spans,
        summaries=course.summaries,
        cuts=tuple(course.axis.idle_cuts()),
    )


def _count_statuses(rows: Sequence[RecordingRow]) -> dict[RecordingStatus, int]:
    counts: dict[RecordingStatus, int] = {"done": 0, "failed": 0, "cancelled": 0, "running": 0, "waiting": 0}
    for row in rows:
        counts[row.status] += 1
    return counts


def _run_kind(run: Run, axis: TimeAxis) -> Literal["cluster", "local", "virtual"]:
    if axis.length and axis.start_time < _EARLIEST_WALL_TIME:
        return "virtual"
    return "local" if run.cluster is None else "cluster"


def _measure_latencies(course: RunTimeline, rows: Sequence[RecordingRow]) -> dict[str, Distribution]:
    ended = [history for history in course.histories.values() if history.state == "finished"]
    done = {span.stem: span for span in course.summaries if span.ending == "summarized"}
    finished = {row.stem: row.finished for row in rows if row.finished is not None}
    found = {
        "wait": [history.queue_wait for history in course.histories.values() if history.queue_wait is not None],
        "start": [history.first_running - history.created for history in ended if history.first_running is not None],
        "completion": [history.end.at - history.created for history in ended if history.end is not None],
        "service": [
            course.service_seconds[history.unit] for history in ended if history.unit in course.service_seconds
        ],
        "ttft": [span.first_token - span.asked for span in done.values() if span.first_token is not None],
        "summary": [span.ended - span.sent for span in done.values()],
        "handoff": [span.ended - finished[stem] for stem, span in done.items() if stem in finished],
    }
    made = {name: describe_distribution(values) for name, values in found.items()}
    return {name: one for name, one in made.items() if one is not None}


def _measure_concurrency(course: RunTimeline) -> Concurrency:
    ran: dict[str, list[tuple[float, float]]] = {}
    for span in course.spans:
        if span.running is not None:
            ran.setdefault(span.unit, []).append((span.running, span.ended))
    running = build_step_function(interval for intervals in ran.values() for interval in intervals)
    waits = [
        gap
        for unit, lives in course.lifetimes.items()
        for life in lives
        for gap in _subtract_intervals(life, merge_intervals(ran.get(unit, ())))
    ]
    return Concurrency(
        peak=peak_level(running),
        mean=integrate_steps(running) / course.makespan if course.makespan else 0.0,
        running=tuple(running),
        waiting=tuple(build_step_function(waits)),
    )


def _subtract_intervals(life: tuple[float, float], taken: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is left of `life` without `taken`, which is in order and does not overlap."""
    begin, end = life
    left = []
    for start, stop in taken:
        if stop > begin and start < end:
            left.append((begin, max(begin, start)))
            begin = stop
    return [*left, (begin, max(begin, end))]


def _transcription_seconds(run: Run, results: Mapping[str, TranscriptionResult]) -> dict[str, float]:
    """The workers' seconds of transcribing, by unit."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for unit in run.units:
        for task in unit.tasks:
            result = results.get(task.stem)
            if result is not None and "transcribe" in result.timings:
                seconds[unit.name] += result.timings["transcribe"]
    return dict(seconds)


def _collect_failures(
    run: Run, rows: Sequence[RecordingRow], failures: Iterable[TaskFailure], course: RunTimeline
) -> tuple[RecordingFailure, ...]:
    """The failures given; of failed recordings without one, what the events say."""
    given = tuple(
        RecordingFailure(source=one.source, stage=one.stage, message=one.message, remedy=one.remedy) for one in failures
    )
    known = {trouble.source for trouble in given if trouble.stage != "summary"}
    rest = []
    for row in rows:
        if row.status == "failed" and row.source not in known:
            said = course.end_reason(row.unit, row.stem) or "failed; nobody told why"
            remedy = "the worker's log has more: epp-batch logs" if run.cluster else ""
            rest.append(RecordingFailure(source=row.source, stage="", message=said, remedy=remedy))
    return given + tuple(rest)
