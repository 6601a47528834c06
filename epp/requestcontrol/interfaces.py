"""What the protocol side and the deciding side tell each other about one HTTP request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from epp.api import RequestOutcome
from epp.scheduling.plugin_timing import PluginRecorder


class RequestHeaders(msgspec.Struct):
    """The request line and headers.

    `headers` has lower-case names, pseudo-headers too; repeated values are joined by ", ".
    `subset` is the gateway's hint: None for no hint, else the `ip:port` (or bare `ip`) items, which may be none.
    `end_of_stream`: there is no body. `body_unseen`: there is one, but the gateway wants the choice before it comes.
    """

    headers: Mapping[str, str]
    subset_hint: tuple[str, ...] | None = None
    end_of_stream: bool = False
    routed_before_body: bool = False

    @property
    def path(self) -> str:
        return self.headers.get(":path", "")


class RoutedRequest(Protocol):
    """A routed request that is not over. Told once of its end, by whoever learns of it first."""

    def on_served_by(self, target: str) -> None:
        """The endpoint that really answered, as `ip:port`."""

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Response headers came."""

    def on_response_body(self, data: bytes) -> None:
        """A piece of the response body, as it came."""

    def finalize(self, cause: str) -> None:
        """Over; `cause` as in `epp.api.Ended`. Idempotent."""


class RoutingDecision(msgspec.Struct):
    """The answer to a request that goes somewhere.

    `destination` is `ip:port[,ip:port…]`. `set_headers` are added for the model server, `body` replaces the body if
    not None (else the bytes are forwarded as they came), `scores` go to dynamic metadata. `observe`: keep the stream
    for the response phase and feed the flight from it; otherwise close it after the request phase.
    """

    destination: str
    request: RoutedRequest
    observe_response: bool = True
    set_headers: Mapping[str, str] = {}
    body: bytes | None = None
    scores: Mapping[str, float] | None = None


class Router(Protocol):
    """Turns a complete request into a route."""

    def route_request(self, head: RequestHeaders, body: bytes) -> RoutingDecision | Awaitable[RoutingDecision]:
        """A route at once when no producer needs I/O, else an awaitable of it; `Reject` is raised by either."""


class RequestMetrics(Protocol):
    """Where one routed request leaves its numbers."""

    def record_inter_token_latency(self, seconds: float) -> None:
        """Between two pieces of its streamed answer."""

    def record_end(self, streaming: bool, response_bytes: int, how: RequestOutcome) -> None:
        """It is over; called once."""


class SchedulingMetrics(PluginRecorder, Protocol):
    """Where the deciding side leaves numbers; implemented by the metrics."""

    def record_routed_request(
        self, model: str, target_model: str, fairness_id: str, priority: int, body_bytes: int, prompt_tokens: int
    ) -> RequestMetrics:
        """A request was accepted and routed."""
        ...

    def record_rejection(self, model: str, target_model: str, fairness_id: str, priority: int, code: str) -> None:
        """A request got an error from us; `code` as in llm-d's `error_code`."""

    def record_scheduling_attempt(
        self, seconds: float, target_model: str, endpoint: str, namespace: str, port: int
    ) -> None:
        """A scheduling cycle ended; an empty `endpoint` is a failure."""


class AccessLogEntry(msgspec.Struct, gc=False):
    """One line of Envoy's access log: a request that is over.

    `upstream` is the `ip:port` that answered, empty if nobody did; `started` is wall-clock seconds; `seconds` the whole
    duration, `ttfb_seconds` from the start to the first byte of the answer (None: there was none); `disconnected`: the
    client left, or the answer was cut off.
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
