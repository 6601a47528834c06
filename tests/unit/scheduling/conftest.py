"""Metrics that remember what was recorded."""

from __future__ import annotations

import pytest

from tests.unit.requestcontrol.conftest import RecordingMetrics


@pytest.fixture
def recording() -> RecordingMetrics:
    return RecordingMetrics()
