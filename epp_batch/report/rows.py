"""The report's row of each recording and of each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from epp_batch.output_folder import TaskFailure, TranscriptionResult
from epp_batch.report.cost import DevicePrices, compute_cost, device_hours
from epp_batch.report.model import (
    STATUS_OF_STATE,
    AttemptSpan,
    ModelRow,
    RecordingRow,
    RecordingStatus,
    SummarySpan,
    WordErrors,
)
from epp_batch.report.run_timeline import RunTimeline
from epp_batch.report.stats import describe_distribution
from epp_batch.report.unit_history import UnitHistory
from epp_batch.spec import Run, Task, Unit


def build_recording_rows(
    run: Run,
    timeline: RunTimeline,
    results: Mapping[str, TranscriptionResult],
    prices: DevicePrices,
    word_errors: Mapping[str, WordErrors],
) -> tuple[RecordingRow, ...]:
    """A row for each task of the run, in order of submission. `results` and `word_errors` are by stem."""
    spans: dict[str, list[AttemptSpan]] = {}
    for span in timeline.spans:
        spans.setdefault(span.unit, []).append(span)
    summaries = {summary.stem: summary for summary in timeline.summaries if summary.ending == "summarized"}
    return tuple(
        _build_recording_row(
            task,
            unit,
            timeline.histories.get(unit.name),
            results.get(task.stem),
            spans.get(unit.name, []),
            summaries.get(task.stem),
            prices,
            word_errors.get(task.stem),
        )
        for unit in run.units
        for task in unit.tasks
    )


def build_unread_rows(failures: Iterable[TaskFailure]) -> tuple[RecordingRow, ...]:
    """A row for each source that never became a task, so that the counts include it."""
    return tuple(
        RecordingRow(stem=failure.source, source=failure.source, model="", unit="", status="failed")
        for failure in failures
        if not failure.key
    )


def _build_recording_row(
    task: Task,
    unit: Unit,
    history: UnitHistory | None,
    result: TranscriptionResult | None,
    spans: Sequence[AttemptSpan],
    summary: SummarySpan | None,
    prices: DevicePrices,
    word_errors: WordErrors | None,
) -> RecordingRow:
    share = _share_of_unit(task, unit)
    unit_cost = compute_cost(spans, prices)
    return RecordingRow(
        stem=task.stem,
        source=task.recording.source,
        model=task.model,
        unit=unit.name,
        status=_recording_status(task, history, result),
        reused=history is None and result is not None,
        audio_seconds=task.recording.seconds if result is None else result.audio_seconds,
        **_unit_latencies(task, history),
        service=sum(span.seconds for span in spans) * share if spans else None,
        attempts=len(spans),
        evictions=history.evictions if history else 0,
        places=tuple(dict.fromkeys(span.place for span in spans if span.place)),
        transcribe=result.timings.get("transcribe") if result else None,
        rtf=result.rtf or None if result else None,
        language=result.language if result else "",
        device_hours=sum(map(device_hours, spans)) * share,
        cost=None if unit_cost is None else unit_cost * share,
        words=word_errors,
        wer=word_errors.rate if word_errors else None,
        ttft=summary.first_token - summary.asked if summary and summary.first_token is not None else None,
        summary=summary.ended - summary.sent if summary else None,
    )


def _share_of_unit(task: Task, unit: Unit) -> float:
    """The task's share of its unit's device time: by audio length, or equal shares if a length is unknown."""
    total = unit.seconds
    return (task.recording.seconds or 0.0) / total if total else 1 / len(unit.tasks)


def _recording_status(task: Task, history: UnitHistory | None, result: TranscriptionResult | None) -> RecordingStatus:
    """A recording with a transcript is done, however its unit ended."""
    if result is not None:
        return "done"
    if history is None:
        return "waiting"
    end = history.task_ends.get(task.stem)
    return STATUS_OF_STATE[history.state if end is None else end.state]


def _unit_latencies(task: Task, history: UnitHistory | None) -> dict[str, float | None]:
    """Fields of RecordingRow."""
    if history is None:
        return {}
    end = history.task_ends.get(task.stem) or history.end
    finished = end.at if end is not None and end.state == "finished" else None
    return {
        "created": history.created,
        "finished": finished,
        "wait": history.queue_wait,
        "start": None if history.first_running is None else history.first_running - history.created,
        "completion": None if finished is None else finished - history.created,
    }


def build_model_rows(
    rows: Sequence[RecordingRow], spans: Sequence[AttemptSpan], prices: DevicePrices
) -> tuple[ModelRow, ...]:
    """A row for each model, in order of its first recording."""
    return tuple(
        _build_model_row(
            model,
            [row for row in rows if row.model == model],
            [span for span in spans if span.model == model],
            prices,
        )
        for model in dict.fromkeys(row.model for row in rows if row.model)
    )


def _build_model_row(
    model: str, rows: Sequence[RecordingRow], spans: Sequence[AttemptSpan], prices: DevicePrices
) -> ModelRow:
    done = [row for row in rows if row.status == "done"]
    word_errors = sum((row.words for row in rows if row.words), WordErrors(reference=0))
    return ModelRow(
        model=model,
        recordings=len(rows),
        done=len(done),
        audio_seconds=sum(row.audio_seconds or 0.0 for row in done),
        transcribe_rtf=_ratio_of_sums([(row.transcribe, row.audio_seconds) for row in done]),
        service_rtf=_ratio_of_sums([(row.service, row.audio_seconds) for row in done]),
        completion=describe_distribution(row.completion for row in done if row.completion is not None),
        device_hours=sum(map(device_hours, spans)),
        cost=compute_cost(spans, prices),
        words=word_errors if word_errors.reference else None,
        wer=word_errors.rate,
    )


def _ratio_of_sums(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Sum / sum over the pairs that are known on both sides; None without any."""
    known = [(above, below) for above, below in pairs if above is not None and below]
    return sum(above for above, _ in known) / sum(below for _, below in known) if known else None
