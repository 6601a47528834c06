"""Decides which milestones of a run are new, so that any number of successive drivers record each event once. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from epp_batch.controller.milestones import admission_attempt, event_key, list_milestones
from epp_batch.controller.unit_status import UnitObjects, derive_unit_status
from epp_batch.timeline import EventKind, TimelineEvent

CLOCK_TOLERANCE_SECONDS = 1.5
"""An event observed as it happens is within this of its server timestamp (whole seconds): our clock is more precise.
If it is farther away, it happened while no driver was running, and the server's timestamp is used."""


class EventDeduplicator:
    """Events of one run that are recorded already. Created from the journal; times are wall seconds since 1970."""

    def __init__(self, journal: Iterable[TimelineEvent] = ()) -> None:
        self._recorded_keys: set[tuple[str, str, int, str]] = set()
        self._last_attempt: defaultdict[str, int] = defaultdict(int)
        self._attempt_offsets: dict[tuple[str, str], int] = {}
        """By unit and Job uid: attempts of the unit's earlier Jobs."""
        self._paused: dict[str, bool] = {}
        for event in journal:
            self._record(event)

    def collect_new_events(self, unit: str, objects: UnitObjects, now: float) -> list[TimelineEvent]:
        """Milestones of a unit that are not recorded yet, oldest first; they count as recorded from now on."""
        observed = [self._offset_attempt(event, objects) for event in list_milestones(unit, objects)]
        new = [self._adjust_time(event, now) for event in observed if event_key(event) not in self._recorded_keys]
        for event in new:
            self._record(event)
        return new + self._pause_events(unit, objects, now)

    def record_end(
        self,
        unit: str,
        objects: UnitObjects,
        kind: EventKind,
        now: float,
        *,
        detail: str = "",
        stem: str = "",
        at: float | None = None,
    ) -> TimelineEvent:
        """The event of a unit's end, or with `stem` of one task's; recorded from now on.

        Its time is `at`, else the Job's end, else `now`.
        """
        event = TimelineEvent(
            at=_job_end_time(objects, now) if at is None else at,
            unit=unit,
            kind=kind,
            detail=detail,
            stem=stem,
            attempt=admission_attempt(objects.workload),
        )
        event = self._adjust_time(self._offset_attempt(event, objects), now)
        self._record(event)
        return event

    def has_events(self, unit: str) -> bool:
        """Whether any event of a unit is recorded."""
        return unit in self._last_attempt

    def has_ended(self, unit: str) -> bool:
        """Whether the end of a unit's latest attempt is recorded."""
        last = self._last_attempt.get(unit, 0)
        return any((unit, kind, last, "") in self._recorded_keys for kind in ("finished", "failed", "cancelled"))

    def _pause_events(self, unit: str, objects: UnitObjects, now: float) -> list[TimelineEvent]:
        """A pause leaves no timestamp in the Workload, so it is recorded when it is observed, every time."""
        paused = derive_unit_status(objects).phase == "paused"
        if objects.workload is None or self._paused.get(unit, False) == paused:
            return []
        kind: EventKind = "paused" if paused else "resumed"
        event = TimelineEvent(at=now, unit=unit, kind=kind, attempt=self._last_attempt[unit])
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

    def _offset_attempt(self, event: TimelineEvent, objects: UnitObjects) -> TimelineEvent:
        """A recreated Job continues the attempt numbers of the unit's earlier Jobs."""
        if event.kind == "created" or objects.job is None:
            return event
        uid = objects.job.metadata.uid
        offset = self._attempt_offsets.setdefault((event.unit, uid), self._last_attempt[event.unit])
        return msgspec.structs.replace(event, attempt=event.attempt + offset)

    def _adjust_time(self, event: TimelineEvent, now: float) -> TimelineEvent:
        return msgspec.structs.replace(event, at=now) if abs(now - event.at) <= CLOCK_TOLERANCE_SECONDS else event


def _job_end_time(objects: UnitObjects, now: float) -> float:
    job = objects.job
    if job is None:
        return now
    condition = job.true_condition("Complete") or job.true_condition("Failed")
    at = job.status.completion_time or (condition.last_transition_time if condition is not None else None)
    return at.timestamp() if at is not None else now
