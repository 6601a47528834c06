"""How the end of a routed request becomes known: from its response, from Envoy's access log, or from scrapes.

With the last two, the ext_proc stream is closed after the request phase and the first byte of the response is not
observed. It is predicted instead, because prompt tokens must not load an endpoint that is already decoding.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random
from typing import Protocol

import msgspec

from epp.clock import Clock
from epp.datastore.ledger import Ledger
from epp.requestcontrol.inflight_request import InflightRequest

# Until a first byte was reported. The default of peakPrefillThroughput in llm-d's prefix cache affinity filter.
INITIAL_PREFILL_TOKENS_PER_SECOND = 15928.0
ARRIVAL_DELAY_SECONDS = 0.03  # a request routed this shortly before a scrape may not have reached the pod yet


class Completion(Protocol):
    """One way to learn of the end of requests. All methods are called on the event loop."""

    def should_observe(self) -> bool:
        """Whether the stream of the current request stays open, so that its own response reports the end."""

    def track(self, request: InflightRequest) -> None:
        """Takes over ending the request; called once for each request that is not observed."""

    def untrack(self, request: InflightRequest) -> None:
        """A request ended, from whatever source; called for observed requests too."""

    def tick(self) -> None:
        """Called every few tens of milliseconds."""


class ObservedCompletion:
    """`--completion extproc`: every response passes through the ext_proc stream."""

    def should_observe(self) -> bool:
        return True

    def track(self, request: InflightRequest) -> None:
        raise AssertionError("an observed request is ended by its stream")

    def untrack(self, request: InflightRequest) -> None:
        """Nothing is tracked."""

    def tick(self) -> None:
        """Nothing is predicted."""


class FirstBytePredictor:
    """Predicts when requests whose response is not observed begin to decode.

    Time to first byte is modelled as s * (0.5 + 0.5 * uncached prompt tokens / t), where s and t are the moving
    averages of the reported times and prompt tokens; every reported first byte moves them by the share `weight` towards
    its own values (docs/decisions/0002-first-byte-prediction.md).
    """

    def __init__(self, clock: Clock, weight: float = 0.05) -> None:
        self._clock = clock
        self._weight = weight
        self._mean_tokens = 1.0
        self._mean_seconds = 1.0 / INITIAL_PREFILL_TOKENS_PER_SECOND
        self._has_samples = False
        self._due: list[tuple[float, int, InflightRequest]] = []
        self._sequence_numbers = itertools.count()

    def record_first_byte(self, tokens: float, seconds: float) -> None:
        """Learns from one request's uncached prompt tokens and time to first byte."""
        if not self._has_samples:
            self._mean_tokens, self._mean_seconds, self._has_samples = tokens, seconds, True
            return
        self._mean_tokens += self._weight * (tokens - self._mean_tokens)
        self._mean_seconds += self._weight * (seconds - self._mean_seconds)

    def predict_seconds(self, tokens: float) -> float:
        """Expected time to the first byte of a request with so many uncached prompt tokens."""
        return self._mean_seconds * (0.5 + 0.5 * tokens / max(self._mean_tokens, 1.0))

    def schedule_first_byte(self, request: InflightRequest) -> None:
        """Reports the first byte to the request when it is due."""
        due = request.routed_at + self.predict_seconds(request.prompt_tokens)
        heapq.heappush(self._due, (due, next(self._sequence_numbers), request))

    def tick(self) -> None:
        """Reports the first bytes that are due."""
        now, due = self._clock.now(), self._due
        while due and due[0][0] <= now:
            heapq.heappop(due)[2].on_first_byte()  # without effect on a request that has ended


class _UnobservedCompletion:
    """Base of the completions that close the stream after routing.

    `observed_share` of the requests are observed all the same; for the others the first byte is predicted.
    """

    def __init__(self, clock: Clock, rng: Random, observed_share: float) -> None:
        self._rng = rng
        self._observed_share = observed_share
        self._predictor = FirstBytePredictor(clock)

    def should_observe(self) -> bool:
        return bool(self._observed_share) and self._rng.random() < self._observed_share

    def tick(self) -> None:
        self._predictor.tick()


class AccessLogEntry(msgspec.Struct, gc=False):
    """One request that ended, from Envoy's access log (`envoy.data.accesslog.v3.HTTPAccessLogEntry`).

    `upstream` is the `ip:port` that answered, empty if none did; `started_at` wall-clock seconds; `duration_seconds`
    the whole duration, `ttfb_seconds` from the start to the first byte of the response (None: no byte was sent);
    `disconnected`: the client left, or the response was cut off.
    """

    request_id: str
    status: int
    upstream: str
    started_at: float
    duration_seconds: float
    ttfb_seconds: float | None = None
    response_bytes: int = 0
    disconnected: bool = False


AccessLogSink = Callable[[AccessLogEntry], None]


class AccessLogCompletion(_UnobservedCompletion):
    """`--completion access-log`: Envoy's gRPC access log reports every request that ended, by its request id."""

    def __init__(self, clock: Clock, rng: Random, observed_share: float = 0.0) -> None:
        super().__init__(clock, rng, observed_share)
        self._tracked: dict[str, InflightRequest] = {}
        # Clients may repeat an id. Requests that arrived while the one in `_tracked` was in flight, oldest first.
        self._repeated: dict[str, dict[InflightRequest, None]] = {}

    def __len__(self) -> int:
        return len(self._tracked)

    def track(self, request: InflightRequest) -> None:
        request_id = request.request.id
        if self._tracked.setdefault(request_id, request) is not request:
            self._repeated.setdefault(request_id, {})[request] = None
        self._predictor.schedule_first_byte(request)

    def on_log_entry(self, entry: AccessLogEntry) -> None:
        """Ends the request of this entry; entries of requests that are not tracked are ignored."""
        request = self._tracked.get(entry.request_id)
        if request is None:
            return
        if entry.ttfb_seconds is not None:
            self._predictor.record_first_byte(request.prompt_tokens, entry.ttfb_seconds)
        if entry.upstream:
            request.on_served_by(entry.upstream)
        request.record_response(entry.status, entry.response_bytes, entry.ttfb_seconds)
        request.finalize("disconnected" if entry.disconnected else "completed")

    def untrack(self, request: InflightRequest) -> None:
        request_id = request.request.id
        repeated = self._repeated.get(request_id)
        if repeated is None:
            if self._tracked.get(request_id) is request:
                del self._tracked[request_id]
            return
        if self._tracked[request_id] is request:
            self._tracked[request_id] = next(iter(repeated))
            del repeated[self._tracked[request_id]]
        else:
            repeated.pop(request, None)
        if not repeated:
            del self._repeated[request_id]


class ScrapeCompletion(_UnobservedCompletion):
    """`--completion scrape`: a reservation counts until a scrape begun after it contains the request itself."""

    def __init__(self, clock: Clock, rng: Random, ledger: Ledger, observed_share: float = 0.0) -> None:
        super().__init__(clock, rng, observed_share)
        self._ledger = ledger

    def track(self, request: InflightRequest) -> None:
        self._predictor.schedule_first_byte(request)

    def untrack(self, request: InflightRequest) -> None:
        """The ledger, which is what `on_scrape` reads, has released it already."""

    def on_scrape(self, slot: int, started_at: float) -> None:
        """A scrape of this slot, begun at `started_at` (monotonic seconds), was stored."""
        for reservation in self._ledger.reserved_before(slot, started_at - ARRIVAL_DELAY_SECONDS):
            request = reservation.owner
            if isinstance(request, InflightRequest) and request.tracked:
                request.finalize("replaced")
