"""What a driver tells whoever looks on."""

from __future__ import annotations

from typing import Protocol

from epp_batch.output_folder import TaskFailure
from epp_batch.progress_view.run_tracker import RunStatus
from epp_batch.timeline import TimelineEvent


class ProgressView(Protocol):
    """Calls come from one thread, in the order things happened; none of them blocks or raises."""

    def on_event(self, event: TimelineEvent) -> None:
        """Something changed."""
        ...

    def on_progress(self, unit: str, audio_seconds: float) -> None:
        """A unit's worker has got so far in its audio."""
        ...

    def on_failure(self, failure: TaskFailure) -> None:
        """A recording failed for good: one line on standard error."""
        ...

    def on_status(self, state: RunStatus) -> None:
        """Where the run stands; about once a second, and once at the end."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...
