"""KV cache use."""

from __future__ import annotations

from epp.api import KV_USAGE, Endpoints, Request, Scorer, Scores


class KvCacheUtilization(Scorer, type="kv-cache-utilization-scorer"):
    """Prefer endpoints with free KV cache: 1 - usage."""

    needs = (KV_USAGE,)
    of_request = False
    lenient = True

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return 1 - endpoints[KV_USAGE]
