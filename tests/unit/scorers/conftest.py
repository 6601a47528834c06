"""Scores of load scorers, rounded for comparison."""

from __future__ import annotations

from epp.api import Scorer
from epp.testing import build_endpoints, build_request

NAN = float("nan")


def rounded_scores(scorer: Scorer, **columns: list[float]) -> list[float]:
    values = scorer.score(build_request(), build_endpoints(None, **columns)).tolist()
    return [round(value, 5) for value in values]
