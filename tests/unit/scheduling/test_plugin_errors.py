"""Faults are all counted, and logged without flooding."""

import logging
from typing import Any

import pytest

from epp.clock import ManualClock
from epp.scheduling.plugin_errors import LOG_EVERY_SECONDS, Faults


def test_a_fault_is_logged_once_a_while_and_always_counted(recording: Any, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    faults = Faults(clock, recording)
    with caplog.at_level(logging.WARNING, "epp.plugins"):
        for _ in range(5):
            faults("my-scorer", "range")
        assert len(caplog.records) == 1
        clock.advance(LOG_EVERY_SECONDS)
        faults("my-scorer", "range")
    assert len(caplog.records) == 2
    assert len(recording.of("fault")) == 6


def test_a_raised_exception_is_logged_with_its_traceback(recording: Any, caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(ManualClock(), recording)
    try:
        raise ZeroDivisionError("in the plugin")
    except ZeroDivisionError:
        faults("my-scorer", "raised")
    assert "in the plugin" in caplog.text


def test_unknown_scores_are_no_news(recording: Any, caplog: pytest.LogCaptureFixture) -> None:
    Faults(ManualClock(), recording)("queue-scorer", "unknown")
    assert not caplog.records
    assert recording.of("fault") == [("queue-scorer", "unknown")]
