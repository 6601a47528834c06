"""Plugin timing for one decision in N: all of them would cost more than some plugins do."""

from __future__ import annotations

from typing import Protocol

from epp.clock import Clock


class PluginRecorder(Protocol):
    """Where plugins leave numbers; implemented by the metrics."""

    def record_plugin_duration(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        """One plugin call took this long (sampled)."""

    def record_plugin_error(self, plugin: str, kind: str) -> None:
        """A plugin broke its contract."""


class RecordingPluginTimer:
    """A `pipeline.Timer` that writes to the recorder."""

    __slots__ = ("now", "record")

    def __init__(self, clock: Clock, recorder: PluginRecorder) -> None:
        self.now = clock.now
        self.record = recorder.record_plugin_duration


class TimingSampler:
    """Hands out the timer once every `every` decisions, the first included; else None."""

    __slots__ = ("_count", "_every", "_timer")

    def __init__(self, clock: Clock, recorder: PluginRecorder, every: int = 64) -> None:
        self._timer = RecordingPluginTimer(clock, recorder)
        self._every = every
        self._count = 0

    def next_timer(self) -> RecordingPluginTimer | None:
        """To be asked once a decision."""
        self._count -= 1
        if self._count >= 0:
            return None
        self._count = self._every - 1
        return self._timer
