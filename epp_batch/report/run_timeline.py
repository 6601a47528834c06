"""How a run went, on its axis: histories, lives, attempts and summaries of its own units."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from epp_batch.output_folder import TranscriptionResult
from epp_batch.report import places
from epp_batch.report.axis import TimeAxis
from epp_batch.report.model import AttemptSpan, DeviceKind, SummarySpan
from epp_batch.report.summary_spans import SummaryHistory, build_summary_histories
from epp_batch.report.unit_history import UnitAttempt, UnitHistory, build_unit_histories
from epp_batch.spec import Run, Unit
from epp_batch.timeline import TimelineEvent

Interval = tuple[float, float]
_VISIBLE_GPU = re.compile(r"GPU-([0-9a-f]{8})[0-9a-f-]*|(\d+)")
"""NVIDIA_VISIBLE_DEVICES with one whole GPU, by UUID or index."""


class RunTimeline(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that events tell."""

    axis: TimeAxis
    makespan: float
    histories: dict[str, UnitHistory]
    lifetimes: dict[str, list[Interval]]
    """By unit: from creation to end, of every life."""
    spans: tuple[AttemptSpan, ...]
    summaries: tuple[SummarySpan, ...]
    service_seconds: dict[str, float]
    """Seconds on a device by unit, all attempts together."""

    @classmethod
    def from_events(
        cls,
        run: Run,
        events: Sequence[TimelineEvent],
        results: Mapping[str, TranscriptionResult],
        shares: Mapping[str, float],
    ) -> RunTimeline:
        """Of the run's own units; without any event, what results tell of their attempts."""
        units = {unit.name: unit for unit in run.units}
        own = [event for event in events if event.unit in units] or _events_from_results(run, results)
        sizes = {name: len(unit.tasks) for name, unit in units.items()}
        raw = build_unit_histories(own, sizes, restarts=run.cluster is None)
        if unseen := _infer_missing_ends(raw, units, results):
            raw = build_unit_histories([*own, *unseen], sizes, restarts=run.cluster is None)
        sent = build_summary_histories(events, {task.stem for task in run.list_tasks()})
        until = max([event.at for event in own] + [one.ended or one.last_sent for one in sent], default=0.0)
        lived = [life for history in raw.values() for life in history.lifetimes(until)]
        axis = TimeAxis([*lived, *((one.first_sent, one.ended or until) for one in sent)])
        moved = {name: history.with_times(axis) for name, history in raw.items()}
        for name, history in moved.items():
            _locate_last_attempt(history, units[name], results)
        spans = [
            _build_attempt_span(units[name], attempt, axis(until), _gpu_share(run, units[name], attempt, shares))
            for name, history in moved.items()
            for attempt in history.attempts
        ]
        service: defaultdict[str, float] = defaultdict(float)
        for span in spans:
            service[span.unit] += span.seconds
        return cls(
            axis=axis,
            makespan=TimeAxis(lived).length,
            histories=moved,
            lifetimes={name: history.lifetimes(axis(until)) for name, history in moved.items()},
            spans=tuple(sorted(spans, key=lambda span: span.allocated)),
            summaries=tuple(_build_summary_span(axis, one, until) for one in sent),
            service_seconds=dict(service),
        )

    def end_reason(self, unit: str, stem: str) -> str:
        """What events say of an end; "" when they are silent."""
        history = self.histories.get(unit)
        if history is None:
            return ""
        end = history.task_ends.get(stem) or history.end
        return end.detail if end is not None else ""


def _locate_last_attempt(history: UnitHistory, unit: Unit, results: Mapping[str, TranscriptionResult]) -> None:
    """The GPU of the attempt that finished, where only its node is told: its worker knows."""
    last = history.attempts[-1] if history.attempts else None
    told = {results[task.stem].devices for task in unit.tasks if task.stem in results}
    if last is not None and last.ending == "finished" and last.place and "/" not in last.place and len(told) == 1:
        found = _VISIBLE_GPU.fullmatch(told.pop())
        if found:
            last.place = f"{last.place}/gpu-{found[1] or found[2]}"


def _build_attempt_span(unit: Unit, attempt: UnitAttempt, until: float, share: float) -> AttemptSpan:
    more = len(unit.tasks) - 1
    device: DeviceKind = "gpu" if share else "worker"
    return AttemptSpan(
        unit=unit.name,
        label=unit.tasks[0].stem + (f" +{more}" if more else ""),
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
    told = places.gpu_share_of_place(attempt.place)
    if told is not None:
        return told
    if run.cluster is None and not places.parse_place(attempt.place).is_gpu:
        return 0.0
    return shares.get(unit.model, 1.0)


def _build_summary_span(axis: TimeAxis, sending: SummaryHistory, until: float) -> SummarySpan:
    return SummarySpan(
        stem=sending.stem,
        sent=axis(sending.first_sent),
        asked=axis(sending.last_sent),
        first_token=None if sending.first_token is None else axis(sending.first_token),
        ended=axis(until if sending.ended is None else sending.ended),
        ending=sending.ending,
    )


def _infer_missing_ends(
    raw: Mapping[str, UnitHistory], units: Mapping[str, Unit], results: Mapping[str, TranscriptionResult]
) -> list[TimelineEvent]:
    """Of units whose transcripts are all there though nobody wrote that they ended: the driver died in between."""
    ends = []
    for name, history in raw.items():
        done = [results.get(task.stem) for task in units[name].tasks]
        if history.end is None and all(done):
            at = max(one.finished for one in done if one is not None)
            ends.append(TimelineEvent(at=at, unit=name, kind="finished"))
    return ends


def _events_from_results(run: Run, results: Mapping[str, TranscriptionResult]) -> list[TimelineEvent]:
    """A journal that was lost, as far as sidecars remember: when the last attempts ran, and on which host."""
    events = []
    for unit in run.units:
        done = [(task.stem, results[task.stem]) for task in unit.tasks if task.stem in results]
        for stem, result in sorted(done, key=lambda pair: pair[1].started):
            events.append(TimelineEvent(at=result.started, unit=unit.name, kind="running", place=result.host))
            events.append(TimelineEvent(at=result.finished, unit=unit.name, kind="finished", stem=stem))
    return events
