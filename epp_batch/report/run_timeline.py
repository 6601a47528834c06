"""The course of one run on a common time axis: histories, attempts and summaries of its units."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from epp_batch.output_folder import TranscriptionResult
from epp_batch.report import places
from epp_batch.report.model import AttemptSpan, DeviceKind, IdleCut, SummarySpan
from epp_batch.report.stats import Interval, merge_intervals
from epp_batch.report.unit_history import UnitAttempt, UnitHistory, build_unit_histories
from epp_batch.spec import Run, Unit
from epp_batch.timeline import TimelineEvent

_VISIBLE_GPU = re.compile(r"GPU-([0-9a-f]{8})[0-9a-f-]*|(\d+)")
"""NVIDIA_VISIBLE_DEVICES with one whole GPU, by UUID or index."""
_SUMMARY_KINDS = ("summarizing", "first-token", "summarized", "unsummarized")


class TimeAxis:
    """Maps times of events to seconds on the report's axis, which has only time in which a unit or summary was open.

    A run that is continued days later has hours without any work in between. They belong to no latency, and would
    leave nothing of a chart but its edges, so they are cut out. `intervals` are lifetimes of units and summaries; idle
    time of at most `min_idle` seconds stays.
    """

    def __init__(self, intervals: Iterable[Interval], *, min_idle: float = 10.0) -> None:
        self._busy_intervals = merge_intervals(intervals, min_idle)
        self._interval_starts = [begin for begin, _ in self._busy_intervals]
        self._busy_before = [0.0]
        """Seconds on the axis at the start of each busy interval, and at the end of the last."""
        for begin, end in self._busy_intervals:
            self._busy_before.append(self._busy_before[-1] + end - begin)

    @property
    def start_time(self) -> float:
        """The time of events that is second 0; 0 without intervals."""
        return self._interval_starts[0] if self._interval_starts else 0.0

    @property
    def length(self) -> float:
        """Seconds from the first to the last interval, without cuts."""
        return self._busy_before[-1]

    def second_of(self, at: float) -> float:
        """The second on the axis of a time of events; idle time has the last second before it."""
        index = bisect_right(self._interval_starts, at) - 1
        if index < 0:
            return 0.0
        begin, end = self._busy_intervals[index]
        return self._busy_before[index] + min(at, end) - begin

    def idle_cuts(self) -> list[IdleCut]:
        """The idle times that are cut out, in order."""
        pairs = zip(self._busy_intervals, self._busy_intervals[1:], self._busy_before[1:], strict=False)
        return [IdleCut(at, after[0] - before[1]) for before, after, at in pairs]


class SummaryHistory(msgspec.Struct, kw_only=True):
    """The summary of one transcript. Times as in events."""

    stem: str
    first_sent: float
    last_sent: float
    first_token: float | None = None
    ended: float | None = None
    ending: Literal["summarized", "unsummarized", "open"] = "open"


def build_summary_histories(events: Iterable[TimelineEvent], stems: Container[str]) -> list[SummaryHistory]:
    """The summaries of these stems, in order of their first request.

    A request after the end of a summary starts a new one, which replaces the earlier; a request before is a retry.
    """
    histories: dict[str, SummaryHistory] = {}
    for event in events:
        if event.kind not in _SUMMARY_KINDS or event.stem not in stems:
            continue
        current = histories.get(event.stem)
        if event.kind == "summarizing":
            if current is None or current.ended is not None:
                histories[event.stem] = SummaryHistory(stem=event.stem, first_sent=event.at, last_sent=event.at)
            else:
                current.last_sent, current.first_token = max(event.at, current.last_sent), None
        elif current is not None and current.ended is None:
            _record_answer(current, event)
    return sorted(histories.values(), key=lambda history: history.first_sent)


def _record_answer(history: SummaryHistory, event: TimelineEvent) -> None:
    at = max(event.at, history.first_token or history.last_sent)
    if event.kind == "first-token":
        history.first_token = history.first_token or at
    elif event.kind in ("summarized", "unsummarized"):
        history.ended = at
        history.ending = "summarized" if event.kind == "summarized" else "unsummarized"


class RunTimeline(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts, waiting times and summaries of a run's units, with times in seconds on one axis."""

    axis: TimeAxis
    makespan: float
    """Like the axis's length, without summaries."""
    histories: dict[str, UnitHistory]
    """By unit; units without events are missing."""
    lifetimes: dict[str, list[Interval]]
    """By unit, from creation to end."""
    spans: tuple[AttemptSpan, ...]
    """In order of allocation."""
    summaries: tuple[SummarySpan, ...]
    service_seconds: dict[str, float]
    """By unit: seconds on a device, of all attempts together."""

    @classmethod
    def from_events(
        cls,
        run: Run,
        events: Sequence[TimelineEvent],
        results: Mapping[str, TranscriptionResult],
        shares: Mapping[str, float],
    ) -> RunTimeline:
        """The timeline of the run's own units; events of other units are ignored.

        Without any event, results provide what they know of the attempts. They also end units whose end was not
        recorded, and locate the last attempt. `shares` is the share of a GPU by model, for places without slots.
        """
        units = {unit.name: unit for unit in run.units}
        unit_events = [event for event in events if event.unit in units] or _events_from_results(run, results)
        task_counts = {name: len(unit.tasks) for name, unit in units.items()}
        recorded = build_unit_histories(unit_events, task_counts, restarts=run.cluster is None)
        if missing_ends := _infer_missing_ends(recorded, units, results):
            recorded = build_unit_histories([*unit_events, *missing_ends], task_counts, restarts=run.cluster is None)
        summaries = build_summary_histories(events, {task.stem for task in run.list_tasks()})
        until = max(
            [event.at for event in unit_events] + [summary.ended or summary.last_sent for summary in summaries],
            default=0.0,
        )
        lifetimes = [lifetime for history in recorded.values() for lifetime in history.lifetimes(until)]
        axis = TimeAxis([*lifetimes, *((summary.first_sent, summary.ended or until) for summary in summaries)])
        histories = {name: history.with_times(axis.second_of) for name, history in recorded.items()}
        for name, history in histories.items():
            _locate_last_attempt(history, units[name], results)
        spans = [
            _build_attempt_span(
                units[name], attempt, axis.second_of(until), _gpu_share(run, units[name], attempt, shares)
            )
            for name, history in histories.items()
            for attempt in history.attempts
        ]
        service_seconds: defaultdict[str, float] = defaultdict(float)
        for span in spans:
            service_seconds[span.unit] += span.seconds
        return cls(
            axis=axis,
            makespan=TimeAxis(lifetimes).length,
            histories=histories,
            lifetimes={name: history.lifetimes(axis.second_of(until)) for name, history in histories.items()},
            spans=tuple(sorted(spans, key=lambda span: span.allocated)),
            summaries=tuple(_build_summary_span(axis, summary, until) for summary in summaries),
            service_seconds=dict(service_seconds),
        )

    def end_reason(self, unit: str, stem: str) -> str:
        """The detail of the event that ended a task or else its unit; empty if there is none."""
        history = self.histories.get(unit)
        if history is None:
            return ""
        end = history.task_ends.get(stem) or history.end
        return end.detail if end is not None else ""


def _locate_last_attempt(history: UnitHistory, unit: Unit, results: Mapping[str, TranscriptionResult]) -> None:
    """Adds the GPU to the place of the attempt that finished, if events name only its node: its worker knows it."""
    last = history.attempts[-1] if history.attempts else None
    visible_devices = {results[task.stem].devices for task in unit.tasks if task.stem in results}
    if last is None or last.ending != "finished" or not last.place or "/" in last.place or len(visible_devices) != 1:
        return
    match = _VISIBLE_GPU.fullmatch(visible_devices.pop())
    if match:
        last.place = f"{last.place}/gpu-{match[1] or match[2]}"


def _build_attempt_span(unit: Unit, attempt: UnitAttempt, until: float, share: float) -> AttemptSpan:
    other_tasks = len(unit.tasks) - 1
    device: DeviceKind = "gpu" if share else "worker"
    return AttemptSpan(
        unit=unit.name,
        label=unit.tasks[0].stem + (f" +{other_tasks}" if other_tasks else ""),
        model=unit.model,
        place=attempt.place,
        attempt=attempt.number,
        allocated=attempt.allocated,
        running=attempt.running,
        ended=until if attempt.ended is None else attempt.ended,
        ending=attempt.ending,
        detail=attempt.detail,
        device=device,
        share=share,
    )


def _gpu_share(run: Run, unit: Unit, attempt: UnitAttempt, shares: Mapping[str, float]) -> float:
    """Share of a GPU that a unit holds: by its place, 0 without a cluster, else by model, else a whole GPU."""
    share_of_place = places.gpu_share_of_place(attempt.place)
    if share_of_place is not None:
        return share_of_place
    if run.cluster is None and not places.parse_place(attempt.place).is_gpu:
        return 0.0
    return shares.get(unit.model, 1.0)


def _build_summary_span(axis: TimeAxis, summary: SummaryHistory, until: float) -> SummarySpan:
    return SummarySpan(
        stem=summary.stem,
        sent=axis.second_of(summary.first_sent),
        asked=axis.second_of(summary.last_sent),
        first_token=None if summary.first_token is None else axis.second_of(summary.first_token),
        ended=axis.second_of(until if summary.ended is None else summary.ended),
        ending=summary.ending,
    )


def _infer_missing_ends(
    histories: Mapping[str, UnitHistory], units: Mapping[str, Unit], results: Mapping[str, TranscriptionResult]
) -> list[TimelineEvent]:
    """Ends of units that have all their transcripts but no recorded end: the controller died in between."""
    ends = []
    for name, history in histories.items():
        unit_results = [results.get(task.stem) for task in units[name].tasks]
        if history.end is None and all(unit_results):
            at = max(result.finished for result in unit_results if result is not None)
            ends.append(TimelineEvent(at=at, unit=name, kind="finished"))
    return ends


def _events_from_results(run: Run, results: Mapping[str, TranscriptionResult]) -> list[TimelineEvent]:
    """Events of the last attempts, for a run whose journal was lost: results have their start, end and host."""
    events = []
    for unit in run.units:
        unit_results = [(task.stem, results[task.stem]) for task in unit.tasks if task.stem in results]
        for stem, result in sorted(unit_results, key=lambda pair: pair[1].started):
            events.append(TimelineEvent(at=result.started, unit=unit.name, kind="running", place=result.host))
            events.append(TimelineEvent(at=result.finished, unit=unit.name, kind="finished", stem=stem))
    return events
