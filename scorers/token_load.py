"""Scorer of tokens in flight, counted by the picker itself."""

from __future__ import annotations

from math import isnan

import numpy as np

from epp.api import (
    INFLIGHT_TOKENS,
    ONE,
    UNCACHED_TOKENS,
    ZERO,
    Endpoints,
    Positive,
    ProducerName,
    Request,
    Scorer,
    Scores,
)


class TokenLoadScorer(Scorer, type="token-load-scorer"):
    """Prefer endpoints with few prompt tokens to compute, those of this request included.

    t = tokens in flight + uncached tokens of this request on that endpoint. t <= 0 scores 1, any other t scores
    1 - min(t, threshold) / threshold with `queueThresholdTokens`. Unknown tokens of the request count as 0.
    """

    consumes = (INFLIGHT_TOKENS, UNCACHED_TOKENS)

    queue_threshold_tokens: Positive = 4194304
    in_flight_load_producer_name: ProducerName = ""

    def __post_init__(self) -> None:
        self._uncached_tokens = UNCACHED_TOKENS.from_producer(self.in_flight_load_producer_name)
        self._share_per_token = np.array(1 / self.queue_threshold_tokens, np.float32)
        self.consumes = (INFLIGHT_TOKENS, self._uncached_tokens)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        in_flight, uncached = endpoints[INFLIGHT_TOKENS], endpoints[self._uncached_tokens]
        tokens = in_flight + uncached
        if isnan(np.add.reduce(tokens)):
            tokens = in_flight + np.nan_to_num(uncached)
        share = np.minimum(tokens * self._share_per_token, ONE)
        return np.asarray(ONE - np.maximum(share, ZERO))
