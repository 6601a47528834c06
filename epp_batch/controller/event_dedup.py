"""What is told already, and what is new: so that two drivers of one run, one after the other, tell everything once.

Pure; the journal's events in, the events that are not yet in it out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from epp_batch.controller.unit_status import Facts, State, attempt, key, milestones, state
from epp_batch.timeline import Event, EventKind

AWAY_SECONDS = 1.5
"""The server's clock tells whole seconds only; beyond this difference it knows better, since nobody was looking."""


class Chronicle:
    """The milestones of one run."""

    def __init__(self, journal: Iterable[Event] = ()) -> None:
        self._told: set[tuple[str, str, int, str]] = set()
        self._last: defaultdict[str, int] = defaultdict(int)
        self._offsets: dict[tuple[str, str], int] = {}
        self._paused: dict[str, bool] = {}
        for event in journal:
            self._note(event)

    def news(self, unit: str, facts: Facts, now: float) -> list[Event]:
        """What the objects tell of a unit that was not told before, stamped; wall second `now`."""
        seen = [self._shifted(event, facts) for event in milestones(unit, facts)]
        fresh = [self._stamped(event, now) for event in seen if key(event) not in self._told]
        for event in fresh:
            self._note(event)
        return fresh + self._pause(unit, facts, state(facts), now)

    def end(
        self,
        unit: str,
        facts: Facts,
        kind: EventKind,
        now: float,
        *,
        detail: str = "",
        stem: str = "",
        at: float | None = None,
    ) -> Event:
        """The unit's end, or one task's: at `at`, else at the Job's own time if nobody was looking then."""
        event = Event(at=_ended_at(facts, now) if at is None else at, unit=unit, kind=kind, detail=detail, stem=stem)
        event = self._stamped(self._numbered(event, facts), now)
        self._note(event)
        return event

    def knows(self, unit: str) -> bool:
        """Whether anything was told of a unit."""
        return unit in self._last

    def ended(self, unit: str) -> bool:
        """Whether it was told how a unit's latest attempt ended."""
        last = self._last.get(unit, 0)
        return any((unit, kind, last, "") in self._told for kind in ("finished", "failed", "cancelled"))

    def _pause(self, unit: str, facts: Facts, now_is: State, now: float) -> list[Event]:
        paused = now_is.phase == "paused"
        if facts.workload is None or self._paused.get(unit, False) == paused:
            return []
        event = Event(at=now, unit=unit, kind="paused" if paused else "resumed", attempt=self._last[unit])
        self._note(event)
        return [event]

    def _note(self, event: Event) -> None:
        if event.kind == "created":
            self._offsets.setdefault((event.unit, event.detail), self._last[event.unit])
        if event.kind in ("paused", "resumed"):
            self._paused[event.unit] = event.kind == "paused"
        if not event.stem:
            self._told.add(key(event))
        self._last[event.unit] = max(self._last[event.unit], event.attempt)

    def _shifted(self, event: Event, facts: Facts) -> Event:
        """A Job that was made again counts its attempts on from those before it."""
        if event.kind == "created" or facts.job is None:
            return event
        uid = facts.job.metadata.uid
        offset = self._offsets.setdefault((event.unit, uid), self._last[event.unit])
        return _with(event, attempt=event.attempt + offset)

    def _numbered(self, event: Event, facts: Facts) -> Event:
        return self._shifted(_with(event, attempt=attempt(facts.workload)), facts)

    def _stamped(self, event: Event, now: float) -> Event:
        return _with(event, at=now) if abs(now - event.at) <= AWAY_SECONDS else event


def _ended_at(facts: Facts, now: float) -> float:
    job = facts.job
    if job is None:
        return now
    ended = job.condition("Complete") or job.condition("Failed")
    at = job.status.completion_time or (ended.last_transition_time if ended is not None else None)
    return at.timestamp() if at is not None else now


def _with(event: Event, *, at: float | None = None, attempt: int | None = None) -> Event:
    return Event(
        at=event.at if at is None else at,
        unit=event.unit,
        kind=event.kind,
        place=event.place,
        detail=event.detail,
        stem=event.stem,
        attempt=event.attempt if attempt is None else attempt,
    )
