"""Optional interfaces: a plugin of any kind inherits those it implements, next to its kind.

    class ApproxPrefixCacheProducer(Producer, RequestHooks, PrefixCacheStatsProvider, type="…"): ...

The picker finds them with `isinstance`, once, at start. A class that defines one of these methods without inheriting
its interface, or a method whose name merely resembles one, is reported when the configuration is loaded.

Common to all methods here: they are called on the event loop's thread, never two at a time, and must return without
waiting for I/O. An exception is logged, counted in `epp_plugin_faults_total` (kind `observer`) with the plugin's name,
and changes nothing for the request or for the other plugins.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from epp.api.endpoints import Endpoint, Endpoints
from epp.api.request import Request


class RequestOutcome(msgspec.Struct, frozen=True, gc=False):
    """How a routed request ended.

    `cause` is one of: `completed`; `disconnected` (the client left); `error` (the ext_proc stream broke); `expired` (no
    end was observed within `--reservation-ttl`); `replaced` (completion by scrape: a scrape counts the request from now
    on, its real end is not observed). `status` is the HTTP status, 0 if unknown. `duration_seconds` and `ttft_seconds`
    count from the routing decision. Values that were not observed are None.
    """

    cause: str
    status: int = 0
    duration_seconds: float = 0.0
    ttft_seconds: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


class RequestHooks:
    """Life-cycle events of requests and endpoints. Override those you need.

    llm-d's counterparts are the interfaces PreRequest and ResponseBodyProcessor (its last call for a response), and
    endpoint events.

    Order of one request: `pre_request` once, then `response_complete` once. Plugins are called in the order in which
    the configuration declares them. A request that is rejected causes neither call.
    """

    __slots__ = ()

    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None:
        """The request is routed: `chosen` maps a profile's name to the slot of its first endpoint, the primary first.

        Called in the turn of the event loop that made the reservation, before the gateway gets its answer; so the next
        decision already sees what this call changes. Body, text and attributes of the request are released at the end
        of that turn: keep what `response_complete` will need.
        """

    def response_complete(self, request: Request, slot: int, outcome: RequestOutcome) -> None:
        """The request is over; called exactly once for each `pre_request`, even if that raised.

        `slot` is where the request was served: not the chosen one if Envoy fell back to another endpoint. The endpoint
        may have left in between, so the call may come after `endpoint_removed(slot)`. When the picker stops,
        requests in flight end without this call.
        """

    def endpoint_removed(self, slot: int) -> None:
        """The endpoint at `slot` left the pool. Forget what is known of it: the slot will be given to another one.

        Called before the slot is reused. May be called for a slot this plugin has never seen.
        """


class LoadEstimate(msgspec.Struct, frozen=True, gc=False):
    """What a request adds to the in-flight ledger of its endpoint, in tokens.

    Prompt tokens count until the first byte of the response; with output tokens above zero both count until its end.
    """

    prompt_tokens: float
    output_tokens: float = 0.0


class LoadEstimator:
    """Estimates the load of a request on its endpoint.

    Only the first plugin of the configuration with this interface is called. Without one, or if it raises, the load is
    the count of all prompt tokens.
    """

    __slots__ = ()

    @abstractmethod
    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        """The load if the request goes to the endpoint at `position`; finite and not negative.

        Called once for each routed request, before `pre_request`, with the candidates that the primary profile left.
        """
        raise NotImplementedError


class RequestHeaderProvider:
    """Sets request headers for the model server, besides the destination.

    In llm-d PreRequest plugins do this: `disagg-profile-handler` sets `x-prefiller-host-port`.
    """

    __slots__ = ()

    @abstractmethod
    def request_headers(self, request: Request, chosen: Mapping[str, Endpoint]) -> Mapping[str, str]:
        """Headers to set, names in lower case; `chosen` maps a profile's name to its first endpoint, the primary first.

        Called once for each routed request, after `pre_request`. Of two plugins that set one header, the later one in
        the configuration wins. If it raises, the request is forwarded without this plugin's headers.
        """
        raise NotImplementedError


class StateDumper:
    """Shows its state at `/debug/plugins/state` (llm-d: StateDumper)."""

    __slots__ = ()

    @abstractmethod
    def dump_state(self) -> Any:
        """The state as JSON-encodable data: bounded in size, without prompts or other content of requests.

        Called at each HTTP request to that page. If it raises, the page shows the error's message; nothing is counted.
        """
        raise NotImplementedError


class BucketHistogram:
    """Counts of observations by upper bound, as a Prometheus histogram has them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[int]:
        """Observations up to and including each bound, then all of them."""
        return list(accumulate(self._counts))


class PrefixCacheStats(msgspec.Struct, frozen=True):
    """Size and hits of a prefix index.

    `blocks` counts the indexed blocks over all endpoints. `hit_ratio` (0 to 1) and `hit_bytes` observe, for each routed
    prompt, the part that the index held for the chosen endpoint.
    """

    blocks: int
    hit_ratio: BucketHistogram
    hit_bytes: BucketHistogram


class PrefixCacheStatsProvider:
    """Has a prefix index; its size and hits are exported as llm-d's `prefix_indexer_*` metrics."""

    __slots__ = ()

    @abstractmethod
    def prefix_cache_stats(self) -> PrefixCacheStats:
        """The numbers now; the histograms may be the live ones. Called at each scrape of `/metrics`."""
        raise NotImplementedError


HOOK_INTERFACES = (RequestHooks, LoadEstimator, RequestHeaderProvider, StateDumper, PrefixCacheStatsProvider)
"""Every optional interface."""
