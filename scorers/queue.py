"""Waiting queue."""

from __future__ import annotations

from epp.api import WAITING, Endpoints, Request, Scorer, Scores, falling


class QueueDepth(Scorer, type="queue-scorer"):
    """Prefer endpoints with a short waiting queue: (max - q) / (max - min) over the candidates; all equal is 1."""

    needs = (WAITING,)
    of_request = False
    lenient = True

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return falling(endpoints[WAITING])
