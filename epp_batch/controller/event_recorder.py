"""Everything that is to be known of a run goes through here once: to the journal, to the counts, to the view."""

from __future__ import annotations

from collections.abc import Callable

from epp_batch.controller.event_dedup import Chronicle
from epp_batch.controller.unit_status import Facts
from epp_batch.output_folder import Failure, Folder, Result
from epp_batch.progress_view import Tracker, View
from epp_batch.spec import Run, Task, Unit
from epp_batch.timeline import Event, EventKind, Journal, read

OnDone = Callable[[Task, Result], None]


class Teller:
    """One run's chronicle, journal, counts and view. Without a journal another process keeps it."""

    def __init__(self, run: Run, folder: Folder, journal: Journal | None, view: View, on_done: OnDone) -> None:
        events = read(folder.events_file)
        self.tracker = Tracker(run)
        self.tracker.replay(events)
        self.chronicle = Chronicle(events)
        self._journal, self._view, self._on_done = journal, view, on_done

    def news(self, unit: str, facts: Facts, now: float) -> None:
        """What the objects tell that was not told before."""
        for event in self.chronicle.news(unit, facts, now):
            self.event(event)

    def event(self, event: Event) -> None:
        if self._journal is not None:
            self._journal.write(event)
        self.tracker.apply(event)
        self._view.event(event)

    def done(self, task: Task, result: Result) -> None:
        """A transcript is there."""
        self.tracker.done(task.stem, result)
        self._on_done(task, result)

    def failed(self, task: Task, failure: Failure) -> None:
        """A recording failed for good."""
        self.tracker.failed(task.stem)
        self._view.failure(failure)

    def progress(self, unit: str, audio_seconds: float) -> None:
        self.tracker.progress(unit, audio_seconds)
        self._view.progress(unit, audio_seconds)

    def part(self, unit: Unit, facts: Facts, task: Task, kind: EventKind, now: float) -> None:
        """One task of a shard has ended; a unit of one task ends as a whole."""
        if len(unit.tasks) > 1:
            self.event(self.chronicle.end(unit.name, facts, kind, now, stem=task.stem))

    def end(
        self, unit: Unit, facts: Facts, kind: EventKind, now: float, *, detail: str = "", at: float | None = None
    ) -> None:
        """A unit has ended."""
        self.event(self.chronicle.end(unit.name, facts, kind, now, detail=detail, at=at))
