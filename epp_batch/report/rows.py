"""One line for each recording, and one for each model."""

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
    course: RunTimeline,
    results: Mapping[str, TranscriptionResult],
    prices: DevicePrices,
    words: Mapping[str, WordErrors],
) -> tuple[RecordingRow, ...]:
    """In order of submission."""
    spans: dict[str, list[AttemptSpan]] = {}
    for span in course.spans:
        spans.setdefault(span.unit, []).append(span)
    sent = {summary.stem: summary for summary in course.summaries if summary.ending == "summarized"}
    return tuple(
        _build_recording_row(
            task,
            unit,
            course.histories.get(unit.name),
            results.get(task.stem),
            spans.get(unit.name, []),
            sent.get(task.stem),
            prices,
            words.get(task.stem),
        )
        for unit in run.units
        for task in unit.tasks
    )


def build_unread_rows(failures: Iterable[TaskFailure]) -> tuple[RecordingRow, ...]:
    """Of sources that never became tasks, so that nobody misses them in the count."""
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
    sent: SummarySpan | None,
    prices: DevicePrices,
    words: WordErrors | None,
) -> RecordingRow:
    part = _share_of_unit(task, unit)
    price = compute_cost(spans, prices)
    return RecordingRow(
        stem=task.stem,
        source=task.recording.source,
        model=task.model,
        unit=unit.name,
        status=_recording_status(task, history, result),
        reused=history is None and result is not None,
        audio_seconds=task.recording.seconds if result is None else result.audio_seconds,
        **_unit_latencies(task, history),
        service=sum(span.seconds for span in spans) * part if spans else None,
        attempts=len(spans),
        evictions=history.evictions if history else 0,
        places=tuple(dict.fromkeys(span.place for span in spans if span.place)),
        transcribe=result.timings.get("transcribe") if result else None,
        rtf=result.rtf or None if result else None,
        language=result.language if result else "",
        device_hours=sum(map(device_hours, spans)) * part,
        cost=None if price is None else price * part,
        words=words,
        wer=words.rate if words else None,
        ttft=sent.first_token - sent.asked if sent and sent.first_token is not None else None,
        summary=sent.ended - sent.sent if sent else None,
    )


def _share_of_unit(task: Task, unit: Unit) -> float:
    """The task's part of its unit's device time, by length of audio; even parts where a length is not known."""
    total = unit.seconds
    return (task.recording.seconds or 0.0) / total if total else 1 / len(unit.tasks)


def _recording_status(task: Task, history: UnitHistory | None, result: TranscriptionResult | None) -> RecordingStatus:
    """A transcript that is there is done, whatever became of its unit."""
    if result is not None:
        return "done"
    if history is None:
        return "waiting"
    end = history.task_ends.get(task.stem)
    return STATUS_OF_STATE[history.state if end is None else end.state]


def _unit_latencies(task: Task, history: UnitHistory | None) -> dict[str, float | None]:
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
    """In order of first submission."""
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
    words = sum((row.words for row in rows if row.words), WordErrors(reference=0))
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
        words=words if words.reference else None,
        wer=words.rate,
    )


def _ratio_of_sums(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Sum / sum, of the pairs that are known on both sides."""
    known = [(above, below) for above, below in pairs if above is not None and below]
    return sum(above for above, _ in known) / sum(below for _, below in known) if known else None
