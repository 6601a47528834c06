"""Status of a run: events and results in, counts, speed and remaining time out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from epp_batch.output_folder import TranscriptionResult
from epp_batch.spec import Run, Task
from epp_batch.timeline import EventKind, TimelineEvent

RecordingPhase = Literal["planned", "queued", "admitted", "running", "paused", "done", "failed", "cancelled"]
RECORDING_PHASES: tuple[RecordingPhase, ...] = (
    "planned",
    "queued",
    "admitted",
    "running",
    "paused",
    "done",
    "failed",
    "cancelled",
)

_PHASE_AFTER_EVENT: dict[EventKind, RecordingPhase] = {
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
_FINISHED_PHASES: tuple[RecordingPhase, ...] = ("done", "failed")
"""Later events of the unit do not change these, but `cancelled`: another `submit` creates the Job again."""


class RunningUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A unit whose container is running."""

    unit: str
    stem: str
    """Stem of its first unfinished task."""
    place: str
    """Node, or node and slots of a GPU."""
    since: float
    """Wall seconds since 1970."""
    audio_done: float
    audio_total: float | None


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment; `state` in JSON output. Counts are of recordings, not of Jobs: a shard of ten counts ten."""

    run: str
    at: float
    """Wall seconds since 1970."""
    recordings: int
    phases: dict[RecordingPhase, int]
    preempted: int
    """Preemptions by other workloads, all units together."""
    evicted: int
    """Evictions by Kueue for any reason, preemptions included."""
    retried: int
    """Failed pods that their Job replaced."""
    audio_total: float
    """Seconds of all recordings whose length is known."""
    audio_done: float
    unknown_lengths: int
    elapsed: float
    """Seconds since this driver first saw a unit running; 0 before."""
    speed: float | None
    """Seconds of audio transcribed per second of `elapsed`; the inverse of the real-time factor of the whole run."""
    eta: float | None
    """Seconds until the end at this speed; None if a length is unknown."""
    position: int | None = None
    """Position of the run's first pending Job in its LocalQueue, counted from 1; None if it is unknown."""
    running: tuple[RunningUnit, ...] = ()
    troubles: tuple[str, ...] = ()
    """Why the run does not progress, or why the cluster cannot be observed; one sentence each."""

    def count(self, phase: RecordingPhase) -> int:
        return self.phases.get(phase, 0)

    @property
    def is_complete(self) -> bool:
        """Every recording is done, failed or cancelled."""
        return self.count("done") + self.count("failed") + self.count("cancelled") == self.recordings


class RunTracker:
    """Keeps the phase of each recording of one run. `replay` the journal first, then apply events as they happen."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._units: dict[str, tuple[Task, ...]] = {unit.name: unit.tasks for unit in run.units}
        self._phases: dict[str, RecordingPhase] = {task.stem: "planned" for task in run.list_tasks()}
        self._audio_seconds: dict[str, float | None] = {task.stem: task.recording.seconds for task in run.list_tasks()}
        self._progress: dict[str, float] = {}
        self._running_places: dict[str, tuple[str, float]] = {}
        self._counts = {"preempted": 0, "evicted": 0, "retried": 0}
        self._started_at: float | None = None
        self._audio_done_before = 0.0

    def replay(self, events: Iterable[TimelineEvent]) -> None:
        """Applies the events of earlier drivers, which the speed does not include."""
        for event in events:
            self.apply_event(event)
        self._started_at, self._audio_done_before = None, self._sum_audio_done()

    def apply_event(self, event: TimelineEvent) -> None:
        """Applies one event; a unit or stem that the run does not have is ignored."""
        phase = _PHASE_AFTER_EVENT.get(event.kind)
        tasks = self._units.get(event.unit)
        if phase is None or tasks is None:
            return
        if event.kind in self._counts:
            self._counts[event.kind] += 1
        if event.kind == "evicted" and event.detail.startswith("Preempted"):
            self._counts["preempted"] += 1
        if phase == "running":
            self._running_places[event.unit] = (event.place, event.at)
            self._started_at = self._started_at or event.at
        elif not event.stem:
            self._running_places.pop(event.unit, None)
        for task in tasks:
            if event.stem in ("", task.stem) and (event.stem or self._phases[task.stem] not in _FINISHED_PHASES):
                self._phases[task.stem] = phase

    def record_result(self, stem: str, result: TranscriptionResult) -> None:
        """Marks a task as done. Its result has the length that was measured."""
        if stem in self._phases:
            self._phases[stem] = "done"
            self._audio_seconds[stem] = result.audio_seconds

    def record_failure(self, stem: str) -> None:
        """Marks a task as failed."""
        if stem in self._phases:
            self._phases[stem] = "failed"

    def record_progress(self, unit: str, audio_seconds: float) -> None:
        """Sets how much of the unit's audio is transcribed, in seconds over all its tasks."""
        self._progress[unit] = audio_seconds

    def reset_speed_baseline(self) -> None:
        """Excludes the audio done so far from the speed: it was done before this driver started."""
        self._audio_done_before = self._sum_audio_done()

    def recording_phase(self, stem: str) -> RecordingPhase:
        return self._phases[stem]

    def status(self, now: float, *, position: int | None = None, troubles: Iterable[str] = ()) -> RunStatus:
        """The run's status at wall second `now`."""
        phases = list(self._phases.values())
        running = tuple(self._list_running())
        total = sum(length or 0.0 for stem, length in self._audio_seconds.items() if self._phases[stem] != "cancelled")
        done = self._sum_audio_done() + sum(unit.audio_done for unit in running)
        elapsed = max(0.0, now - self._started_at) if self._started_at is not None else 0.0
        gained = done - self._audio_done_before
        speed = gained / elapsed if elapsed > 0 and gained > 0 else None
        return RunStatus(
            run=self._run.name,
            at=now,
            recordings=len(phases),
            phases={phase: phases.count(phase) for phase in RECORDING_PHASES},
            **self._counts,
            audio_total=total,
            audio_done=done,
            unknown_lengths=sum(length is None for length in self._audio_seconds.values()),
            elapsed=elapsed,
            speed=speed,
            eta=self._estimate_remaining(total - done, speed),
            position=position,
            running=running,
            troubles=tuple(troubles),
        )

    def _estimate_remaining(self, remaining: float, speed: float | None) -> float | None:
        """Seconds; None without a speed, and while the length of an open recording is unknown."""
        open_lengths = (
            self._audio_seconds[stem] for stem, phase in self._phases.items() if phase not in _FINISHED_PHASES
        )
        return None if speed is None or None in open_lengths else max(0.0, remaining) / speed

    def _sum_audio_done(self) -> float:
        return sum(self._audio_seconds[stem] or 0.0 for stem, phase in self._phases.items() if phase == "done")

    def _list_running(self) -> Iterable[RunningUnit]:
        for name, (place, since) in self._running_places.items():
            open_tasks = [task for task in self._units[name] if self._phases[task.stem] not in _FINISHED_PHASES]
            if not open_tasks:
                continue
            lengths = [self._audio_seconds[task.stem] for task in open_tasks]
            total = None if None in lengths else sum(length for length in lengths if length is not None)
            yield RunningUnit(
                unit=name,
                stem=open_tasks[0].stem,
                place=place,
                since=since,
                audio_done=self._partial_audio(name, total),
                audio_total=total,
            )

    def _partial_audio(self, unit: str, open_total: float | None) -> float:
        """Seconds of audio transcribed of the unit's unfinished tasks."""
        finished = sum(self._audio_seconds[t.stem] or 0.0 for t in self._units[unit] if self._phases[t.stem] == "done")
        ahead = max(0.0, self._progress.get(unit, 0.0) - finished)
        return ahead if open_total is None else min(ahead, open_total)
