"""Plugin errors are all counted and logged without flooding; the calls of one decision in N are timed."""

from __future__ import annotations

import logging
from random import Random

import pytest

from epp.api import SchedulerProfile
from epp.clock import ManualClock
from epp.scheduling.plugin_metrics import LOG_INTERVAL_SECONDS, PluginErrorReporter, TimingSampler
from epp.scheduling.profile_run import run_profile
from epp.testing import build_endpoints, build_request
from scorers.pickers.max_score import MaxScorePicker


class RecordingPluginMetrics:
    """A `PluginMetrics` that keeps what was recorded."""

    def __init__(self) -> None:
        self.durations: list[tuple[str, str, str, float]] = []
        self.errors: list[tuple[str, str]] = []

    def record_plugin_duration(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        self.durations.append((extension_point, type, name, seconds))

    def record_plugin_error(self, plugin: str, kind: str) -> None:
        self.errors.append((plugin, kind))


@pytest.fixture
def metrics() -> RecordingPluginMetrics:
    return RecordingPluginMetrics()


def test_an_error_is_always_counted_and_logged_once_an_interval(
    metrics: RecordingPluginMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    report_error = PluginErrorReporter(clock, metrics)
    with caplog.at_level(logging.WARNING, "epp.plugins"):
        for _ in range(5):
            report_error("my-scorer", "range")
        assert len(caplog.records) == 1
        clock.advance(LOG_INTERVAL_SECONDS)
        report_error("my-scorer", "range")
    assert len(caplog.records) == 2
    assert caplog.messages[0] == "plugin my-scorer broke its contract (range): it returned scores outside [0, 1]"
    assert len(metrics.errors) == 6


def test_an_exception_is_logged_with_its_traceback(
    metrics: RecordingPluginMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    report_error = PluginErrorReporter(ManualClock(), metrics)
    try:
        raise ZeroDivisionError("in the plugin")
    except ZeroDivisionError:
        report_error("my-scorer", "raised")
    assert "in the plugin" in caplog.text


def test_unknown_scores_are_counted_but_not_logged(
    metrics: RecordingPluginMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    PluginErrorReporter(ManualClock(), metrics)("queue-scorer", "unknown")
    assert not caplog.records
    assert metrics.errors == [("queue-scorer", "unknown")]


def test_one_decision_in_three_is_timed(metrics: RecordingPluginMetrics) -> None:
    sampler = TimingSampler(ManualClock(), metrics, every=3)
    profile = SchedulerProfile("p", picker=("best", MaxScorePicker()))
    for _ in range(7):
        run_profile(profile, build_request(), build_endpoints(2), Random(1), lambda *_: None, sampler.next_timer())
    assert metrics.durations == [("Picker", "max-score-picker", "best", 0.0)] * 3
