"""The table of the session: what every message is in every state. Its streams are in tests/conformance/extproc."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from epp.errors import BadRequest
from epp.extproc.actions import CancelDecision, FinishStream, RequestDecision, RequestEnded, SessionAction
from epp.extproc.codec import MessageType
from epp.extproc.session import HALF_CLOSE_TRANSITIONS, TRANSITIONS, RequestLimits, Session, SessionState
from epp.pb import ext_proc_pb2 as pb
from epp.requestcontrol.interfaces import RoutingDecision

FULL_DUPLEX = 4
STREAMED = 1


class Quiet:
    """A flight that nobody asks."""

    def on_served_by(self, target: str) -> None: ...

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None: ...

    def on_response_body(self, data: bytes) -> None: ...

    def finalize(self, cause: str) -> None: ...


def message(kind: MessageType, *, mode: int = FULL_DUPLEX, end: bool = False) -> bytes:
    """One of each kind."""
    request = pb.ProcessingRequest()
    request.protocol_config.request_body_mode = mode  # type: ignore[assignment]
    request.protocol_config.response_body_mode = mode  # type: ignore[assignment]
    phase = getattr(request, kind.name.lower())
    phase.SetInParent()
    if kind in {MessageType.REQUEST_BODY, MessageType.RESPONSE_BODY}:
        phase.body, phase.end_of_stream = b"x", end
    return request.SerializeToString()


def brought_to(state: SessionState) -> Session:
    """A session in this state, by the shortest way."""
    mode = STREAMED if state is SessionState.FORWARDING else FULL_DUPLEX
    session = Session(RequestLimits())
    way: list[bytes] = [
        message(MessageType.REQUEST_HEADERS, mode=mode),
        message(MessageType.REQUEST_BODY, mode=mode, end=True),
    ]
    way += [message(MessageType.RESPONSE_HEADERS), message(MessageType.RESPONSE_TRAILERS)]
    if state is SessionState.CLOSED:
        session.on_cancel()
    while session.state is not state:
        effects = session.receive(way.pop(0))
        if any(isinstance(effect, RequestDecision) for effect in effects) and state is not SessionState.DECIDING:
            session.on_decision(RoutingDecision("10.0.0.1:8000", Quiet()))
    return session


def immediate(effects: list[SessionAction]) -> int | None:
    """The status of the answer from us among the effects."""
    for effect in effects:
        if isinstance(effect, bytes):
            reply = pb.ProcessingResponse.FromString(effect)
            if reply.HasField("immediate_response"):
                return int(reply.immediate_response.status.code)
    return None


@pytest.mark.parametrize(
    ("state", "kind"),
    [(state, kind) for state in SessionState for kind in MessageType if (state, kind) not in TRANSITIONS],
)
def test_a_message_without_a_step_ends_the_stream_well(state: SessionState, kind: MessageType):
    session = brought_to(state)
    effects = session.receive(message(kind))
    if state is SessionState.CLOSED:
        assert effects == []
        return
    assert session.state is SessionState.CLOSED
    assert isinstance(effects[-1], FinishStream)
    undecided = state in {SessionState.NEW, SessionState.BUFFERING, SessionState.DECIDING}
    assert immediate(effects) == (500 if undecided else None)
    assert any(isinstance(effect, CancelDecision) for effect in effects) == (state is SessionState.DECIDING)
    told = [effect.cause for effect in effects if isinstance(effect, RequestEnded)]
    assert told == ([] if undecided or state is SessionState.RESPONSE_COMPLETE else ["error"])


@pytest.mark.parametrize("state", SessionState)
def test_every_state_knows_what_a_half_close_is(state: SessionState):
    assert (state in HALF_CLOSE_TRANSITIONS) == (state not in {SessionState.DECIDING, SessionState.CLOSED})
    session = brought_to(state)
    effects = session.on_half_close()
    if state in {SessionState.DECIDING, SessionState.CLOSED}:
        assert effects == []
    else:
        assert isinstance(effects[-1], FinishStream)
        assert session.on_half_close() == []


@pytest.mark.parametrize("state", SessionState)
def test_after_a_loss_nothing_more_happens(state: SessionState):
    session = brought_to(state)
    effects = session.on_cancel()
    assert not any(isinstance(effect, (bytes, FinishStream)) for effect in effects)
    assert session.on_cancel() == session.on_half_close() == session.on_rejection(BadRequest("late")) == []
    assert all(session.receive(message(kind)) == [] for kind in MessageType)


@pytest.mark.parametrize(
    "state",
    [state for state in SessionState if state not in {SessionState.NEW, SessionState.BUFFERING, SessionState.DECIDING}],
)
def test_a_refusal_after_the_choice_is_too_late(state: SessionState):
    session = brought_to(state)
    assert session.on_rejection(BadRequest("late")) == []
    assert session.state is state


def test_a_route_ends_once_whatever_follows():
    """Every order of messages, half-close and loss, drawn at random: a route that is observed ends exactly once."""
    rng = Random(1)
    for _ in range(2000):
        session, ends, routed = Session(RequestLimits()), 0, False
        for _ in range(rng.randrange(1, 10)):
            kind = rng.choice(list(MessageType))
            effects = session.receive(message(kind, mode=rng.choice([0, 1, 2, 3, 4, 5]), end=rng.random() < 0.5))
            ends += sum(isinstance(effect, RequestEnded) for effect in effects)
            if session.state is SessionState.DECIDING and rng.random() < 0.7:
                routed = True
                ends += sum(
                    isinstance(effect, RequestEnded)
                    for effect in session.on_decision(RoutingDecision("10.0.0.1:8000", Quiet()))
                )
            if rng.random() < 0.1:
                ends += sum(isinstance(effect, RequestEnded) for effect in session.on_half_close())
        ends += sum(isinstance(effect, RequestEnded) for effect in session.on_cancel())
        assert ends == routed
