"""Tokens in flight, as counted here."""

from __future__ import annotations

import numpy as np

from epp.api import INFLIGHT_TOKENS, UNCACHED_TOKENS, Endpoints, Positive, Request, Scorer, Scores


class TokenLoad(Scorer, type="token-load-scorer"):
    """Prefer endpoints with little prompt left to compute.

    t = tokens in flight + this request's uncached tokens there; t <= 0 scores 1, else 1 - min(t, threshold) / threshold
    with `queueThresholdTokens`. Where the request's own tokens are unknown, only those in flight count.
    """

    needs = (INFLIGHT_TOKENS, UNCACHED_TOKENS)

    queue_threshold_tokens: Positive = 4194304
    in_flight_load_producer_name: str = ""

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        own = endpoints[UNCACHED_TOKENS]
        tokens = endpoints[INFLIGHT_TOKENS] + own
        share = np.clip(tokens * np.float32(1 / self.queue_threshold_tokens), 0, 1)
        if np.isnan(np.add.reduce(share)):
            tokens = endpoints[INFLIGHT_TOKENS] + np.nan_to_num(own)
            share = np.clip(tokens * np.float32(1 / self.queue_threshold_tokens), 0, 1)
        return np.asarray(1 - share)
