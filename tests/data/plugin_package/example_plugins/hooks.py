"""A scorer with every optional interface that follows requests."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from epp.api import (
    BucketHistogram,
    Endpoints,
    LoadEstimate,
    LoadEstimator,
    PrefixCacheStats,
    PrefixCacheStatsProvider,
    Request,
    RequestHooks,
    RequestOutcome,
    Scorer,
    Scores,
    StateDumper,
)


class RecencyScorer(Scorer, RequestHooks, LoadEstimator, StateDumper, PrefixCacheStatsProvider, type="recency-scorer"):
    """Prefer endpoints that have not been chosen lately."""

    def __post_init__(self) -> None:
        self._chosen: dict[int, int] = {}
        self._completed = 0
        self._hits = BucketHistogram((0.0, 0.5, 1.0))

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.array([1 / (1 + self._chosen.get(slot, 0)) for slot in endpoints.slots.tolist()], np.float32)

    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        return LoadEstimate(prompt_tokens=len(request.text) / 3)

    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None:
        for slot in chosen.values():
            self._chosen[slot] = self._chosen.get(slot, 0) + 1
        self._hits.observe(0.5)

    def response_complete(self, request: Request, slot: int, outcome: RequestOutcome) -> None:
        self._completed += 1

    def endpoint_removed(self, slot: int) -> None:
        self._chosen.pop(slot, None)

    def dump_state(self) -> Any:
        return {"chosen": {str(slot): count for slot, count in self._chosen.items()}, "completed": self._completed}

    def prefix_cache_stats(self) -> PrefixCacheStats:
        return PrefixCacheStats(len(self._chosen), self._hits, BucketHistogram((0, 16)))
