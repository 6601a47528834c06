"""Records errors of plugins and the duration of their calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from epp.clock import Clock

log = logging.getLogger("epp.plugins")

LOG_INTERVAL_SECONDS = 30.0
UNLOGGED_KINDS = ("unknown",)  # scorers give NaN for stale endpoints at every decision, which is correct
TRACEBACK_KINDS = ("raised", "observer")
KIND_DESCRIPTIONS = {
    "raised": "a call raised an exception",
    "shape": "it returned an array of another shape or type than float32[n] (of a filter: bool[n]), or no array",
    "range": "it returned scores outside [0, 1]",
    "unknown": "it returned NaN scores: of a stale endpoint, or because a producer failed",
    "order": "it picked positions that are out of range, repeated, too many or none",
    "late": "it missed the deadline of producers (--decision-timeout)",
    "observer": "a life-cycle hook raised an exception",
}

ReportPluginError = Callable[[str, str], None]
"""Called with the plugin's name and the kind of its error (`KIND_DESCRIPTIONS`), which is a label value of
`epp_plugin_faults_total`. `raised` and `observer` are reported while the exception is being handled.
"""


class PluginMetrics(Protocol):
    """Sink of numbers about plugins; implemented by `epp.obs.metrics`."""

    def record_plugin_duration(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        """One call of a plugin (sampled); `extension_point` as llm-d has it: Filter, Scorer, Picker, DataProducer."""

    def record_plugin_error(self, plugin: str, kind: str) -> None:
        """A plugin broke its contract; `kind` as in `ReportPluginError`."""


class PluginErrorReporter:
    """A `ReportPluginError` that counts every error and logs each (plugin, kind) once in `LOG_INTERVAL_SECONDS`."""

    def __init__(self, clock: Clock, metrics: PluginMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._last_logged: dict[tuple[str, str], float] = {}

    def __call__(self, plugin: str, kind: str) -> None:
        self._metrics.record_plugin_error(plugin, kind)
        if kind in UNLOGGED_KINDS:
            return
        now = self._clock.now()
        if now - self._last_logged.get((plugin, kind), -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
            self._last_logged[plugin, kind] = now
            log.warning(
                "plugin %s broke its contract (%s): %s",
                plugin,
                kind,
                KIND_DESCRIPTIONS[kind],
                exc_info=kind in TRACEBACK_KINDS,
            )


class PluginTimer:
    """Times plugin calls: `now` is monotonic seconds, `record` is `PluginMetrics.record_plugin_duration`."""

    __slots__ = ("now", "record")

    def __init__(self, now: Callable[[], float], record: Callable[[str, str, str, float], None]) -> None:
        self.now = now
        self.record = record


class TimingSampler:
    """Times the plugin calls of one decision in `every`, the first one included.

    kube-scheduler samples its plugin metrics too: timing all calls would cost more than some plugins do.
    """

    __slots__ = ("_every", "_skip", "_timer")

    def __init__(self, clock: Clock, metrics: PluginMetrics, every: int = 64) -> None:
        self._timer = PluginTimer(clock.now, metrics.record_plugin_duration)
        self._every = every
        self._skip = 0

    def next_timer(self) -> PluginTimer | None:
        """The timer if the next decision is timed, otherwise None. Called once a decision."""
        self._skip -= 1
        if self._skip >= 0:
            return None
        self._skip = self._every - 1
        return self._timer
