"""One ext_proc stream as a state machine: messages from Envoy in, actions out. No I/O, no clock, no await.

Which reply carries the destination depends on the body mode (ext_proc's `ProcessingMode.BodySendMode`), which Envoy
announces in `protocol_config` of its first message:

- full duplex: no reply to the headers until the body has ended; then headers, body chunks, trailers, in this order;
- buffered: the headers get an empty reply at once, the reply to the one body message carries the destination;
- streamed, none and gRPC: the reply to the headers carries the destination, before any of the body is seen.

`TRANSITIONS` and `HALF_CLOSE_TRANSITIONS` are the whole machine. A message without a transition in the present state
is a protocol violation: before the decision the client gets an ImmediateResponse with status 500, afterwards the
stream ends with status OK, upon which Envoy proceeds without the picker (step 6 in Envoy's external_processor.proto).
Two things must not happen: a gRPC error, and a reply that Envoy does not wait for. For both Envoy answers the client
with 500 (step 7), even under fail-open once it has sent a body. A stream without any reply would hold up the client
for ever: in full duplex Envoy does not enforce `message_timeout` (docs/envoy.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, auto
from typing import Final

from epp.errors import DecodeError, InternalError, Rejection
from epp.extproc.actions import (
    CANCEL_DECISION,
    COMPLETED,
    DISCONNECTED,
    FAILED,
    FINISH_STREAM,
    OBSERVABILITY_MODE,
    EndpointServed,
    RequestEnded,
    ResponseData,
    ResponseStarted,
    SessionAction,
    StartDecision,
)
from epp.extproc.body import forward_response_body
from epp.extproc.codec import BodyMode, Codec, MessageType, ProcessingRequest, encode
from epp.extproc.codec.decode import parse_served_endpoint
from epp.extproc.request_phase import BUFFERED_MODES, RequestLimits, RequestPhase
from epp.headers import REQUEST_DROPPED_REASON
from epp.requestcontrol.interfaces import RoutingDecision

__all__ = ["HALF_CLOSE_TRANSITIONS", "TRANSITIONS", "RequestLimits", "Session", "SessionState"]


class SessionState(IntEnum):
    """Phase of the stream."""

    NEW = auto()
    BUFFERING = auto()  # full duplex or buffered: the request body is arriving
    DECIDING = auto()  # the decision has been started
    FORWARDING = auto()  # streamed, gRPC or a tunnel: routed, the request body is still passing through
    ROUTED = auto()  # everything of the request has its reply
    RESPONDING = auto()
    RESPONSE_COMPLETE = auto()  # Envoy has yet to close the stream
    CLOSED = auto()


class Session:
    """The state machine. Every method but `__init__` returns the actions to carry out, in order."""

    __slots__ = (
        "_codec",
        "_decision",
        "_end_reported",
        "_half_closed",
        "_mark_responses",
        "_modes_announced",
        "_request_phase",
        "_response_body_mode",
        "state",
    )

    def __init__(self, limits: RequestLimits, codec: Codec) -> None:
        self.state = SessionState.NEW
        self._codec = codec
        self._request_phase = RequestPhase(limits, codec)
        self._mark_responses = limits.mark_responses
        self._response_body_mode = BodyMode.FULL_DUPLEX_STREAMED
        self._modes_announced = False
        self._decision: RoutingDecision | None = None
        self._half_closed = False
        self._end_reported = False

    # Events

    def receive(self, data: bytes) -> list[SessionAction]:
        """One serialized ProcessingRequest."""
        try:
            message = self._codec.decode(data)
            transition = TRANSITIONS.get((self.state, message.type))
            if transition is None:
                return self._fail_on_unexpected_message(message)
            if message.body_modes is not None:
                self._response_body_mode = message.body_modes[1]
                self._modes_announced = True
            if message.observability_mode:
                return [OBSERVABILITY_MODE, *transition(self, message)]
            return transition(self, message)
        except DecodeError as error:
            return self.on_failure(InternalError(str(error)))
        except Rejection as rejection:
            return [*self._cancel_pending_decision(), *self.on_rejection(rejection)]

    def on_decision(self, decision: RoutingDecision) -> list[SessionAction]:
        """The decision has been made. Only in state DECIDING."""
        request = self._request_phase
        actions: list[SessionAction] = [*request.build_replies(decision)]
        request.discard_body()
        self._decision = decision
        if request.is_streaming and not self._half_closed:
            self.state = SessionState.FORWARDING
            return actions
        return self._complete_request_phase(actions)

    def on_rejection(self, rejection: Rejection) -> list[SessionAction]:
        """Answers the client with an ImmediateResponse. No actions if there is a decision or an answer already."""
        if self.state not in UNDECIDED_STATES:
            return []
        self._close()
        reason = rejection.dropped_reason
        headers = {REQUEST_DROPPED_REASON: reason} if reason else {}
        text = f"inference error: {rejection.code} - {rejection.message}".encode("utf-8", "replace")
        reply = encode.immediate_response(rejection.status, text, headers, f"epp_{rejection.code}")
        return [reply, FINISH_STREAM]

    def on_failure(self, rejection: Rejection) -> list[SessionAction]:
        """Gateway or picker broke the protocol. The client gets `rejection`; after the decision the stream ends.

        To end the stream in the middle of a response may lose a chunk; a gRPC error would lose the whole response.
        """
        if self.state is SessionState.CLOSED:
            return []
        return [*self._cancel_pending_decision(), *(self.on_rejection(rejection) or self._finish_stream(FAILED))]

    def on_half_close(self) -> list[SessionAction]:
        """Envoy has sent its last message; it still reads."""
        self._half_closed = True
        transition = HALF_CLOSE_TRANSITIONS.get(self.state)
        return [] if transition is None else transition(self)

    def on_cancel(self) -> list[SessionAction]:
        """The stream was reset or its connection lost: nothing can be sent any more."""
        if self.state is SessionState.RESPONSE_COMPLETE:  # the usual end: reported, and its body discarded
            self.state = SessionState.CLOSED
            return []
        actions = [*self._cancel_pending_decision(), *self._report_end(self._outcome_of_early_end())]
        self._close()
        return actions

    # Transitions of the request phase

    def _on_request_headers(self, message: ProcessingRequest) -> list[SessionAction]:
        request = self._request_phase
        request.receive_headers(message)
        if request.route_at_headers:
            return self._start_decision()
        self.state = SessionState.BUFFERING
        return [encode.CONTINUE_REQUEST_HEADERS] if request.body_mode in BUFFERED_MODES else []

    def _buffer_request_body(self, message: ProcessingRequest) -> list[SessionAction]:
        request = self._request_phase
        request.read_subset_hint(message)
        request.append_body(message)
        return self._start_decision() if request.end_of_stream else []

    def _end_body_with_trailers(self, message: ProcessingRequest) -> list[SessionAction]:
        """If trailers follow the body, no body message has end_of_stream."""
        self._request_phase.read_subset_hint(message)
        self._request_phase.has_trailers = True
        return self._start_decision()

    def _start_decision(self) -> list[SessionAction]:
        self.state = SessionState.DECIDING
        return [StartDecision(self._request_phase.headers, self._request_phase.take_body())]

    def _on_request_body_while_deciding(self, message: ProcessingRequest) -> list[SessionAction]:
        """A chunk, in modes that do not wait for the reply to the headers; in others a repeated end of the body.

        Envoy 1.35 to 1.37 repeats the last message of a request body above about 1 MB (Envoy issue 46237, GAIE issue
        2988). To reply twice would corrupt the request.
        """
        if self._request_phase.is_streaming:
            self._request_phase.append_early_body(message)
        return []

    def _on_request_trailers_while_deciding(self, message: ProcessingRequest) -> list[SessionAction]:
        self._request_phase.has_trailers = self._request_phase.end_of_stream = True
        return []

    def _forward_request_body(self, message: ProcessingRequest) -> list[SessionAction]:
        actions: list[SessionAction] = [*self._request_phase.forward_body(message)]
        return self._complete_request_phase(actions) if message.end_of_stream else actions

    def _forward_request_trailers(self, message: ProcessingRequest) -> list[SessionAction]:
        return self._complete_request_phase([encode.CONTINUE_REQUEST_TRAILERS])

    def _on_request_body_after_routing(self, message: ProcessingRequest) -> list[SessionAction]:
        """The response began before a forwarded body ended. In other modes this is a repeated end (Envoy issue 46237).

        After a local reply there is no decision: the request headers have had no reply, so its body gets none.
        """
        if self._decision is None or not self._request_phase.is_streaming:
            return []
        return [*self._request_phase.forward_body(message)]

    def _on_request_trailers_after_routing(self, message: ProcessingRequest) -> list[SessionAction]:
        return [] if self._decision is None else [encode.CONTINUE_REQUEST_TRAILERS]

    def _complete_request_phase(self, actions: list[SessionAction]) -> list[SessionAction]:
        """If the response is not observed the stream ends here: closed later, Envoy would lose chunks in transit."""
        assert self._decision is not None, "the request phase completes with a decision"
        self.state = SessionState.ROUTED
        if self._decision.observe_response and not self._half_closed:
            return actions
        return actions + self._finish_stream()

    # Transitions of the response phase

    def _on_local_reply(self, message: ProcessingRequest) -> list[SessionAction]:
        """Envoy answers by itself (a timeout, a limit) while the body is arriving or the decision is being made."""
        self._request_phase.discard_body()
        return [*self._cancel_pending_decision(), *self._on_response_headers(message)]

    def _on_response_headers(self, message: ProcessingRequest) -> list[SessionAction]:
        self.state = SessionState.RESPONDING
        headers = message.headers or {}
        actions: list[SessionAction] = []
        if message.metadata is not None and (target := parse_served_endpoint(message.metadata)):
            actions.append(EndpointServed(target))
        # Envoy sends the pseudo-header; llm-d's handlers/server.go reads `status`.
        status = headers.get(":status") or headers.get("status") or ""
        actions.append(ResponseStarted(int(status) if len(status) == 3 and status.isdecimal() else 0, headers))
        actions.append(encode.MARK_RESPONSE_HEADERS if self._mark_responses else encode.CONTINUE_RESPONSE_HEADERS)
        if message.end_of_stream:
            actions += self._complete_response()
        return actions

    def _on_response_body(self, message: ProcessingRequest) -> list[SessionAction]:
        self.state = SessionState.RESPONDING
        actions = forward_response_body(self._codec, self._response_body_mode, message)
        if message.body:
            actions.append(ResponseData(message.body))
        if message.end_of_stream:
            actions += self._complete_response()
        return actions

    def _on_response_trailers(self, message: ProcessingRequest) -> list[SessionAction]:
        return [encode.CONTINUE_RESPONSE_TRAILERS, *self._complete_response()]

    def _ignore_repeated_end(self, message: ProcessingRequest) -> list[SessionAction]:
        """As for request bodies (Envoy issue 46237): the end of the response body already has its reply."""
        return []

    def _complete_response(self) -> list[SessionAction]:
        self.state = SessionState.RESPONSE_COMPLETE
        return self._report_end(COMPLETED)

    # Ends

    def _fail_on_unexpected_message(self, message: ProcessingRequest) -> list[SessionAction]:
        kind, state = message.type.name.lower(), self.state.name.lower()
        return self.on_failure(InternalError(f"the gateway sent {kind} in state {state}"))

    def _on_half_close_while_buffering(self) -> list[SessionAction]:
        """Envoy, which announces its body modes, half-closes when the client has left.

        NGINX Gateway Fabric, which does not, ends the body in this way.
        """
        return self._finish_stream() if self._modes_announced else self._start_decision()

    def _outcome_of_early_end(self) -> RequestEnded:
        """The outcome if the gateway leaves now: completed if it does not send us the end of responses at all."""
        without_body = self._response_body_mode is BodyMode.NONE and self.state in (
            SessionState.ROUTED,
            SessionState.RESPONDING,
        )
        without_response_phase = not self._modes_announced and self.state is SessionState.ROUTED
        return COMPLETED if without_body or without_response_phase else DISCONNECTED

    def _cancel_pending_decision(self) -> list[SessionAction]:
        return [CANCEL_DECISION] if self.state is SessionState.DECIDING else []

    def _finish_stream(self, outcome: RequestEnded | None = None) -> list[SessionAction]:
        actions = [*self._report_end(outcome or self._outcome_of_early_end()), FINISH_STREAM]
        self._close()
        return actions

    def _report_end(self, outcome: RequestEnded) -> list[SessionAction]:
        """The end of the routed request, once. For an unobserved response it is reported by a completion source."""
        reported = self._end_reported or self._decision is None or not self._decision.observe_response
        self._end_reported = True
        return [] if reported else [outcome]

    def _close(self) -> None:
        self.state = SessionState.CLOSED
        self._request_phase.discard_body()


UNDECIDED_STATES: Final = (SessionState.NEW, SessionState.BUFFERING, SessionState.DECIDING)

Transition = Callable[[Session, ProcessingRequest], list[SessionAction]]

TRANSITIONS: Final[Mapping[tuple[SessionState, MessageType], Transition]] = {
    (SessionState.NEW, MessageType.REQUEST_HEADERS): Session._on_request_headers,
    # A filter before ours answered the client, so the request never came to us.
    (SessionState.NEW, MessageType.RESPONSE_HEADERS): Session._on_response_headers,
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
    (SessionState.ROUTED, MessageType.REQUEST_BODY): Session._on_request_body_after_routing,
    (SessionState.ROUTED, MessageType.REQUEST_TRAILERS): Session._on_request_trailers_after_routing,
    (SessionState.ROUTED, MessageType.RESPONSE_HEADERS): Session._on_response_headers,
    (SessionState.ROUTED, MessageType.RESPONSE_BODY): Session._on_response_body,
    (SessionState.ROUTED, MessageType.RESPONSE_TRAILERS): Session._on_response_trailers,
    (SessionState.RESPONDING, MessageType.REQUEST_BODY): Session._on_request_body_after_routing,
    (SessionState.RESPONDING, MessageType.REQUEST_TRAILERS): Session._on_request_trailers_after_routing,
    (SessionState.RESPONDING, MessageType.RESPONSE_BODY): Session._on_response_body,
    (SessionState.RESPONDING, MessageType.RESPONSE_TRAILERS): Session._on_response_trailers,
    (SessionState.RESPONSE_COMPLETE, MessageType.REQUEST_BODY): Session._on_request_body_after_routing,
    (SessionState.RESPONSE_COMPLETE, MessageType.REQUEST_TRAILERS): Session._on_request_trailers_after_routing,
    (SessionState.RESPONSE_COMPLETE, MessageType.RESPONSE_BODY): Session._ignore_repeated_end,
    (SessionState.RESPONSE_COMPLETE, MessageType.RESPONSE_TRAILERS): Session._on_response_trailers,
}

HALF_CLOSE_TRANSITIONS: Final[Mapping[SessionState, Callable[[Session], list[SessionAction]]]] = {
    SessionState.NEW: Session._finish_stream,
    SessionState.BUFFERING: Session._on_half_close_while_buffering,
    # DECIDING: `on_decision` and `on_rejection` end the stream.
    SessionState.FORWARDING: Session._finish_stream,
    SessionState.ROUTED: Session._finish_stream,
    SessionState.RESPONDING: Session._finish_stream,
    SessionState.RESPONSE_COMPLETE: Session._finish_stream,
}
