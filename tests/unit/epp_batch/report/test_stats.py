"""Statistics of latencies, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.report.stats import describe_distribution


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=80))
def test_statistics_equal_numpy(values):
    found = describe_distribution(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values), abs=1e-6)
    for percent, value in ((50, found.median), (95, found.p95), (99, found.p99), (0, found.min), (100, found.max)):
        assert value == pytest.approx(np.percentile(values, percent))


def test_without_values_there_is_no_distribution():
    assert describe_distribution([]) is None
