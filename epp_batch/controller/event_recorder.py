"""Publishes what happens to a run: to the journal, the run's counts and the view (client-go's EventRecorder)."""

from __future__ import annotations

from collections.abc import Callable

from epp_batch.controller.event_dedup import EventDeduplicator
from epp_batch.controller.unit_status import UnitObjects
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
from epp_batch.progress_view import ProgressView, RunTracker
from epp_batch.spec import Run, Task, Unit
from epp_batch.timeline import EventKind, Journal, TimelineEvent, read_events

OnTranscript = Callable[[Task, TranscriptionResult], None]


class EventRecorder:
    """Owns a run's `RunTracker` and `EventDeduplicator`, both replayed from the journal.

    `journal` is None if another driver writes it. Times are wall seconds since 1970.
    """

    def __init__(
        self, run: Run, folder: OutputFolder, journal: Journal | None, view: ProgressView, on_transcript: OnTranscript
    ) -> None:
        events = read_events(folder.events_file)
        self.tracker = RunTracker(run)
        self.tracker.replay(events)
        self.deduplicator = EventDeduplicator(events)
        self._journal, self._view, self._on_transcript = journal, view, on_transcript

    def record_milestones(self, unit: str, objects: UnitObjects, now: float) -> None:
        """Publishes the unit's milestones that are not recorded yet."""
        for event in self.deduplicator.collect_new_events(unit, objects, now):
            self.record_event(event)

    def record_event(self, event: TimelineEvent) -> None:
        if self._journal is not None:
            self._journal.append(event)
        self.tracker.apply_event(event)
        self._view.on_event(event)

    def record_transcript(self, task: Task, result: TranscriptionResult) -> None:
        self.tracker.record_result(task.stem, result)
        self._on_transcript(task, result)

    def record_failure(self, task: Task, failure: TaskFailure) -> None:
        """Publishes a task's final failure."""
        self.tracker.record_failure(task.stem)
        self._view.on_failure(failure)

    def record_progress(self, unit: str, audio_seconds: float) -> None:
        """Publishes how much of the unit's audio its worker has transcribed, in seconds."""
        self.tracker.record_progress(unit, audio_seconds)
        self._view.on_progress(unit, audio_seconds)

    def record_task_end(self, unit: Unit, objects: UnitObjects, task: Task, kind: EventKind, now: float) -> None:
        """Publishes the end of one task of a shard. A unit of one task has only the event of the unit's end."""
        if len(unit.tasks) > 1:
            self.record_event(self.deduplicator.record_end(unit.name, objects, kind, now, stem=task.stem))

    def record_unit_end(
        self,
        unit: Unit,
        objects: UnitObjects,
        kind: EventKind,
        now: float,
        *,
        detail: str = "",
        at: float | None = None,
    ) -> None:
        """Publishes the end of a unit: at `at`, else at the Job's end, else `now`."""
        self.record_event(self.deduplicator.record_end(unit.name, objects, kind, now, detail=detail, at=at))
