"""Where a run stands: events and results in, counts, speed and remaining time out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from epp_batch.output_folder import Result
from epp_batch.spec import Run, Task
from epp_batch.timeline import Event, EventKind

Phase = Literal["planned", "queued", "admitted", "running", "paused", "done", "failed", "cancelled"]
PHASES: tuple[Phase, ...] = ("planned", "queued", "admitted", "running", "paused", "done", "failed", "cancelled")

_PHASE_AFTER: dict[EventKind, Phase] = {
    "created": "queued",
    "queued": "queued",
    "reserved": "admitted",
    "admitted": "admitted",
    "running": "running",
    "evicted": "queued",
    "requeued": "queued",
    "retried": "admitted",
    "finished": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "paused": "paused",
    "resumed": "queued",
}
_ENDED: tuple[Phase, ...] = ("done", "failed")


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """One unit whose container runs now."""

    unit: str
    stem: str
    """Of its first unfinished task."""
    place: str
    since: float
    """Wall seconds since 1970."""
    audio_done: float
    audio_total: float | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a run. Recordings are counted, not Jobs: a shard of ten counts ten."""

    run: str
    at: float
    """Wall seconds since 1970."""
    recordings: int
    phases: dict[Phase, int]
    preempted: int
    """How often Kueue took quota away for another workload, all units together."""
    evicted: int
    """How often it took quota away for any reason, preemption included."""
    retried: int
    """How often a pod failed and its Job made another."""
    audio_total: float
    """Seconds of the recordings whose length is known."""
    audio_done: float
    unknown_lengths: int
    elapsed: float
    """Seconds since this driver saw work run; 0 before."""
    speed: float | None
    """Seconds of audio done in a second, over `elapsed`; the inverse of the real-time factor of the whole run."""
    eta: float | None
    """Seconds until the end at this speed."""
    position: int | None = None
    """Of the run's first waiting Job in its LocalQueue, counted from 1; None where nobody tells."""
    running: tuple[Running, ...] = ()
    troubles: tuple[str, ...] = ()
    """Why nothing moves, in words; why the cluster is not seen."""

    def count(self, phase: Phase) -> int:
        return self.phases.get(phase, 0)

    @property
    def over(self) -> bool:
        """Every recording has come to an end."""
        return self.count("done") + self.count("failed") + self.count("cancelled") == self.recordings


class Tracker:
    """Follows one run. Feed it the journal first, then what happens."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._units: dict[str, tuple[Task, ...]] = {unit.name: unit.tasks for unit in run.units}
        self._phase: dict[str, Phase] = {task.stem: "planned" for task in run.tasks()}
        self._lengths: dict[str, float | None] = {task.stem: task.recording.seconds for task in run.tasks()}
        self._progress: dict[str, float] = {}
        self._places: dict[str, tuple[str, float]] = {}
        self._counts = {"preempted": 0, "evicted": 0, "retried": 0}
        self._began: float | None = None
        self._before = 0.0

    def replay(self, events: Iterable[Event]) -> None:
        """What happened before this process; the speed does not count it."""
        for event in events:
            self.apply(event)
        self._began, self._before = None, self._audio_done()

    def apply(self, event: Event) -> None:
        """One event; what it says of a unit or stem that the run does not have is left aside."""
        phase = _PHASE_AFTER.get(event.kind)
        tasks = self._units.get(event.unit)
        if phase is None or tasks is None:
            return
        if event.kind in self._counts:
            self._counts[event.kind] += 1
        if event.kind == "evicted" and event.detail.startswith("Preempted"):
            self._counts["preempted"] += 1
        if phase == "running":
            self._places[event.unit] = (event.place, event.at)
            self._began = self._began or event.at
        elif not event.stem:
            self._places.pop(event.unit, None)
        for task in tasks:
            if event.stem in ("", task.stem) and (event.stem or self._phase[task.stem] not in _ENDED):
                self._phase[task.stem] = phase

    def done(self, stem: str, result: Result) -> None:
        """A task's transcript is there; its true length is known now."""
        if stem in self._phase:
            self._phase[stem] = "done"
            self._lengths[stem] = result.audio_seconds

    def failed(self, stem: str) -> None:
        """A task failed for good."""
        if stem in self._phase:
            self._phase[stem] = "failed"

    def progress(self, unit: str, audio_seconds: float) -> None:
        """A unit's worker has got so far, in seconds of all its audio together."""
        self._progress[unit] = audio_seconds

    def started(self) -> None:
        """Work done so far was there before; the speed counts from here."""
        self._before = self._audio_done()

    def phase(self, stem: str) -> Phase:
        return self._phase[stem]

    def look(self, now: float, *, position: int | None = None, troubles: Iterable[str] = ()) -> Standing:
        """The state at wall second `now`."""
        phases = list(self._phase.values())
        running = tuple(self._running())
        total = sum(length or 0.0 for stem, length in self._lengths.items() if self._phase[stem] != "cancelled")
        done = self._audio_done() + sum(unit.audio_done for unit in running)
        elapsed = max(0.0, now - self._began) if self._began is not None else 0.0
        gained = done - self._before
        speed = gained / elapsed if elapsed > 0 and gained > 0 else None
        return Standing(
            run=self._run.name,
            at=now,
            recordings=len(phases),
            phases={phase: phases.count(phase) for phase in PHASES},
            **self._counts,
            audio_total=total,
            audio_done=done,
            unknown_lengths=sum(length is None for length in self._lengths.values()),
            elapsed=elapsed,
            speed=speed,
            eta=self._eta(total - done, speed),
            position=position,
            running=running,
            troubles=tuple(troubles),
        )

    def _eta(self, remaining: float, speed: float | None) -> float | None:
        """None without a speed, and while a length is missing from the sum."""
        open_lengths = (self._lengths[stem] for stem, phase in self._phase.items() if phase not in _ENDED)
        return None if speed is None or None in open_lengths else max(0.0, remaining) / speed

    def _audio_done(self) -> float:
        return sum(self._lengths[stem] or 0.0 for stem, phase in self._phase.items() if phase == "done")

    def _running(self) -> Iterable[Running]:
        for name, (place, since) in self._places.items():
            open_tasks = [task for task in self._units[name] if self._phase[task.stem] not in _ENDED]
            if not open_tasks:
                continue
            lengths = [self._lengths[task.stem] for task in open_tasks]
            total = None if None in lengths else sum(length for length in lengths if length is not None)
            yield Running(
                unit=name,
                stem=open_tasks[0].stem,
                place=place,
                since=since,
                audio_done=self._ahead(name, total),
                audio_total=total,
            )

    def _ahead(self, unit: str, open_total: float | None) -> float:
        """Audio seconds done of the tasks that are not finished yet."""
        finished = sum(self._lengths[t.stem] or 0.0 for t in self._units[unit] if self._phase[t.stem] == "done")
        ahead = max(0.0, self._progress.get(unit, 0.0) - finished)
        return ahead if open_total is None else min(ahead, open_total)
