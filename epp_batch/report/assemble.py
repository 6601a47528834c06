"""Builds a report from a run, its events and its results.

Pure: `read` loads the files, `wer` compares texts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from epp_batch.output_folder import TaskFailure, TranscriptionResult
from epp_batch.report.cost import DevicePrices, compute_cost, measure_device_usage
from epp_batch.report.model import Concurrency, RecordingFailure, RecordingRow, RecordingStatus, Report, WordErrors
from epp_batch.report.rows import build_model_rows, build_recording_rows, build_unread_rows
from epp_batch.report.run_timeline import RunTimeline, TimeAxis
from epp_batch.report.stats import (
    Distribution,
    Interval,
    build_step_function,
    describe_distribution,
    integrate_steps,
    merge_intervals,
    peak_level,
)
from epp_batch.spec import Run
from epp_batch.timeline import TimelineEvent

_EARLIEST_WALL_TIME = 1e8
"""Seconds since 1970; smaller times are virtual."""


def build_report(
    run: Run,
    events: Iterable[TimelineEvent],
    results: Mapping[str, TranscriptionResult],
    failures: Iterable[TaskFailure],
    prices: DevicePrices | None = None,
    *,
    shares: Mapping[str, float] | None = None,
    word_errors: Mapping[str, WordErrors] | None = None,
    normaliser: str = "",
) -> Report:
    """Measures one run, finished or not.

    `results` and `word_errors` are by stem and belong to this run's options. `shares` is the share of a GPU that a unit
    holds, by model, for places that do not name the slots of a slice: 0 for a CPU, 2 for two GPUs. A model that is
    missing holds one GPU, and none in a run without a cluster. A failure without a key is of a source that never became
    a task.
    """
    prices, failures = prices or DevicePrices(), list(failures)
    timeline = RunTimeline.from_events(run, list(events), results, shares or {})
    rows = build_recording_rows(run, timeline, results, prices, word_errors or {}) + build_unread_rows(failures)
    report = _measure_run(run, timeline, rows, prices, _transcription_seconds(run, results))
    return replace(report, normaliser=normaliser, troubles=_collect_failures(run, rows, failures, timeline))


def _measure_run(
    run: Run,
    timeline: RunTimeline,
    rows: tuple[RecordingRow, ...],
    prices: DevicePrices,
    transcription_seconds: Mapping[str, float],
) -> Report:
    """The report without failures. `transcription_seconds` is what workers measured, by unit."""
    audio = sum(row.audio_seconds or 0.0 for row in rows if row.status == "done" and not row.reused)
    counts, histories = _count_statuses(rows), timeline.histories.values()
    word_errors = sum((row.words for row in rows if row.words), WordErrors(reference=0))
    return Report(
        run=run.name,
        kind=_run_kind(run, timeline.axis),
        began=timeline.axis.start_time,
        makespan=timeline.makespan,
        length=timeline.axis.length,
        complete=not counts["running"] and not counts["waiting"],
        counts=counts,
        reused=sum(row.reused for row in rows),
        audio_seconds=audio,
        speed=audio / timeline.makespan if timeline.makespan and audio else None,
        latencies=_measure_latencies(timeline, rows),
        concurrency=_measure_concurrency(timeline),
        evictions=sum(history.evictions for history in histories),
        preemptions=sum(history.preemptions for history in histories),
        retries=sum(history.retries for history in histories),
        models=build_model_rows(rows, timeline.spans, prices),
        uses=measure_device_usage(timeline.spans, transcription_seconds, timeline.makespan, prices),
        cost=compute_cost(timeline.spans, prices),
        currency=prices.currency,
        words=word_errors if word_errors.reference else None,
        wer=word_errors.rate,
        rows=rows,
        spans=timeline.spans,
        summaries=timeline.summaries,
        cuts=tuple(timeline.axis.idle_cuts()),
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


def _measure_latencies(timeline: RunTimeline, rows: Sequence[RecordingRow]) -> dict[str, Distribution]:
    """The latencies in LATENCY_DESCRIPTIONS that have values."""
    histories = timeline.histories.values()
    finished = [history for history in histories if history.state == "finished"]
    summaries = {span.stem: span for span in timeline.summaries if span.ending == "summarized"}
    transcribed = {row.stem: row.finished for row in rows if row.finished is not None}
    values = {
        "wait": [history.queue_wait for history in histories if history.queue_wait is not None],
        "start": [history.first_running - history.created for history in finished if history.first_running is not None],
        "completion": [history.end.at - history.created for history in finished if history.end is not None],
        "service": [
            timeline.service_seconds[history.unit] for history in finished if history.unit in timeline.service_seconds
        ],
        "ttft": [span.first_token - span.asked for span in summaries.values() if span.first_token is not None],
        "summary": [span.ended - span.sent for span in summaries.values()],
        "handoff": [span.ended - transcribed[stem] for stem, span in summaries.items() if stem in transcribed],
    }
    distributions = {name: describe_distribution(seconds) for name, seconds in values.items()}
    return {name: distribution for name, distribution in distributions.items() if distribution is not None}


def _measure_concurrency(timeline: RunTimeline) -> Concurrency:
    ran: dict[str, list[Interval]] = {}
    for span in timeline.spans:
        if span.running is not None:
            ran.setdefault(span.unit, []).append((span.running, span.ended))
    running = build_step_function(interval for intervals in ran.values() for interval in intervals)
    waits = [
        wait
        for unit, lifetimes in timeline.lifetimes.items()
        for lifetime in lifetimes
        for wait in _subtract_intervals(lifetime, merge_intervals(ran.get(unit, ())))
    ]
    return Concurrency(
        peak=peak_level(running),
        mean=integrate_steps(running) / timeline.makespan if timeline.makespan else 0.0,
        running=tuple(running),
        waiting=tuple(build_step_function(waits)),
    )


def _subtract_intervals(interval: Interval, others: Sequence[Interval]) -> list[Interval]:
    """What remains of an interval without the others, which are ascending and do not overlap."""
    begin, end = interval
    remaining = []
    for other_begin, other_end in others:
        if other_end > begin and other_begin < end:
            remaining.append((begin, max(begin, other_begin)))
            begin = other_end
    return [*remaining, (begin, max(begin, end))]


def _transcription_seconds(run: Run, results: Mapping[str, TranscriptionResult]) -> dict[str, float]:
    """Seconds of transcription as workers measured them, by unit; units without measurements are missing."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for unit in run.units:
        for task in unit.tasks:
            result = results.get(task.stem)
            if result is not None and "transcribe" in result.timings:
                seconds[unit.name] += result.timings["transcribe"]
    return dict(seconds)


def _collect_failures(
    run: Run, rows: Sequence[RecordingRow], failures: Iterable[TaskFailure], timeline: RunTimeline
) -> tuple[RecordingFailure, ...]:
    """The given failures, and for failed recordings without one, the reason that events have."""
    given = tuple(
        RecordingFailure(source=failure.source, stage=failure.stage, message=failure.message, remedy=failure.remedy)
        for failure in failures
    )
    explained = {failure.source for failure in given if failure.stage != "summary"}
    others = []
    for row in rows:
        if row.status == "failed" and row.source not in explained:
            message = timeline.end_reason(row.unit, row.stem) or "failed without a recorded reason"
            remedy = "the worker's log has more: epp-batch logs" if run.cluster else ""
            others.append(RecordingFailure(source=row.source, stage="", message=message, remedy=remedy))
    return given + tuple(others)
