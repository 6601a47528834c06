"""The scorer of running requests."""

from __future__ import annotations

from epp.testing import check_scorer
from scorers.running_requests_size import RunningRequestsSizeScorer
from tests.unit.scorers.conftest import rounded_scores


def test_running_request_scores_are_min_max_scaled() -> None:
    assert rounded_scores(RunningRequestsSizeScorer(), running=[8, 0, 2]) == [0, 1, 0.75]


def test_contract() -> None:
    check_scorer(RunningRequestsSizeScorer())
