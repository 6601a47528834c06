"""Scorer of the waiting queue."""

from __future__ import annotations

from epp.api import WAITING_REQUESTS, Endpoints, Request, Scorer, Scores, prefer_low


class QueueScorer(Scorer, type="queue-scorer"):
    """Prefer endpoints with a short waiting queue: (max - q) / (max - min) over the candidates; all equal is 1."""

    consumes = (WAITING_REQUESTS,)
    request_independent = True
    ignore_unknown_parameters = True

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return prefer_low(endpoints[WAITING_REQUESTS])
