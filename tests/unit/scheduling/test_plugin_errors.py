"""Faults are all counted, and logged without flooding."""

import logging

import pytest

from epp.clock import ManualClock
from epp.scheduling.plugin_errors import LOG_INTERVAL_SECONDS, PluginErrorReporter
from tests.unit.requestcontrol.conftest import RecordingMetrics


def test_a_fault_is_logged_once_a_while_and_always_counted(
    recording: RecordingMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    faults = PluginErrorReporter(clock, recording)
    with caplog.at_level(logging.WARNING, "epp.plugins"):
        for _ in range(5):
            faults("my-scorer", "range")
        assert len(caplog.records) == 1
        clock.advance(LOG_INTERVAL_SECONDS)
        faults("my-scorer", "range")
    assert len(caplog.records) == 2
    assert len(recording.calls_of("fault")) == 6


def test_a_raised_exception_is_logged_with_its_traceback(
    recording: RecordingMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    faults = PluginErrorReporter(ManualClock(), recording)
    try:
        raise ZeroDivisionError("in the plugin")
    except ZeroDivisionError:
        faults("my-scorer", "raised")
    assert "in the plugin" in caplog.text


def test_unknown_scores_are_no_news(recording: RecordingMetrics, caplog: pytest.LogCaptureFixture) -> None:
    PluginErrorReporter(ManualClock(), recording)("queue-scorer", "unknown")
    assert not caplog.records
    assert recording.calls_of("fault") == [("queue-scorer", "unknown")]
