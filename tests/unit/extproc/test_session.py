"""The session's transition table: every message in every state. Whole streams are in tests/conformance/extproc."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from epp.errors import BadRequest
from epp.extproc.actions import CancelDecision, FinishStream, RequestEnded, SessionAction, StartDecision
from epp.extproc.codec import Codec, MessageType
from epp.extproc.session import HALF_CLOSE_TRANSITIONS, TRANSITIONS, RequestLimits, Session, SessionState
from epp.pb import ext_proc_pb2 as pb
from epp.requestcontrol.interfaces import RoutingDecision

FULL_DUPLEX = 4
STREAMED = 1
UNDECIDED = {SessionState.NEW, SessionState.BUFFERING, SessionState.DECIDING}


class IgnoringRequest:
    """Implements `RoutedRequest`; ignores its events."""

    def on_served_by(self, target: str) -> None: ...

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None: ...

    def on_response_body(self, data: bytes) -> None: ...

    def finalize(self, cause: str) -> None: ...


def new_session() -> Session:
    return Session(RequestLimits(), Codec())


def build_decision() -> RoutingDecision:
    return RoutingDecision("10.0.0.1:8000", IgnoringRequest())


def encode_message(message_type: MessageType, *, mode: int = FULL_DUPLEX, end: bool = False) -> bytes:
    """A ProcessingRequest of this type."""
    request = pb.ProcessingRequest()
    request.protocol_config.request_body_mode = mode  # type: ignore[assignment]
    request.protocol_config.response_body_mode = mode  # type: ignore[assignment]
    phase = getattr(request, message_type.name.lower())
    phase.SetInParent()
    if message_type in {MessageType.REQUEST_BODY, MessageType.RESPONSE_BODY}:
        phase.body, phase.end_of_stream = b"x", end
    return request.SerializeToString()


def session_in_state(state: SessionState) -> Session:
    """A session brought to this state by as few messages as possible."""
    mode = STREAMED if state is SessionState.FORWARDING else FULL_DUPLEX
    session = new_session()
    messages = [
        encode_message(MessageType.REQUEST_HEADERS, mode=mode),
        encode_message(MessageType.REQUEST_BODY, mode=mode, end=True),
        encode_message(MessageType.RESPONSE_HEADERS),
        encode_message(MessageType.RESPONSE_TRAILERS),
    ]
    if state is SessionState.CLOSED:
        session.on_cancel()
    while session.state is not state:
        actions = session.receive(messages.pop(0))
        if any(isinstance(action, StartDecision) for action in actions) and state is not SessionState.DECIDING:
            session.on_decision(build_decision())
    return session


def immediate_status(actions: list[SessionAction]) -> int | None:
    """The status of the ImmediateResponse among the actions."""
    for action in actions:
        if isinstance(action, bytes):
            reply = pb.ProcessingResponse.FromString(action)
            if reply.HasField("immediate_response"):
                return int(reply.immediate_response.status.code)
    return None


def count_ends(actions: list[SessionAction]) -> int:
    return sum(isinstance(action, RequestEnded) for action in actions)


@pytest.mark.parametrize(
    ("state", "message_type"),
    [(state, each) for state in SessionState for each in MessageType if (state, each) not in TRANSITIONS],
)
def test_a_message_without_transition_ends_the_stream_without_grpc_error(
    state: SessionState, message_type: MessageType
):
    session = session_in_state(state)
    actions = session.receive(encode_message(message_type))
    if state is SessionState.CLOSED:
        assert actions == []
        return
    assert session.state is SessionState.CLOSED
    assert isinstance(actions[-1], FinishStream)
    assert immediate_status(actions) == (500 if state in UNDECIDED else None)
    assert any(isinstance(action, CancelDecision) for action in actions) == (state is SessionState.DECIDING)
    causes = [action.cause for action in actions if isinstance(action, RequestEnded)]
    assert causes == ([] if state in UNDECIDED or state is SessionState.RESPONSE_COMPLETE else ["error"])


@pytest.mark.parametrize("state", SessionState)
def test_half_close_in_every_state(state: SessionState):
    ignored = {SessionState.DECIDING, SessionState.CLOSED}
    assert (state in HALF_CLOSE_TRANSITIONS) == (state not in ignored)
    session = session_in_state(state)
    actions = session.on_half_close()
    if state in ignored:
        assert actions == []
    else:
        assert isinstance(actions[-1], FinishStream)
        assert session.on_half_close() == []


@pytest.mark.parametrize("state", SessionState)
def test_after_cancel_every_event_is_ignored(state: SessionState):
    session = session_in_state(state)
    actions = session.on_cancel()
    assert not any(isinstance(action, (bytes, FinishStream)) for action in actions)
    assert session.on_cancel() == session.on_half_close() == session.on_rejection(BadRequest("late")) == []
    assert all(session.receive(encode_message(each)) == [] for each in MessageType)


@pytest.mark.parametrize("state", [state for state in SessionState if state not in UNDECIDED])
def test_a_rejection_after_the_decision_is_ignored(state: SessionState):
    session = session_in_state(state)
    assert session.on_rejection(BadRequest("late")) == []
    assert session.state is state


def test_an_observed_request_ends_once_in_any_order_of_events():
    """Messages, half-close and cancel in random order."""
    rng = Random(1)
    for _ in range(2000):
        session, ends, routed = new_session(), 0, False
        for _ in range(rng.randrange(1, 10)):
            message_type = rng.choice(list(MessageType))
            mode, end = rng.choice([0, 1, 2, 3, 4, 5]), rng.random() < 0.5
            ends += count_ends(session.receive(encode_message(message_type, mode=mode, end=end)))
            if session.state is SessionState.DECIDING and rng.random() < 0.7:
                routed = True
                ends += count_ends(session.on_decision(build_decision()))
            if rng.random() < 0.1:
                ends += count_ends(session.on_half_close())
        ends += count_ends(session.on_cancel())
        assert ends == routed
