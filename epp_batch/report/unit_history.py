"""What happened to each unit, from its events: attempts, waiting, evictions, end.

Events of one unit are read in the order in which they were written. Their times never go back within a unit: a time
before the newest one counts as that one (a cluster's timestamps are in whole seconds, the controller's own are not).
An event that occurs twice counts once, since a controller that was restarted writes again what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from epp_batch.report.stats import Interval
from epp_batch.timeline import TimelineEvent

AttemptEnding = Literal["finished", "failed", "cancelled", "evicted", "retried", "lost", "open"]
"""`lost`: the end was not recorded; `open`: the attempt has not ended."""
TerminalState = Literal["finished", "failed", "cancelled"]
UnitState = Literal["waiting", "running", "finished", "failed", "cancelled"]


_TERMINAL_KINDS: dict[str, TerminalState] = {"finished": "finished", "failed": "failed", "cancelled": "cancelled"}


class UnitAttempt(msgspec.Struct, kw_only=True):
    """One period in which a unit held its device. Times as in events."""

    number: int
    allocated: float
    """When the unit got its device: admitted, or running where there is no queue."""
    running: float | None = None
    """When its container started; None if it never did."""
    ended: float | None = None
    ending: AttemptEnding = "open"
    place: str = ""
    detail: str = ""
    """Of the event that ended it."""


class UnitEnd(msgspec.Struct, frozen=True):
    """How and when a task or a unit ended."""

    state: TerminalState
    at: float
    detail: str = ""


class UnitHistory(msgspec.Struct, kw_only=True):
    """One unit. A unit that is created again after its end starts a new lifetime, which latencies refer to."""

    unit: str
    created: float
    first_admitted: float | None = None
    """Of this lifetime, like `first_running`."""
    first_running: float | None = None
    end: UnitEnd | None = None
    attempts: list[UnitAttempt] = []
    """Of all lifetimes."""
    evictions: int = 0
    preemptions: int = 0
    """Evictions in favour of another workload."""
    retries: int = 0
    """Pods that failed and were replaced."""
    task_ends: dict[str, UnitEnd] = {}
    """By stem, for a unit with several tasks."""
    earlier_lifetimes: list[Interval] = []
    """From creation to end."""

    @property
    def state(self) -> UnitState:
        """The present state; `waiting` until the container of an attempt has started."""
        if self.end is not None:
            return self.end.state
        last = self.attempts[-1] if self.attempts else None
        return "running" if last is not None and last.ended is None and last.running is not None else "waiting"

    @property
    def queue_wait(self) -> float | None:
        """Seconds from creation to admission, or to the start where there is no queue; None before that."""
        until = self.first_running if self.first_admitted is None else self.first_admitted
        return None if until is None else until - self.created

    def lifetimes(self, until: float) -> list[Interval]:
        """All lifetimes; one that has not ended lasts to `until`."""
        end = max(until, self.created) if self.end is None else self.end.at
        return [*self.earlier_lifetimes, (self.created, end)]

    def with_times(self, convert: Callable[[float], float]) -> UnitHistory:
        """A copy whose times are converted."""

        def convert_known(at: float | None) -> float | None:
            return None if at is None else convert(at)

        def convert_end(end: UnitEnd) -> UnitEnd:
            return UnitEnd(end.state, convert(end.at), end.detail)

        attempts = [
            msgspec.structs.replace(
                attempt,
                allocated=convert(attempt.allocated),
                running=convert_known(attempt.running),
                ended=convert_known(attempt.ended),
            )
            for attempt in self.attempts
        ]
        return msgspec.structs.replace(
            self,
            created=convert(self.created),
            first_admitted=convert_known(self.first_admitted),
            first_running=convert_known(self.first_running),
            end=None if self.end is None else convert_end(self.end),
            attempts=attempts,
            task_ends={stem: convert_end(end) for stem, end in self.task_ends.items()},
            earlier_lifetimes=[(convert(begin), convert(end)) for begin, end in self.earlier_lifetimes],
        )


def build_unit_histories(
    events: Iterable[TimelineEvent], task_counts: Mapping[str, int] | None = None, *, restarts: bool = False
) -> dict[str, UnitHistory]:
    """Histories by unit, in order of first appearance; events of summaries are ignored.

    `task_counts` has the number of tasks by unit, 1 where it is missing. With `restarts`, a unit that is created again
    starts a new lifetime even if its end was not recorded: local workers die with their parent process, whereas Jobs
    survive their controller.
    """
    builders: dict[str, _UnitHistoryBuilder] = {}
    newest = float("-inf")
    for event in events:
        if event.kind not in _EVENT_HANDLERS:
            continue
        builder = builders.get(event.unit)
        if builder is None:
            task_count = (task_counts or {}).get(event.unit, 1)
            builder = builders[event.unit] = _UnitHistoryBuilder(event, task_count, restarts)
        builder.add_event(event, newest)
        newest = max(newest, event.at)
    return {unit: builder.history for unit, builder in builders.items()}


class _UnitHistoryBuilder:
    """Builds the history of one unit, event by event."""

    def __init__(self, first: TimelineEvent, task_count: int, restarts: bool) -> None:
        self.history = UnitHistory(unit=first.unit, created=first.at)
        self._task_count = task_count
        self._restarts = restarts
        self._seen_events: set[TimelineEvent] = set()
        self._now = first.at
        """The newest time of this unit."""
        self._creation_seen = False
        """A `created` event was read; until then `created` is the time of the first event."""
        self._end_is_implied = False
        """All tasks have ended, but there was no event of the unit's end."""
        self._place = ""
        self._job_uid = self._pod_name = ""
        """Details of the last `created` and `running`; empty for local runs and simulations."""

    @property
    def _open_attempt(self) -> UnitAttempt | None:
        last = self.history.attempts[-1] if self.history.attempts else None
        return last if last is not None and last.ended is None else None

    def add_event(self, event: TimelineEvent, newest: float) -> None:
        """Reads one event; `newest` is the newest time of all units before it."""
        if event in self._seen_events:
            return
        self._seen_events.add(event)
        if event.kind == "created":
            self._on_created(event, newest)
            return
        self._now = max(self._now, event.at)
        if event.place:
            self._place = event.place
        _EVENT_HANDLERS[event.kind](self, event)

    def _on_created(self, event: TimelineEvent, newest: float) -> None:
        history = self.history
        # A Job of another UID replaces one that was deleted while the controller was down.
        another_job = bool(self._job_uid and event.detail) and event.detail != self._job_uid
        new_lifetime = history.end is not None or another_job or (self._restarts and self._creation_seen)
        if new_lifetime and event.at > history.created:
            self._close_attempt("lost", min(max(newest, self._now), event.at))
            end = history.end.at if history.end else min(newest, event.at)
            history.earlier_lifetimes.append((history.created, end))
            history.created = self._now = max(event.at, end)
            history.first_admitted = history.first_running = history.end = None
            history.task_ends = {}
            self._end_is_implied = False
        elif not self._creation_seen:
            history.created = min(history.created, event.at)
        self._creation_seen = True
        self._job_uid = event.detail or self._job_uid

    def _on_admitted(self, event: TimelineEvent) -> None:
        if not self._may_still_run():
            return
        current = self._open_attempt
        # Kueue admits a workload again only after an eviction, so the eviction of the running attempt was not recorded.
        if current is not None and event.attempt > current.number and current.running is not None:
            self._close_attempt("lost", self._now)
            current = None
        if current is None:
            self._begin_attempt(event)

    def _on_running(self, event: TimelineEvent) -> None:
        if not self._may_still_run():
            return
        current = self._open_attempt
        if current is not None and current.running is not None:
            moved = bool(event.place) and event.place != current.place
            if not moved and (not event.detail or event.detail == self._pod_name):
                return
            self._close_attempt("lost", self._now)
            current = None
        current = current or self._begin_attempt(event)
        current.running, current.place, self._pod_name = self._now, self._place, event.detail
        if self.history.first_running is None:
            self.history.first_running = self._now

    def _on_evicted(self, event: TimelineEvent) -> None:
        if self.history.end is None:
            self.history.evictions += 1
            self.history.preemptions += event.detail.startswith("Preempted")
            current = self._open_attempt
            # An eviction of an earlier attempt, recorded late, does not end the present one.
            if current is not None and current.number <= (event.attempt or current.number):
                self._close_attempt("evicted", self._now, event.detail)

    def _on_retried(self, event: TimelineEvent) -> None:
        if self._may_still_run():
            self.history.retries += 1
            if self._close_attempt("retried", self._now, event.detail):
                # The Job keeps its quota while it replaces the pod, so the next attempt holds the device at once.
                self._begin_attempt(event)

    def _on_ended(self, event: TimelineEvent) -> None:
        end = UnitEnd(_TERMINAL_KINDS[event.kind], self._now, event.detail)
        history = self.history
        if event.stem and self._task_count > 1:
            history.task_ends[event.stem] = end
            if len(history.task_ends) < self._task_count or history.end is not None:
                return
            states = {task_end.state for task_end in history.task_ends.values()}
            end = UnitEnd("failed" if "failed" in states else end.state, self._now, event.detail)
            self._end_is_implied = True
        elif history.end is not None and not self._end_is_implied:
            return
        else:
            self._end_is_implied = False
        last = history.attempts[-1] if history.attempts else None
        # The end of the unit comes after the ends of its tasks, and its device was held until then.
        if last is not None and last.ended is not None and last.ending in _TERMINAL_KINDS:
            last.ended = None
        history.end = end
        self._close_attempt(end.state, self._now, event.detail)

    def _ignore(self, event: TimelineEvent) -> None: ...

    def _may_still_run(self) -> bool:
        """Whether the unit has not ended; takes a recorded failure back, which this further attempt disproves."""
        end = self.history.end
        if end is not None and end.state == "failed" and not self._end_is_implied:
            self.history.end = end = None
        return end is None

    def _begin_attempt(self, event: TimelineEvent) -> UnitAttempt:
        history = self.history
        number = event.attempt or (history.attempts[-1].number + 1 if history.attempts else 1)
        attempt = UnitAttempt(number=number, allocated=self._now, place=self._place)
        history.attempts.append(attempt)
        if history.first_admitted is None and event.kind == "admitted":
            history.first_admitted = self._now
        return attempt

    def _close_attempt(self, ending: AttemptEnding, at: float, detail: str = "") -> bool:
        """Ends the open attempt, not before it began; whether there was one."""
        current = self._open_attempt
        if current is None:
            return False
        begin = current.allocated if current.running is None else current.running
        current.ended, current.ending, current.detail = max(at, begin), ending, detail
        return True


_EVENT_HANDLERS = {
    **dict.fromkeys(
        ("created", "queued", "reserved", "requeued", "paused", "resumed", "ready"), _UnitHistoryBuilder._ignore
    ),
    **dict.fromkeys(_TERMINAL_KINDS, _UnitHistoryBuilder._on_ended),
    "admitted": _UnitHistoryBuilder._on_admitted,
    "running": _UnitHistoryBuilder._on_running,
    "evicted": _UnitHistoryBuilder._on_evicted,
    "retried": _UnitHistoryBuilder._on_retried,
}
"""By event kind; kinds that are missing belong to summaries."""
