"""The scorer of free KV cache."""

from __future__ import annotations

from epp.testing import check_scorer
from scorers.kv_cache_utilization import KvCacheUtilizationScorer
from tests.unit.scorers.conftest import rounded_scores


def test_kv_cache_score_is_the_free_share() -> None:
    assert rounded_scores(KvCacheUtilizationScorer(), kv_usage=[0, 0.25, 1]) == [1, 0.75, 0]


def test_contract() -> None:
    check_scorer(KvCacheUtilizationScorer())
