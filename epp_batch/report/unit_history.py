"""What became of each unit, from events: its attempts, its waits, its end.

Events of one unit are read in the order in which they were written, which is the order in which they were seen; times
within a unit never go back (a cluster's have a resolution of one second, the driver's do not). The same event twice, as
a driver writes that was killed and started again, counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from epp_batch.timeline import TimelineEvent

AttemptEnding = Literal["finished", "failed", "cancelled", "evicted", "retried", "lost", "open"]
UnitState = Literal["waiting", "running", "finished", "failed", "cancelled"]
TerminalState = Literal["finished", "failed", "cancelled"]


_TERMINAL_KINDS: dict[str, TerminalState] = {"finished": "finished", "failed": "failed", "cancelled": "cancelled"}


class UnitAttempt(msgspec.Struct, kw_only=True):
    """One stretch of time in which a unit held its device. Times as in events."""

    number: int
    allocated: float
    """When the device became its own: admitted, or running where nobody admits."""
    running: float | None = None
    """When its container ran; None if it never came to that."""
    ended: float | None = None
    ending: AttemptEnding = "open"
    """`lost` where nobody saw the end, `open` where there is none yet."""
    place: str = ""
    detail: str = ""


class UnitEnd(msgspec.Struct, frozen=True):
    """How a task or a unit ended."""

    state: TerminalState
    at: float
    detail: str = ""


class UnitHistory(msgspec.Struct, kw_only=True):
    """One unit. A unit that is created again after its end begins a new life: its latencies are those of the last."""

    unit: str
    created: float
    first_admitted: float | None = None
    """First of this life, like `running`."""
    first_running: float | None = None
    end: UnitEnd | None = None
    attempts: list[UnitAttempt] = []
    """Of all lives."""
    evictions: int = 0
    preemptions: int = 0
    """Evictions in favour of another workload."""
    retries: int = 0
    task_ends: dict[str, UnitEnd] = {}
    """Ends of single tasks, where a unit has several."""
    earlier_lifetimes: list[tuple[float, float]] = []
    """Lives before this one, from creation to end."""

    @property
    def state(self) -> UnitState:
        if self.end is not None:
            return self.end.state
        last = self.attempts[-1] if self.attempts else None
        return "running" if last is not None and last.ended is None and last.running is not None else "waiting"

    @property
    def queue_wait(self) -> float | None:
        """Until admitted; until it ran, where nobody admits."""
        until = self.first_running if self.first_admitted is None else self.first_admitted
        return None if until is None else until - self.created

    def lifetimes(self, until: float) -> list[tuple[float, float]]:
        """From creation to end; to `until`, if the last has not ended."""
        return [*self.earlier_lifetimes, (self.created, max(until, self.created) if self.end is None else self.end.at)]

    def with_times(self, to: Callable[[float], float]) -> UnitHistory:
        """The same with other times."""

        def known(at: float | None) -> float | None:
            return None if at is None else to(at)

        attempts = [
            msgspec.structs.replace(
                one, allocated=to(one.allocated), running=known(one.running), ended=known(one.ended)
            )
            for one in self.attempts
        ]
        return msgspec.structs.replace(
            self,
            created=to(self.created),
            first_admitted=known(self.first_admitted),
            first_running=known(self.first_running),
            end=None if self.end is None else UnitEnd(self.end.state, to(self.end.at), self.end.detail),
            attempts=attempts,
            task_ends={stem: UnitEnd(end.state, to(end.at), end.detail) for stem, end in self.task_ends.items()},
            earlier_lifetimes=[(to(begin), to(end)) for begin, end in self.earlier_lifetimes],
        )


def build_unit_histories(
    events: Iterable[TimelineEvent], tasks: Mapping[str, int] | None = None, *, restarts: bool = False
) -> dict[str, UnitHistory]:
    """Histories by unit, in order of first appearance; events of summaries are left out.

    `tasks` tells how many a unit has, one if it is not named. With `restarts`, a unit that is created again begins anew
    even if nobody saw its end: local workers die with their parent, Jobs do not die with their driver.
    """
    book = _HistoriesBuilder(tasks or {}, restarts)
    for event in events:
        book.add_event(event)
    return {unit: page.history for unit, page in book.builders.items()}


class _HistoriesBuilder:
    """All units while their events are read."""

    def __init__(self, tasks: Mapping[str, int], restarts: bool) -> None:
        self.builders: dict[str, _UnitHistoryBuilder] = {}
        self._task_counts = tasks
        self._restarts = restarts
        self._newest_time = float("-inf")

    def add_event(self, event: TimelineEvent) -> None:
        if event.kind not in _EVENT_HANDLERS:
            return
        page = self.builders.get(event.unit)
        if page is None:
            page = self.builders[event.unit] = _UnitHistoryBuilder(
                event, self._task_counts.get(event.unit, 1), self._restarts
            )
        page.add_event(event, self._newest_time)
        self._newest_time = max(self._newest_time, event.at)


class _UnitHistoryBuilder:
    """One unit while its events are read."""

    def __init__(self, first: TimelineEvent, tasks: int, restarts: bool) -> None:
        self.history = UnitHistory(unit=first.unit, created=first.at)
        self._task_count = tasks
        self._restarts = restarts
        self._seen_events: set[TimelineEvent] = set()
        self._now = first.at
        self._creation_seen = False
        """A `created` event was read; before, the creation is only implied."""
        self._end_is_implied = False
        """All tasks ended, though nobody said so of the unit."""
        self._place = ""
        self._job = self._pod = ""
        """Details of `created` and `running`: which one it was, where that is told."""

    @property
    def _open_attempt(self) -> UnitAttempt | None:
        last = self.history.attempts[-1] if self.history.attempts else None
        return last if last is not None and last.ended is None else None

    def add_event(self, event: TimelineEvent, last: float) -> None:
        """`last` is the time of the newest event of all units before this one."""
        if event in self._seen_events:
            return
        self._seen_events.add(event)
        if event.kind == "created":
            self._on_created(event, last)
            return
        self._now = max(self._now, event.at)
        if event.place:
            self._place = event.place
        _EVENT_HANDLERS[event.kind](self, event)

    def _on_created(self, event: TimelineEvent, last: float) -> None:
        history = self.history
        another = bool(self._job and event.detail) and event.detail != self._job
        again = history.end is not None or another or (self._restarts and self._creation_seen)
        if again and event.at > history.created:
            self._close_attempt("lost", min(max(last, self._now), event.at))
            history.earlier_lifetimes.append((history.created, history.end.at if history.end else min(last, event.at)))
            history.created = self._now = max(event.at, history.earlier_lifetimes[-1][1])
            history.first_admitted = history.first_running = history.end = None
            history.task_ends = {}
            self._end_is_implied = False
        elif not self._creation_seen:
            history.created = min(history.created, event.at)
        self._creation_seen = True
        self._job = event.detail or self._job

    def _on_admitted(self, event: TimelineEvent) -> None:
        if not self._may_still_run():
            return
        current = self._open_attempt
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
            if not moved and (not event.detail or event.detail == self._pod):
                return
            self._close_attempt("lost", self._now)
            current = None
        current = current or self._begin_attempt(event)
        current.running, current.place, self._pod = self._now, self._place, event.detail
        if self.history.first_running is None:
            self.history.first_running = self._now

    def _on_evicted(self, event: TimelineEvent) -> None:
        if self.history.end is None:
            self.history.evictions += 1
            self.history.preemptions += event.detail.startswith("Preempted")
            current = self._open_attempt
            if current is not None and current.number <= (event.attempt or current.number):
                self._close_attempt("evicted", self._now, event.detail)

    def _on_retried(self, event: TimelineEvent) -> None:
        if self._may_still_run():
            self.history.retries += 1
            if self._close_attempt("retried", self._now, event.detail):
                self._begin_attempt(event)  # quota is kept between the pods of one admission

    def _on_ended(self, event: TimelineEvent) -> None:
        end = UnitEnd(_TERMINAL_KINDS[event.kind], self._now, event.detail)
        history = self.history
        if event.stem and self._task_count > 1:
            history.task_ends[event.stem] = end
            if len(history.task_ends) < self._task_count or history.end is not None:
                return
            states = {one.state for one in history.task_ends.values()}
            end = UnitEnd("failed" if "failed" in states else end.state, self._now, event.detail)
            self._end_is_implied = True
        elif history.end is not None and not self._end_is_implied:
            return
        else:
            self._end_is_implied = False
        last = history.attempts[-1] if history.attempts else None
        if last is not None and last.ended is not None and last.ending in _TERMINAL_KINDS:
            last.ended = None
        history.end = end
        self._close_attempt(end.state, self._now, event.detail)

    def _ignore(self, event: TimelineEvent) -> None: ...

    def _may_still_run(self) -> bool:
        """Whether the unit may still run; a failure that is followed by another attempt was not its end."""
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
        current = self._open_attempt
        if current is None:
            return False
        begun = current.allocated if current.running is None else current.running
        current.ended, current.ending, current.detail = max(at, begun), ending, detail
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
