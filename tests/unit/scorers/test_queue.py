"""The queue scorer."""

from __future__ import annotations

import numpy as np
import pytest

from epp.testing import build_endpoints, build_request, check_scorer
from scorers.queue import QueueScorer
from tests.unit.scorers.conftest import NAN, rounded_scores


def test_queue_scores_are_min_max_scaled() -> None:
    """(max - q) / (max - min); all equal is 1."""
    assert rounded_scores(QueueScorer(), waiting=[0, 3, 12]) == [1, 0.75, 0]
    assert rounded_scores(QueueScorer(), waiting=[5, 6]) == [1, 0]
    assert rounded_scores(QueueScorer(), waiting=[5, 5]) == [1, 1]
    assert rounded_scores(QueueScorer(), waiting=[5]) == [1]


def test_the_score_of_a_stale_endpoint_is_nan() -> None:
    assert rounded_scores(QueueScorer(), waiting=[0, NAN, 12]) == pytest.approx([1, NAN, 0], nan_ok=True)


def test_queue_scores_of_a_thousand_endpoints() -> None:
    waiting = np.arange(1000, dtype=np.float32)
    scores = QueueScorer().score(build_request(), build_endpoints(waiting=waiting))
    assert scores[0] == 1
    assert scores[-1] == 0
    assert (np.diff(scores) < 0).all()


def test_contract() -> None:
    check_scorer(QueueScorer())
