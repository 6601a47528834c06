"""Running batch."""

from __future__ import annotations

from epp.api import RUNNING, Endpoints, Request, Scorer, Scores, falling


class RunningRequests(Scorer, type="running-requests-size-scorer"):
    """Prefer endpoints with a small running batch: (max - r) / (max - min) over the candidates; all equal is 1."""

    needs = (RUNNING,)
    of_request = False
    lenient = True

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return falling(endpoints[RUNNING])
