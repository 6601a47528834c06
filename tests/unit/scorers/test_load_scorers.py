"""Scorers of load: the formulas of llm-d, number by number."""

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


def scored(scorer: Scorer, **columns: list[float]) -> list[float]:
    values = scorer.score(build_request(), build_endpoints(None, **columns)).tolist()
    return [round(value, 5) for value in values]


def test_queue() -> None:
    """(max - q) / (max - min); all equal is 1."""
    assert scored(QueueScorer(), waiting=[0, 3, 12]) == [1, 0.75, 0]
    assert scored(QueueScorer(), waiting=[5, 6]) == [1, 0]
    assert scored(QueueScorer(), waiting=[5, 5]) == [1, 1]
    assert scored(QueueScorer(), waiting=[5]) == [1]


def test_queue_of_a_stale_endpoint_is_unknown() -> None:
    assert scored(QueueScorer(), waiting=[0, NAN, 12]) == pytest.approx([1, NAN, 0], nan_ok=True)


def test_running_requests() -> None:
    assert scored(RunningRequestsSizeScorer(), running=[8, 0, 2]) == [0, 1, 0.75]


def test_kv_cache() -> None:
    assert scored(KvCacheUtilizationScorer(), kv_usage=[0, 0.25, 1]) == [1, 0.75, 0]


def test_active_requests() -> None:
    """n <= idle threshold is 1; else (max - n) / max, times the best busy score."""
    assert scored(ActiveRequestScorer(), inflight_requests=[0, 1, 4]) == [1, 0.75, 0]
    assert scored(ActiveRequestScorer(), inflight_requests=[0, 0, 0]) == [1, 1, 1]
    assert scored(ActiveRequestScorer(), inflight_requests=[3, 3]) == [0, 0]
    assert scored(ActiveRequestScorer(idle_threshold=1, max_busy_score=0.5), inflight_requests=[0, 1, 2, 4]) == [
        1,
        1,
        0.25,
        0,
    ]
    assert scored(ActiveRequestScorer(idle_threshold=9), inflight_requests=[0, 4]) == [1, 1]


def test_token_load() -> None:
    """1 - min(t, threshold) / threshold over tokens in flight and the request's own."""
    scorer = TokenLoadScorer(queue_threshold_tokens=1000)
    assert scored(scorer, inflight_tokens=[0, 0, 500, 5000], uncached_tokens=[0, 100, 250, 1]) == [1, 0.9, 0.25, 0]
    assert TokenLoadScorer().queue_threshold_tokens == 4194304


def test_token_load_without_knowing_the_requests_own() -> None:
    """Nobody could count this prompt, or the count of one endpoint failed: what is in flight still counts."""
    scorer = TokenLoadScorer(queue_threshold_tokens=1000)
    assert scored(scorer, inflight_tokens=[0, 250, 2000]) == [1, 0.75, 0]
    assert scored(scorer, inflight_tokens=[0, 250], uncached_tokens=[500, NAN]) == [0.5, 0.75]


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


def test_a_thousand_endpoints() -> None:
    waiting = np.arange(1000, dtype=np.float32)
    scores = QueueScorer().score(build_request(), build_endpoints(waiting=waiting))
    assert scores[0] == 1
    assert scores[-1] == 0
    assert (np.diff(scores) < 0).all()
