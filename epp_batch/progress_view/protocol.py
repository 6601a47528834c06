"""What a driver tells whoever looks on."""

from __future__ import annotations

from typing import Protocol

from epp_batch.output_folder import Failure
from epp_batch.progress_view.run_tracker import Standing
from epp_batch.timeline import Event


class View(Protocol):
    """Calls come from one thread, in the order things happened; none of them blocks or raises."""

    def event(self, event: Event) -> None:
        """Something changed."""
        ...

    def progress(self, unit: str, audio_seconds: float) -> None:
        """A unit's worker has got so far in its audio."""
        ...

    def failure(self, failure: Failure) -> None:
        """A recording failed for good: one line on standard error."""
        ...

    def tick(self, state: Standing) -> None:
        """Where the run stands; about once a second, and once at the end."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...
