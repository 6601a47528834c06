"""What is told already, and what is new: so that two drivers of one run, one after the other, tell everything once.

Pure; the journal's events in, the events that are not yet in it out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from epp_batch.controller.unit_status import (
    UnitObjects,
    UnitStatus,
    admission_attempt,
    derive_unit_status,
    event_key,
    list_milestones,
)
from epp_batch.timeline import EventKind, TimelineEvent

CLOCK_TOLERANCE_SECONDS = 1.5
"""The server's clock tells whole seconds only; beyond this difference it knows better, since nobody was looking."""


class EventDeduplicator:
    """The milestones of one run."""

    def __init__(self, journal: Iterable[TimelineEvent] = ()) -> None:
        self._recorded_keys: set[tuple[str, str, int, str]] = set()
        self._last_attempt: defaultdict[str, int] = defaultdict(int)
        self._attempt_offsets: dict[tuple[str, str], int] = {}
        self._paused: dict[str, bool] = {}
        for event in journal:
            self._record(event)

    def collect_new_events(self, unit: str, facts: UnitObjects, now: float) -> list[TimelineEvent]:
        """What the objects tell of a unit that was not told before, stamped; wall second `now`."""
        seen = [self._offset_attempt(event, facts) for event in list_milestones(unit, facts)]
        fresh = [self._adjust_time(event, now) for event in seen if event_key(event) not in self._recorded_keys]
        for event in fresh:
            self._record(event)
        return fresh + self._pause_events(unit, facts, derive_unit_status(facts), now)

    def record_end(
        self,
        unit: str,
        facts: UnitObjects,
        kind: EventKind,
        now: float,
        *,
        detail: str = "",
        stem: str = "",
        at: float | None = None,
    ) -> TimelineEvent:
        """The unit's end, or one task's: at `at`, else at the Job's own time if nobody was looking then."""
        event = TimelineEvent(
            at=_job_end_time(facts, now) if at is None else at, unit=unit, kind=kind, detail=detail, stem=stem
        )
        event = self._adjust_time(self._number_attempt(event, facts), now)
        self._record(event)
        return event

    def has_events(self, unit: str) -> bool:
        """Whether anything was told of a unit."""
        return unit in self._last_attempt

    def has_ended(self, unit: str) -> bool:
        """Whether it was told how a unit's latest attempt ended."""
        last = self._last_attempt.get(unit, 0)
        return any((unit, kind, last, "") in self._recorded_keys for kind in ("finished", "failed", "cancelled"))

    def _pause_events(self, unit: str, facts: UnitObjects, now_is: UnitStatus, now: float) -> list[TimelineEvent]:
        paused = now_is.phase == "paused"
        if facts.workload is None or self._paused.get(unit, False) == paused:
            return []
        event = TimelineEvent(
            at=now, unit=unit, kind="paused" if paused else "resumed", attempt=self._last_attempt[unit]
        )
        self._record(event)
        return [event]

    def _record(self, event: TimelineEvent) -> None:
        if event.kind == "created":
            self._attempt_offsets.setdefault((event.unit, event.detail), self._last_attempt[event.unit])
        if event.kind in ("paused", "resumed"):
            self._paused[event.unit] = event.kind == "paused"
        if not event.stem:
            self._recorded_keys.add(event_key(event))
        self._last_attempt[event.unit] = max(self._last_attempt[event.unit], event.attempt)

    def _offset_attempt(self, event: TimelineEvent, facts: UnitObjects) -> TimelineEvent:
        """A Job that was made again counts its attempts on from those before it."""
        if event.kind == "created" or facts.job is None:
            return event
        uid = facts.job.metadata.uid
        offset = self._attempt_offsets.setdefault((event.unit, uid), self._last_attempt[event.unit])
        return _replace_event(event, attempt=event.attempt + offset)

    def _number_attempt(self, event: TimelineEvent, facts: UnitObjects) -> TimelineEvent:
        return self._offset_attempt(_replace_event(event, attempt=admission_attempt(facts.workload)), facts)

    def _adjust_time(self, event: TimelineEvent, now: float) -> TimelineEvent:
        return _replace_event(event, at=now) if abs(now - event.at) <= CLOCK_TOLERANCE_SECONDS else event


def _job_end_time(facts: UnitObjects, now: float) -> float:
    job = facts.job
    if job is None:
        return now
    ended = job.true_condition("Complete") or job.true_condition("Failed")
    at = job.status.completion_time or (ended.last_transition_time if ended is not None else None)
    return at.timestamp() if at is not None else now


def _replace_event(event: TimelineEvent, *, at: float | None = None, attempt: int | None = None) -> TimelineEvent:
    return TimelineEvent(
        at=event.at if at is None else at,
        unit=event.unit,
        kind=event.kind,
        place=event.place,
        detail=event.detail,
        stem=event.stem,
        attempt=event.attempt if attempt is None else attempt,
    )
