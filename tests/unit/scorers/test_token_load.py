"""The scorer of tokens in flight."""

from __future__ import annotations

import pytest

from epp.testing import check_scorer
from scorers.token_load import TokenLoadScorer
from tests.unit.scorers.conftest import NAN, rounded_scores


def test_token_load_scores() -> None:
    """1 - min(t, threshold) / threshold over tokens in flight and the request's own."""
    scorer = TokenLoadScorer(queue_threshold_tokens=1000)
    assert rounded_scores(scorer, inflight_tokens=[0, 0, 500, 5000], uncached_tokens=[0, 100, 250, 1]) == [
        1,
        0.9,
        0.25,
        0,
    ]
    assert TokenLoadScorer().queue_threshold_tokens == 4194304


def test_token_load_without_uncached_tokens_counts_tokens_in_flight() -> None:
    """The prompt was not counted, or not for one endpoint."""
    scorer = TokenLoadScorer(queue_threshold_tokens=1000)
    assert rounded_scores(scorer, inflight_tokens=[0, 250, 2000]) == [1, 0.75, 0]
    assert rounded_scores(scorer, inflight_tokens=[0, 250], uncached_tokens=[500, NAN]) == [0.5, 0.75]


@pytest.mark.parametrize("scorer", [TokenLoadScorer(), TokenLoadScorer(queue_threshold_tokens=10)], ids=repr)
def test_contract(scorer: TokenLoadScorer) -> None:
    check_scorer(scorer)
