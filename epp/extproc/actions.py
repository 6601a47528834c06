"""What a session wants done; bytes among the effects are a message to send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from epp.requestcontrol.interfaces import RequestHeaders, RoutedRequest


class RequestDecision(msgspec.Struct, gc=False):
    """Choose an endpoint, and call `decided` or `rejected`, now or later."""

    headers: RequestHeaders
    body: bytes


class CancelDecision(msgspec.Struct, gc=False):
    """The choice that was asked for is not needed any more."""


class ObservabilityMode(msgspec.Struct, gc=False):
    """The gateway only lets us watch: nothing is sent from now on."""


class RequestEvent(msgspec.Struct, gc=False):
    """What the flight is told, if there is one."""

    def deliver(self, flight: RoutedRequest) -> None:
        raise NotImplementedError


class EndpointServed(RequestEvent, gc=False):
    """The gateway says which endpoint answered."""

    target: str

    def deliver(self, flight: RoutedRequest) -> None:
        flight.on_served_by(self.target)


class ResponseStarted(RequestEvent, gc=False):
    """Response headers came."""

    status: int
    headers: Mapping[str, str]

    def deliver(self, flight: RoutedRequest) -> None:
        flight.on_response_headers(self.status, self.headers)


class ResponseData(RequestEvent, gc=False):
    """A piece of the response body came."""

    data: bytes

    def deliver(self, flight: RoutedRequest) -> None:
        flight.on_response_body(self.data)


class RequestEnded(RequestEvent, gc=False):
    """The request is over; causes as in `epp.api.Ended`."""

    cause: str

    def deliver(self, flight: RoutedRequest) -> None:
        flight.finalize(self.cause)


class FinishStream(msgspec.Struct, gc=False):
    """End the stream, after what was sent."""


SessionAction = bytes | ObservabilityMode | RequestDecision | CancelDecision | RequestEvent | FinishStream

OBSERVABILITY_MODE: Final = ObservabilityMode()
CANCEL_DECISION: Final = CancelDecision()
FINISH_STREAM: Final = FinishStream()
COMPLETED: Final = RequestEnded("completed")
DISCONNECTED: Final = RequestEnded("disconnected")
FAILED: Final = RequestEnded("error")
