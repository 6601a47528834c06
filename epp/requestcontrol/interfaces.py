"""The interface between the ext_proc protocol (`epp.extproc`) and request control, for one HTTP request."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol

import msgspec


class RequestHeaders(msgspec.Struct):
    """The request headers as the gateway sent them, and what it said about routing.

    `headers` has lower-case names, pseudo-headers included; repeated values are joined by ", ".
    `subset_hint`: the candidates that the gateway allows (GAIE's `x-gateway-destination-endpoint-subset`), as
    `ip:port` or bare `ip`; None if it sent no hint, which differs from an empty one. `end_of_stream`: there is no body.
    `routed_before_body`: there is a body, but the gateway needs the endpoint before it arrives.
    """

    headers: Mapping[str, str]
    subset_hint: tuple[str, ...] | None = None
    end_of_stream: bool = False
    routed_before_body: bool = False

    @property
    def path(self) -> str:
        """The `:path` pseudo-header, query included; empty if there is none."""
        return self.headers.get(":path", "")


class RoutedRequest(Protocol):
    """A routed request until it ends, as the protocol side sees it. All methods are called on the event loop.

    Events arrive in the order in which they are listed; each but `finalize` may be missing.
    """

    def on_served_by(self, target: str) -> None:
        """The gateway reports the endpoint that answered, as `ip:port`; a fallback may have replaced our choice."""

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """The response headers arrived."""

    def on_response_body(self, data: bytes) -> None:
        """A chunk of the response body arrived."""

    def finalize(self, cause: str) -> None:
        """The request ended; `cause` as in `epp.api.RequestOutcome`. Calls after the first have no effect."""


class RoutingDecision(msgspec.Struct):
    """The destination of a request, and the changes that the gateway makes to it.

    `destination` is `ip:port[,ip:port...]`, best first. `set_headers` are set on the request to the model server.
    `body` replaces the request body; None forwards the original bytes. `scores` (total score by `ip:port`) go to
    dynamic metadata. `observe_response`: keep the stream open and report the response to `request`; otherwise close the
    stream after the request phase.
    """

    destination: str
    request: RoutedRequest
    observe_response: bool = True
    set_headers: Mapping[str, str] = {}
    body: bytes | None = None
    scores: Mapping[str, float] | None = None


class Router(Protocol):
    """Chooses the endpoint of a request; implemented by the director."""

    def route_request(self, headers: RequestHeaders, body: bytes) -> RoutingDecision | Awaitable[RoutingDecision]:
        """The decision at once if no data producer does I/O, otherwise an awaitable of it; both raise `Rejection`."""
