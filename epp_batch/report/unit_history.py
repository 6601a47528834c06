"""What became of each unit, from events: its attempts, its waits, its end.

Events of one unit are read in the order in which they were written, which is the order in which they were seen; times
within a unit never go back (a cluster's have a resolution of one second, the driver's do not). The same event twice, as
a driver writes that was killed and started again, counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from epp_batch.timeline import Event

Ending = Literal["finished", "failed", "cancelled", "evicted", "retried", "lost", "open"]
State = Literal["waiting", "running", "finished", "failed", "cancelled"]
Final = Literal["finished", "failed", "cancelled"]


_FINAL: dict[str, Final] = {"finished": "finished", "failed": "failed", "cancelled": "cancelled"}


class Attempt(msgspec.Struct, kw_only=True):
    """One stretch of time in which a unit held its device. Times as in events."""

    number: int
    allocated: float
    """When the device became its own: admitted, or running where nobody admits."""
    running: float | None = None
    """When its container ran; None if it never came to that."""
    ended: float | None = None
    ending: Ending = "open"
    """`lost` where nobody saw the end, `open` where there is none yet."""
    place: str = ""
    detail: str = ""


class End(msgspec.Struct, frozen=True):
    """How a task or a unit ended."""

    state: Final
    at: float
    detail: str = ""


class History(msgspec.Struct, kw_only=True):
    """One unit. A unit that is created again after its end begins a new life: its latencies are those of the last."""

    unit: str
    created: float
    admitted: float | None = None
    """First of this life, like `running`."""
    running: float | None = None
    end: End | None = None
    attempts: list[Attempt] = []
    """Of all lives."""
    evictions: int = 0
    preemptions: int = 0
    """Evictions in favour of another workload."""
    retries: int = 0
    stems: dict[str, End] = {}
    """Ends of single tasks, where a unit has several."""
    earlier: list[tuple[float, float]] = []
    """Lives before this one, from creation to end."""

    @property
    def state(self) -> State:
        if self.end is not None:
            return self.end.state
        last = self.attempts[-1] if self.attempts else None
        return "running" if last is not None and last.ended is None and last.running is not None else "waiting"

    @property
    def wait(self) -> float | None:
        """Until admitted; until it ran, where nobody admits."""
        until = self.running if self.admitted is None else self.admitted
        return None if until is None else until - self.created

    def lives(self, until: float) -> list[tuple[float, float]]:
        """From creation to end; to `until`, if the last has not ended."""
        return [*self.earlier, (self.created, max(until, self.created) if self.end is None else self.end.at)]

    def moved(self, to: Callable[[float], float]) -> History:
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
            admitted=known(self.admitted),
            running=known(self.running),
            end=None if self.end is None else End(self.end.state, to(self.end.at), self.end.detail),
            attempts=attempts,
            stems={stem: End(end.state, to(end.at), end.detail) for stem, end in self.stems.items()},
            earlier=[(to(begin), to(end)) for begin, end in self.earlier],
        )


def histories(
    events: Iterable[Event], tasks: Mapping[str, int] | None = None, *, restarts: bool = False
) -> dict[str, History]:
    """Histories by unit, in order of first appearance; events of summaries are left out.

    `tasks` tells how many a unit has, one if it is not named. With `restarts`, a unit that is created again begins anew
    even if nobody saw its end: local workers die with their parent, Jobs do not die with their driver.
    """
    book = _Book(tasks or {}, restarts)
    for event in events:
        book.read(event)
    return {unit: page.history for unit, page in book.pages.items()}


class _Book:
    """All units while their events are read."""

    def __init__(self, tasks: Mapping[str, int], restarts: bool) -> None:
        self.pages: dict[str, _Page] = {}
        self._tasks = tasks
        self._restarts = restarts
        self._last = float("-inf")

    def read(self, event: Event) -> None:
        if event.kind not in _READERS:
            return
        page = self.pages.get(event.unit)
        if page is None:
            page = self.pages[event.unit] = _Page(event, self._tasks.get(event.unit, 1), self._restarts)
        page.read(event, self._last)
        self._last = max(self._last, event.at)


class _Page:
    """One unit while its events are read."""

    def __init__(self, first: Event, tasks: int, restarts: bool) -> None:
        self.history = History(unit=first.unit, created=first.at)
        self._tasks = tasks
        self._restarts = restarts
        self._seen: set[Event] = set()
        self._now = first.at
        self._known = False
        """A `created` event was read; before, the creation is only implied."""
        self._implied = False
        """All tasks ended, though nobody said so of the unit."""
        self._place = ""
        self._job = self._pod = ""
        """Details of `created` and `running`: which one it was, where that is told."""

    @property
    def _open(self) -> Attempt | None:
        last = self.history.attempts[-1] if self.history.attempts else None
        return last if last is not None and last.ended is None else None

    def read(self, event: Event, last: float) -> None:
        """`last` is the time of the newest event of all units before this one."""
        if event in self._seen:
            return
        self._seen.add(event)
        if event.kind == "created":
            self._created(event, last)
            return
        self._now = max(self._now, event.at)
        if event.place:
            self._place = event.place
        _READERS[event.kind](self, event)

    def _created(self, event: Event, last: float) -> None:
        history = self.history
        another = bool(self._job and event.detail) and event.detail != self._job
        again = history.end is not None or another or (self._restarts and self._known)
        if again and event.at > history.created:
            self._close("lost", min(max(last, self._now), event.at))
            history.earlier.append((history.created, history.end.at if history.end else min(last, event.at)))
            history.created = self._now = max(event.at, history.earlier[-1][1])
            history.admitted = history.running = history.end = None
            history.stems = {}
            self._implied = False
        elif not self._known:
            history.created = min(history.created, event.at)
        self._known = True
        self._job = event.detail or self._job

    def _admitted(self, event: Event) -> None:
        if not self._goes_on():
            return
        current = self._open
        if current is not None and event.attempt > current.number and current.running is not None:
            self._close("lost", self._now)
            current = None
        if current is None:
            self._begin(event)

    def _running(self, event: Event) -> None:
        if not self._goes_on():
            return
        current = self._open
        if current is not None and current.running is not None:
            moved = bool(event.place) and event.place != current.place
            if not moved and (not event.detail or event.detail == self._pod):
                return
            self._close("lost", self._now)
            current = None
        current = current or self._begin(event)
        current.running, current.place, self._pod = self._now, self._place, event.detail
        if self.history.running is None:
            self.history.running = self._now

    def _evicted(self, event: Event) -> None:
        if self.history.end is None:
            self.history.evictions += 1
            self.history.preemptions += event.detail.startswith("Preempted")
            current = self._open
            if current is not None and current.number <= (event.attempt or current.number):
                self._close("evicted", self._now, event.detail)

    def _retried(self, event: Event) -> None:
        if self._goes_on():
            self.history.retries += 1
            if self._close("retried", self._now, event.detail):
                self._begin(event)  # quota is kept between the pods of one admission

    def _ended(self, event: Event) -> None:
        end = End(_FINAL[event.kind], self._now, event.detail)
        history = self.history
        if event.stem and self._tasks > 1:
            history.stems[event.stem] = end
            if len(history.stems) < self._tasks or history.end is not None:
                return
            states = {one.state for one in history.stems.values()}
            end = End("failed" if "failed" in states else end.state, self._now, event.detail)
            self._implied = True
        elif history.end is not None and not self._implied:
            return
        else:
            self._implied = False
        last = history.attempts[-1] if history.attempts else None
        if last is not None and last.ended is not None and last.ending in _FINAL:
            last.ended = None
        history.end = end
        self._close(end.state, self._now, event.detail)

    def _nothing(self, event: Event) -> None: ...

    def _goes_on(self) -> bool:
        """Whether the unit may still run; a failure that is followed by another attempt was not its end."""
        end = self.history.end
        if end is not None and end.state == "failed" and not self._implied:
            self.history.end = end = None
        return end is None

    def _begin(self, event: Event) -> Attempt:
        history = self.history
        number = event.attempt or (history.attempts[-1].number + 1 if history.attempts else 1)
        attempt = Attempt(number=number, allocated=self._now, place=self._place)
        history.attempts.append(attempt)
        if history.admitted is None and event.kind == "admitted":
            history.admitted = self._now
        return attempt

    def _close(self, ending: Ending, at: float, detail: str = "") -> bool:
        current = self._open
        if current is None:
            return False
        begun = current.allocated if current.running is None else current.running
        current.ended, current.ending, current.detail = max(at, begun), ending, detail
        return True


_READERS = {
    **dict.fromkeys(("created", "queued", "reserved", "requeued", "paused", "resumed", "ready"), _Page._nothing),
    **dict.fromkeys(_FINAL, _Page._ended),
    "admitted": _Page._admitted,
    "running": _Page._running,
    "evicted": _Page._evicted,
    "retried": _Page._retried,
}
