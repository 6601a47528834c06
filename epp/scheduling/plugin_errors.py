"""Plugins that break their contract: all counted, some logged."""

from __future__ import annotations

import logging

from epp.clock import Clock
from epp.scheduling.plugin_timing import PluginRecorder

log = logging.getLogger("epp.plugins")

LOG_INTERVAL_SECONDS = 30.0
UNLOGGED_KINDS = ("unknown",)  # stale endpoints score NaN at every decision: no fault of the plugin's author


class PluginErrorReporter:
    """Called with (plugin name, kind); an exception being handled is logged with its traceback."""

    def __init__(self, clock: Clock, recorder: PluginRecorder) -> None:
        self._clock = clock
        self._recorder = recorder
        self._logged: dict[tuple[str, str], float] = {}

    def __call__(self, plugin: str, kind: str) -> None:
        self._recorder.record_plugin_error(plugin, kind)
        if kind in UNLOGGED_KINDS:
            return
        now = self._clock.now()
        if now - self._logged.get((plugin, kind), -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
            self._logged[plugin, kind] = now
            log.warning("plugin %s broke its contract (%s)", plugin, kind, exc_info=kind in ("raised", "observer"))
