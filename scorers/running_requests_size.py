"""Scorer of the running batch."""

from __future__ import annotations

from epp.api import RUNNING_REQUESTS, Endpoints, Request, Scorer, Scores, prefer_low


class RunningRequestsSizeScorer(Scorer, type="running-requests-size-scorer"):
    """Prefer endpoints with a small running batch: (max - r) / (max - min) over the candidates; all equal is 1."""

    consumes = (RUNNING_REQUESTS,)
    request_independent = True
    ignore_unknown_parameters = True

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return prefer_low(endpoints[RUNNING_REQUESTS])
