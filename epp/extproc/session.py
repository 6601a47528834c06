"""One ext_proc stream: Envoy's messages in, effects out. No I/O, no time.

The order of phases differs by body mode, which Envoy tells in its first message:

- full duplex: the reply to the headers waits for the end of the body, then headers, pieces, trailers, in that order;
- buffered: the headers are answered at once and empty, the choice goes into the reply to the one body message;
- streamed (and none): the choice goes into the reply to the headers, before any of the body is seen.

The transitions are `STEPS` and `AT_HALF_CLOSE`. A message that has no step in its state breaks the protocol: before the
choice the client gets a 500 from us, after it the stream ends well. A gRPC error would become a 500 even under
fail-open, and so would a reply that Envoy did not wait for; no reply at all would hold up the client for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, auto
from typing import Final

from epp.errors import DecodeError, InternalError, Rejection
from epp.extproc import codec
from epp.extproc.actions import (
    CANCEL_DECISION,
    COMPLETED,
    DISCONNECTED,
    FAILED,
    FINISH_STREAM,
    OBSERVABILITY_MODE,
    EndpointServed,
    RequestDecision,
    RequestEnded,
    ResponseData,
    ResponseStarted,
    SessionAction,
)
from epp.extproc.body import forward_response_body
from epp.extproc.codec import BodyMode, MessageType, ProcessingRequest
from epp.extproc.request_phase import BUFFERED_MODES, RequestLimits, RequestPhase
from epp.headers import REQUEST_DROPPED_REASON
from epp.requestcontrol.interfaces import RoutingDecision

__all__ = ["HALF_CLOSE_TRANSITIONS", "TRANSITIONS", "RequestLimits", "Session", "SessionState"]


class SessionState(IntEnum):
    """Where the stream is."""

    NEW = auto()
    BUFFERING = auto()  # full duplex or buffered: the body is coming
    DECIDING = auto()
    FORWARDING = auto()  # streamed: chosen, the request body is still passing
    ROUTED = auto()  # the request phase is answered
    RESPONDING = auto()
    RESPONSE_COMPLETE = auto()  # the response is over, Envoy has yet to close
    CLOSED = auto()


class Session:
    """See the module. Every method but `__init__` returns effects, to be done in order."""

    __slots__ = (
        "_decision",
        "_end_reported",
        "_half_closed",
        "_mark_responses",
        "_modes_announced",
        "_request_phase",
        "_response_body_mode",
        "state",
    )

    def __init__(self, limits: RequestLimits) -> None:
        self.state = SessionState.NEW
        self._request_phase = RequestPhase(limits)
        self._mark_responses = limits.mark_responses
        self._response_body_mode = BodyMode.FULL_DUPLEX
        self._modes_announced = False
        self._decision: RoutingDecision | None = None
        self._half_closed = False
        self._end_reported = False

    def receive(self, data: bytes) -> list[SessionAction]:
        """One message from Envoy."""
        try:
            message = codec.decode(data)
            step = TRANSITIONS.get((self.state, message.type))
            if step is None:
                return self._fail_on_unexpected_message(message)
            if message.body_modes is not None:
                self._response_body_mode = message.body_modes[1]
                self._modes_announced = True
            return [OBSERVABILITY_MODE, *step(self, message)] if message.observability_mode else step(self, message)
        except DecodeError as error:
            return self.on_failure(InternalError(str(error)))
        except Rejection as reject:
            return [*self._cancel_pending_decision(), *self.on_rejection(reject)]

    def on_decision(self, route: RoutingDecision) -> list[SessionAction]:
        """The choice has been made; only in state DECIDING."""
        request = self._request_phase
        effects: list[SessionAction] = [*request.build_replies(route)]
        request.discard_body()
        self._decision = route
        if request.is_streaming and not self._half_closed:
            self.state = SessionState.FORWARDING
            return effects
        return self._complete_request_phase(effects)

    def on_rejection(self, reject: Rejection) -> list[SessionAction]:
        """The client gets an answer from us. Too late once there is a choice, or an answer."""
        if self.state not in UNDECIDED_STATES:
            return []
        self._close()
        headers = {REQUEST_DROPPED_REASON: reject.dropped_reason} if reject.dropped_reason else {}
        text = f"inference error: {reject.code} - {reject.message}".encode("utf-8", "replace")
        return [codec.immediate_response(reject.status, text, headers, f"epp_{reject.code}"), FINISH_STREAM]

    def on_failure(self, reject: Rejection) -> list[SessionAction]:
        """Something is broken, here or there. The client gets `reject` if there is time, else we get out of its way.

        In the middle of an answer that may cost a piece of it; an error would cost all of it.
        """
        if self.state is SessionState.CLOSED:
            return []
        return [*self._cancel_pending_decision(), *(self.on_rejection(reject) or self._finish_stream(FAILED))]

    def on_half_close(self) -> list[SessionAction]:
        """Envoy sends no more, but reads on."""
        self._half_closed = True
        step = HALF_CLOSE_TRANSITIONS.get(self.state)
        return [] if step is None else step(self)

    def on_cancel(self) -> list[SessionAction]:
        """The stream is gone."""
        if self.state is SessionState.RESPONSE_COMPLETE:  # as it should be, with nothing left to forget
            self.state = SessionState.CLOSED
            return []
        effects = [*self._cancel_pending_decision(), *self._report_end(self._outcome_of_early_end())]
        self._close()
        return effects

    def _fail_on_unexpected_message(self, message: ProcessingRequest) -> list[SessionAction]:
        kind, state = message.type.name, self.state.name
        return self.on_failure(InternalError(f"the gateway sent {kind.lower()} in state {state.lower()}"))

    # The request phase

    def _on_request_headers(self, message: ProcessingRequest) -> list[SessionAction]:
        request = self._request_phase
        request.receive_headers(message)
        if request.route_at_headers:
            return self._request_decision()
        self.state = SessionState.BUFFERING
        return [codec.CONTINUE_REQUEST_HEADERS] if request.body_mode in BUFFERED_MODES else []

    def _buffer_request_body(self, message: ProcessingRequest) -> list[SessionAction]:
        request = self._request_phase
        request.read_subset_hint(message)
        request.append_body(message)
        return self._request_decision() if request.end_of_stream else []

    def _end_body_with_trailers(self, message: ProcessingRequest) -> list[SessionAction]:
        """The body has no other end than the trailers."""
        self._request_phase.read_subset_hint(message)
        self._request_phase.has_trailers = True
        return self._request_decision()

    def _request_decision(self) -> list[SessionAction]:
        self.state = SessionState.DECIDING
        return [RequestDecision(self._request_phase.headers, self._request_phase.take_body())]

    def _on_request_body_while_deciding(self, message: ProcessingRequest) -> list[SessionAction]:
        """A body that passes need not wait for our reply; of one that we have whole this is a repeated end: dropped."""
        if self._request_phase.is_streaming:
            self._request_phase.append_early_body(message)
        return []

    def _on_request_trailers_while_deciding(self, message: ProcessingRequest) -> list[SessionAction]:
        self._request_phase.has_trailers = self._request_phase.end_of_stream = True
        return []

    def _forward_request_body(self, message: ProcessingRequest) -> list[SessionAction]:
        effects: list[SessionAction] = [*self._request_phase.forward_body(message)]
        return self._complete_request_phase(effects) if message.end_of_stream else effects

    def _forward_request_trailers(self, message: ProcessingRequest) -> list[SessionAction]:
        return self._complete_request_phase([codec.CONTINUE_REQUEST_TRAILERS])

    def _on_request_body_after_routing(self, message: ProcessingRequest) -> list[SessionAction]:
        """The answer came before the end of a body that passes; of any other body this is a repeated end: dropped.

        Without a choice the headers have had no reply, and nothing that comes after them may have one.
        """
        return (
            [*self._request_phase.forward_body(message)]
            if self._request_phase.is_streaming and self._decision is not None
            else []
        )

    def _on_request_trailers_after_routing(self, message: ProcessingRequest) -> list[SessionAction]:
        return [] if self._decision is None else [codec.CONTINUE_REQUEST_TRAILERS]

    def _complete_request_phase(self, effects: list[SessionAction]) -> list[SessionAction]:
        """The request phase is over. Closing now is the only safe moment to leave: later, pieces would be lost."""
        assert self._decision is not None, "answered without a route"
        self.state = SessionState.ROUTED
        return effects if self._decision.observe_response and not self._half_closed else effects + self._finish_stream()

    # The response phase

    def _on_local_reply(self, message: ProcessingRequest) -> list[SessionAction]:
        """Envoy itself answers (a timeout, a limit) while we wait for the body or the choice."""
        self._request_phase.discard_body()
        return [*self._cancel_pending_decision(), *self._on_response_headers(message)]

    def _on_response_headers(self, message: ProcessingRequest) -> list[SessionAction]:
        self.state = SessionState.RESPONDING
        headers = message.headers or {}
        effects: list[SessionAction] = []
        if message.metadata is not None and (target := codec.parse_served_endpoint(message.metadata)):
            effects.append(EndpointServed(target))
        status = headers.get(":status") or headers.get("status") or ""
        effects.append(ResponseStarted(int(status) if len(status) == 3 and status.isdecimal() else 0, headers))
        effects.append(codec.MARK_RESPONSE_HEADERS if self._mark_responses else codec.CONTINUE_RESPONSE_HEADERS)
        if message.end_of_stream:
            effects += self._complete_response()
        return effects

    def _on_response_body(self, message: ProcessingRequest) -> list[SessionAction]:
        self.state = SessionState.RESPONDING
        effects: list[SessionAction] = [*forward_response_body(self._response_body_mode, message)]
        if message.body:
            effects.append(ResponseData(message.body))
        if message.end_of_stream:
            effects += self._complete_response()
        return effects

    def _on_response_trailers(self, message: ProcessingRequest) -> list[SessionAction]:
        return [codec.CONTINUE_RESPONSE_TRAILERS, *self._complete_response()]

    def _ignore_message(self, message: ProcessingRequest) -> list[SessionAction]:
        """Some Envoys repeat the end of a long body (GAIE issue 2988)."""
        return []

    def _complete_response(self) -> list[SessionAction]:
        self.state = SessionState.RESPONSE_COMPLETE
        return self._report_end(COMPLETED)

    # Ends

    def _on_half_close_while_buffering(self) -> list[SessionAction]:
        """Gateways that tell their modes half-close when the client left; of others it may be the end of the body."""
        return self._finish_stream() if self._modes_announced else self._request_decision()

    def _outcome_of_early_end(self) -> RequestEnded:
        """How a request ends that the gateway leaves now: well, where we would not see the end of the answer."""
        no_bodies = self._response_body_mode is BodyMode.NONE and self.state in (
            SessionState.ROUTED,
            SessionState.RESPONDING,
        )
        no_answers = not self._modes_announced and self.state is SessionState.ROUTED
        return COMPLETED if no_bodies or no_answers else DISCONNECTED

    def _cancel_pending_decision(self) -> list[SessionAction]:
        return [CANCEL_DECISION] if self.state is SessionState.DECIDING else []

    def _finish_stream(self, how: RequestEnded | None = None) -> list[SessionAction]:
        effects = [*self._report_end(how or self._outcome_of_early_end()), FINISH_STREAM]
        self._close()
        return effects

    def _report_end(self, how: RequestEnded) -> list[SessionAction]:
        """Tells how a request ended, once. The end of a route that is not observed is learnt elsewhere."""
        told = self._end_reported or self._decision is None or not self._decision.observe_response
        self._end_reported = True
        return [] if told else [how]

    def _close(self) -> None:
        self.state = SessionState.CLOSED
        self._request_phase.discard_body()


UNDECIDED_STATES: Final = (SessionState.NEW, SessionState.BUFFERING, SessionState.DECIDING)
ROUTED_STATES: Final = (SessionState.ROUTED, SessionState.RESPONDING, SessionState.RESPONSE_COMPLETE)

Transition = Callable[[Session, ProcessingRequest], list[SessionAction]]

TRANSITIONS: Final[Mapping[tuple[SessionState, MessageType], Transition]] = {
    (SessionState.NEW, MessageType.REQUEST_HEADERS): Session._on_request_headers,
    (
        SessionState.NEW,
        MessageType.RESPONSE_HEADERS,
    ): Session._on_response_headers,  # a filter before us answered: passed through
    (SessionState.BUFFERING, MessageType.REQUEST_BODY): Session._buffer_request_body,
    (SessionState.BUFFERING, MessageType.REQUEST_TRAILERS): Session._end_body_with_trailers,
    (SessionState.BUFFERING, MessageType.RESPONSE_HEADERS): Session._on_local_reply,
    (SessionState.DECIDING, MessageType.REQUEST_BODY): Session._on_request_body_while_deciding,
    (SessionState.DECIDING, MessageType.REQUEST_TRAILERS): Session._on_request_trailers_while_deciding,
    (SessionState.DECIDING, MessageType.RESPONSE_HEADERS): Session._on_local_reply,
    (SessionState.FORWARDING, MessageType.REQUEST_BODY): Session._forward_request_body,
    (SessionState.FORWARDING, MessageType.REQUEST_TRAILERS): Session._forward_request_trailers,
    (SessionState.FORWARDING, MessageType.RESPONSE_HEADERS): Session._on_response_headers,
    (SessionState.FORWARDING, MessageType.RESPONSE_BODY): Session._on_response_body,
    (SessionState.FORWARDING, MessageType.RESPONSE_TRAILERS): Session._on_response_trailers,
    (SessionState.ROUTED, MessageType.RESPONSE_HEADERS): Session._on_response_headers,
    (SessionState.ROUTED, MessageType.RESPONSE_BODY): Session._on_response_body,
    (SessionState.ROUTED, MessageType.RESPONSE_TRAILERS): Session._on_response_trailers,
    (SessionState.RESPONDING, MessageType.RESPONSE_BODY): Session._on_response_body,
    (SessionState.RESPONDING, MessageType.RESPONSE_TRAILERS): Session._on_response_trailers,
    **{(state, MessageType.REQUEST_BODY): Session._on_request_body_after_routing for state in ROUTED_STATES},
    **{(state, MessageType.REQUEST_TRAILERS): Session._on_request_trailers_after_routing for state in ROUTED_STATES},
    (SessionState.RESPONSE_COMPLETE, MessageType.RESPONSE_BODY): Session._ignore_message,
    (SessionState.RESPONSE_COMPLETE, MessageType.RESPONSE_TRAILERS): Session._on_response_trailers,
}

HALF_CLOSE_TRANSITIONS: Final[Mapping[SessionState, Callable[[Session], list[SessionAction]]]] = {
    **dict.fromkeys(set(SessionState) - {SessionState.DECIDING, SessionState.CLOSED}, Session._finish_stream),
    SessionState.BUFFERING: Session._on_half_close_while_buffering,
}
