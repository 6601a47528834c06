"""Actions: what a session wants done. Bytes among them are a serialized ProcessingResponse to send.

They are made for every message and are never part of a reference cycle, hence `gc=False`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from epp.requestcontrol.interfaces import RequestHeaders, RoutedRequest


class StartDecision(msgspec.Struct, gc=False):
    """Choose an endpoint, now or later, and pass the result to `Session.on_decision` or `Session.on_rejection`."""

    headers: RequestHeaders
    body: bytes


class CancelDecision(msgspec.Struct, gc=False):
    """The decision that was started is no longer needed."""


class ObservabilityMode(msgspec.Struct, gc=False):
    """The gateway ignores replies (ext_proc's `observability_mode`): send nothing from now on."""


class RequestEvent(msgspec.Struct, gc=False):
    """A lifecycle event of the routed request; dropped if no endpoint was chosen."""

    def deliver(self, request: RoutedRequest) -> None:
        raise NotImplementedError


class EndpointServed(RequestEvent, gc=False):
    """The gateway reports which endpoint answered, as `ip:port`."""

    target: str

    def deliver(self, request: RoutedRequest) -> None:
        request.on_served_by(self.target)


class ResponseStarted(RequestEvent, gc=False):
    """The response headers. `status` is 0 if it is not a number of three digits."""

    status: int
    headers: Mapping[str, str]

    def deliver(self, request: RoutedRequest) -> None:
        request.on_response_headers(self.status, self.headers)


class ResponseData(RequestEvent, gc=False):
    """A chunk of the response body; never empty."""

    data: bytes

    def deliver(self, request: RoutedRequest) -> None:
        request.on_response_body(self.data)


class RequestEnded(RequestEvent, gc=False):
    """The request has ended; `cause` is one of those of `epp.api.RequestOutcome`."""

    cause: str

    def deliver(self, request: RoutedRequest) -> None:
        request.finalize(self.cause)


class FinishStream(msgspec.Struct, gc=False):
    """End the RPC with status OK, after everything sent before."""


SessionAction = bytes | ObservabilityMode | StartDecision | CancelDecision | RequestEvent | FinishStream

OBSERVABILITY_MODE: Final = ObservabilityMode()
CANCEL_DECISION: Final = CancelDecision()
FINISH_STREAM: Final = FinishStream()
COMPLETED: Final = RequestEnded("completed")
DISCONNECTED: Final = RequestEnded("disconnected")
FAILED: Final = RequestEnded("error")
