"""Metrics that remember what was recorded."""

from __future__ import annotations

import pytest

from tests.unit.requestcontrol.conftest import Recording


@pytest.fixture
def recording() -> Recording:
    return Recording()
