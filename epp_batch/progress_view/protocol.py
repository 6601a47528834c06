"""Interface between a run and what shows it."""

from __future__ import annotations

from typing import Protocol

from epp_batch.output_folder import TaskFailure
from epp_batch.progress_view.run_tracker import RunStatus
from epp_batch.timeline import TimelineEvent


class ProgressView(Protocol):
    """Shows a run. Called from one thread in the order of events; no method blocks or raises."""

    def on_event(self, event: TimelineEvent) -> None:
        """A timeline event, as it is written to the journal."""
        ...

    def on_progress(self, unit: str, audio_seconds: float) -> None:
        """Seconds of the unit's audio that its worker has transcribed."""
        ...

    def on_failure(self, failure: TaskFailure) -> None:
        """The final failure of a recording: one line on standard error."""
        ...

    def on_status(self, status: RunStatus) -> None:
        """The run's status; about once a second, and once at the end."""
        ...

    def close(self) -> None:
        """No other call follows."""
        ...
