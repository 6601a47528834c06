"""The scorer of requests in flight."""

from __future__ import annotations

import pytest

from epp.testing import check_scorer
from scorers.active_request import ActiveRequestScorer
from tests.unit.scorers.conftest import rounded_scores


def test_active_request_scores() -> None:
    """n <= idle threshold is 1; else (max - n) / max, times the best busy score."""
    assert rounded_scores(ActiveRequestScorer(), inflight_requests=[0, 1, 4]) == [1, 0.75, 0]
    assert rounded_scores(ActiveRequestScorer(), inflight_requests=[0, 0, 0]) == [1, 1, 1]
    assert rounded_scores(ActiveRequestScorer(), inflight_requests=[3, 3]) == [0, 0]
    busy = ActiveRequestScorer(idle_threshold=1, max_busy_score=0.5)
    assert rounded_scores(busy, inflight_requests=[0, 1, 2, 4]) == [1, 1, 0.25, 0]
    assert rounded_scores(ActiveRequestScorer(idle_threshold=9), inflight_requests=[0, 4]) == [1, 1]


@pytest.mark.parametrize(
    "scorer", [ActiveRequestScorer(), ActiveRequestScorer(idle_threshold=5, max_busy_score=0.25)], ids=repr
)
def test_contract(scorer: ActiveRequestScorer) -> None:
    check_scorer(scorer)
