"""The deadline of a task: a stop request or a time limit, which take effect at the next safe point."""

from __future__ import annotations

import threading

from epp.clock import Clock
from epp_batch.errors import FailureKind, TaskError, TaskStage


class Deadline:
    """Ends a task at the next safe point after a stop request or after its time limit. Monotonic clock, in seconds."""

    def __init__(self, clock: Clock, stop: threading.Event, source: str = "", max_seconds: float | None = None) -> None:
        self._clock = clock
        self._stop = stop
        self._source = source
        self._limit = max_seconds
        self._end = None if max_seconds is None else clock.now() + max_seconds

    @property
    def expired(self) -> bool:
        """Whether `check` would raise: finished segments should be written first."""
        return self._stop.is_set() or (self._end is not None and self._clock.now() >= self._end)

    def check(self, stage: TaskStage) -> None:
        """Raises TaskError: STOPPED after a stop request, TIMEOUT after the time limit."""
        if self._stop.is_set():
            raise TaskError(FailureKind.STOPPED, stage, self._source, "stopped")
        if self.expired:
            raise TaskError(
                FailureKind.TIMEOUT, stage, self._source, f"not finished after {self._limit:g} s (--max-seconds)"
            )

    def wait(self, seconds: float, stage: TaskStage) -> None:
        """Waits; raises like `check`, as soon as it would raise."""
        if self._end is not None:
            seconds = min(seconds, max(0.0, self._end - self._clock.now()))
        self._stop.wait(seconds)
        self.check(stage)
