"""Load scorers against the formulas of llm-d."""

from __future__ import annotations

import numpy as np
import pytest

from epp.api import Scorer
from epp.testing import build_endpoints, build_request, check_scorer
from scorers.active_request import ActiveRequestScorer
from scorers.kv_cache_utilization import KvCacheUtilizationScorer
from scorers.queue import QueueScorer
from scorers.running_requests_size import RunningRequestsSizeScorer
from scorers.token_load import TokenLoadScorer

NAN = float("nan")


def rounded_scores(scorer: Scorer, **columns: list[float]) -> list[float]:
    values = scorer.score(build_request(), build_endpoints(None, **columns)).tolist()
    return [round(value, 5) for value in values]


def test_queue_scores_are_min_max_scaled() -> None:
    """(max - q) / (max - min); all equal is 1."""
    assert rounded_scores(QueueScorer(), waiting=[0, 3, 12]) == [1, 0.75, 0]
    assert rounded_scores(QueueScorer(), waiting=[5, 6]) == [1, 0]
    assert rounded_scores(QueueScorer(), waiting=[5, 5]) == [1, 1]
    assert rounded_scores(QueueScorer(), waiting=[5]) == [1]


def test_the_score_of_a_stale_endpoint_is_nan() -> None:
    assert rounded_scores(QueueScorer(), waiting=[0, NAN, 12]) == pytest.approx([1, NAN, 0], nan_ok=True)


def test_running_request_scores_are_min_max_scaled() -> None:
    assert rounded_scores(RunningRequestsSizeScorer(), running=[8, 0, 2]) == [0, 1, 0.75]


def test_kv_cache_score_is_the_free_share() -> None:
    assert rounded_scores(KvCacheUtilizationScorer(), kv_usage=[0, 0.25, 1]) == [1, 0.75, 0]


def test_active_request_scores() -> None:
    """n <= idle threshold is 1; else (max - n) / max, times the best busy score."""
    assert rounded_scores(ActiveRequestScorer(), inflight_requests=[0, 1, 4]) == [1, 0.75, 0]
    assert rounded_scores(ActiveRequestScorer(), inflight_requests=[0, 0, 0]) == [1, 1, 1]
    assert rounded_scores(ActiveRequestScorer(), inflight_requests=[3, 3]) == [0, 0]
    assert rounded_scores(
        ActiveRequestScorer(idle_threshold=1, max_busy_score=0.5), inflight_requests=[0, 1, 2, 4]
    ) == [
        1,
        1,
        0.25,
        0,
    ]
    assert rounded_scores(ActiveRequestScorer(idle_threshold=9), inflight_requests=[0, 4]) == [1, 1]


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


@pytest.mark.parametrize(
    "scorer",
    [
        QueueScorer(),
        RunningRequestsSizeScorer(),
        KvCacheUtilizationScorer(),
        ActiveRequestScorer(),
        ActiveRequestScorer(idle_threshold=5, max_busy_score=0.25),
        TokenLoadScorer(),
        TokenLoadScorer(queue_threshold_tokens=10),
    ],
    ids=repr,
)
def test_contract(scorer: Scorer) -> None:
    check_scorer(scorer)


def test_queue_scores_of_a_thousand_endpoints() -> None:
    waiting = np.arange(1000, dtype=np.float32)
    scores = QueueScorer().score(build_request(), build_endpoints(waiting=waiting))
    assert scores[0] == 1
    assert scores[-1] == 0
    assert (np.diff(scores) < 0).all()
