"""Everything that is to be known of a run goes through here once: to the journal, to the counts, to the view."""

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
    """One run's chronicle, journal, counts and view. Without a journal another process keeps it."""

    def __init__(
        self, run: Run, folder: OutputFolder, journal: Journal | None, view: ProgressView, on_done: OnTranscript
    ) -> None:
        events = read_events(folder.events_file)
        self.tracker = RunTracker(run)
        self.tracker.replay(events)
        self.deduplicator = EventDeduplicator(events)
        self._journal, self._view, self._on_transcript = journal, view, on_done

    def record_milestones(self, unit: str, facts: UnitObjects, now: float) -> None:
        """What the objects tell that was not told before."""
        for event in self.deduplicator.collect_new_events(unit, facts, now):
            self.record_event(event)

    def record_event(self, event: TimelineEvent) -> None:
        if self._journal is not None:
            self._journal.append(event)
        self.tracker.apply_event(event)
        self._view.on_event(event)

    def record_transcript(self, task: Task, result: TranscriptionResult) -> None:
        """A transcript is there."""
        self.tracker.record_result(task.stem, result)
        self._on_transcript(task, result)

    def record_failure(self, task: Task, failure: TaskFailure) -> None:
        """A recording failed for good."""
        self.tracker.record_failure(task.stem)
        self._view.on_failure(failure)

    def record_progress(self, unit: str, audio_seconds: float) -> None:
        self.tracker.record_progress(unit, audio_seconds)
        self._view.on_progress(unit, audio_seconds)

    def record_task_end(self, unit: Unit, facts: UnitObjects, task: Task, kind: EventKind, now: float) -> None:
        """One task of a shard has ended; a unit of one task ends as a whole."""
        if len(unit.tasks) > 1:
            self.record_event(self.deduplicator.record_end(unit.name, facts, kind, now, stem=task.stem))

    def record_unit_end(
        self, unit: Unit, facts: UnitObjects, kind: EventKind, now: float, *, detail: str = "", at: float | None = None
    ) -> None:
        """A unit has ended."""
        self.record_event(self.deduplicator.record_end(unit.name, facts, kind, now, detail=detail, at=at))
