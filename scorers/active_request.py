"""Scorer of requests in flight, counted by the picker itself."""

from __future__ import annotations

import numpy as np

from epp.api import INFLIGHT_REQUESTS, ONE, ZERO, Count, Endpoints, Fraction, ProducerName, Request, Scorer, Scores


class ActiveRequestScorer(Scorer, type="active-request-scorer"):
    """Prefer endpoints with few requests in flight from this picker.

    n <= `idleThreshold` scores 1, any other n scores (max - n) / max * `maxBusyScore`, max over the candidates. The
    count is exact at every decision: it does not wait for a scrape. `inFlightLoadProducerName` does not
    change it: the picker has one ledger. `requestTimeout` is accepted and ignored, as in llm-d.
    """

    consumes = (INFLIGHT_REQUESTS,)

    idle_threshold: Count = 0
    max_busy_score: Fraction = 1.0
    in_flight_load_producer_name: ProducerName = ""
    request_timeout: str | None = None

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        active = endpoints[INFLIGHT_REQUESTS]
        most = np.fmax.reduce(active, initial=0)  # fmax ignores NaN: one unknown count must not make all unknown
        if most <= self.idle_threshold:
            return np.asarray(active * ZERO + ONE)
        scores: Scores = (most - active) * np.float32(self.max_busy_score / most)
        scores[active <= self.idle_threshold] = 1
        return scores
