"""Scorer of the KV-cache usage."""

from __future__ import annotations

from epp.api import KV_CACHE_USAGE, Endpoints, Request, Scorer, Scores


class KvCacheUtilizationScorer(Scorer, type="kv-cache-utilization-scorer"):
    """Prefer endpoints with free KV cache: 1 - usage."""

    consumes = (KV_CACHE_USAGE,)
    request_independent = True
    ignore_unknown_parameters = True

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return 1 - endpoints[KV_CACHE_USAGE]
