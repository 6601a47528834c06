"""The table of the session: what every message is in every state. Its streams are in tests/conformance/extproc."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from epp.errors import BadRequest
from epp.extproc.actions import Abandon, Decide, Effect, Finish, Over
from epp.extproc.codec import Kind
from epp.extproc.session import AT_HALF_CLOSE, STEPS, Limits, Session, State
from epp.pb import ext_proc_pb2 as pb
from epp.requestcontrol.interfaces import Route

FULL_DUPLEX = 4
STREAMED = 1


class Quiet:
    """A flight that nobody asks."""

    def served(self, target: str) -> None: ...

    def response_started(self, status: int, headers: Mapping[str, str]) -> None: ...

    def response_data(self, data: bytes) -> None: ...

    def ended(self, cause: str) -> None: ...


def message(kind: Kind, *, mode: int = FULL_DUPLEX, end: bool = False) -> bytes:
    """One of each kind."""
    request = pb.ProcessingRequest()
    request.protocol_config.request_body_mode = mode  # type: ignore[assignment]
    request.protocol_config.response_body_mode = mode  # type: ignore[assignment]
    phase = getattr(request, kind.name.lower())
    phase.SetInParent()
    if kind in {Kind.REQUEST_BODY, Kind.RESPONSE_BODY}:
        phase.body, phase.end_of_stream = b"x", end
    return request.SerializeToString()


def brought_to(state: State) -> Session:
    """A session in this state, by the shortest way."""
    mode = STREAMED if state is State.FORWARDING else FULL_DUPLEX
    session = Session(Limits())
    way: list[bytes] = [message(Kind.REQUEST_HEADERS, mode=mode), message(Kind.REQUEST_BODY, mode=mode, end=True)]
    way += [message(Kind.RESPONSE_HEADERS), message(Kind.RESPONSE_TRAILERS)]
    if state is State.CLOSED:
        session.lost()
    while session.state is not state:
        effects = session.receive(way.pop(0))
        if any(isinstance(effect, Decide) for effect in effects) and state is not State.DECIDING:
            session.decided(Route("10.0.0.1:8000", Quiet()))
    return session


def immediate(effects: list[Effect]) -> int | None:
    """The status of the answer from us among the effects."""
    for effect in effects:
        if isinstance(effect, bytes):
            reply = pb.ProcessingResponse.FromString(effect)
            if reply.HasField("immediate_response"):
                return int(reply.immediate_response.status.code)
    return None


@pytest.mark.parametrize(
    ("state", "kind"), [(state, kind) for state in State for kind in Kind if (state, kind) not in STEPS]
)
def test_a_message_without_a_step_ends_the_stream_well(state: State, kind: Kind):
    session = brought_to(state)
    effects = session.receive(message(kind))
    if state is State.CLOSED:
        assert effects == []
        return
    assert session.state is State.CLOSED
    assert isinstance(effects[-1], Finish)
    undecided = state in {State.NEW, State.GATHERING, State.DECIDING}
    assert immediate(effects) == (500 if undecided else None)
    assert any(isinstance(effect, Abandon) for effect in effects) == (state is State.DECIDING)
    told = [effect.cause for effect in effects if isinstance(effect, Over)]
    assert told == ([] if undecided or state is State.ENDED else ["error"])


@pytest.mark.parametrize("state", State)
def test_every_state_knows_what_a_half_close_is(state: State):
    assert (state in AT_HALF_CLOSE) == (state not in {State.DECIDING, State.CLOSED})
    session = brought_to(state)
    effects = session.half_closed()
    if state in {State.DECIDING, State.CLOSED}:
        assert effects == []
    else:
        assert isinstance(effects[-1], Finish)
        assert session.half_closed() == []


@pytest.mark.parametrize("state", State)
def test_after_a_loss_nothing_more_happens(state: State):
    session = brought_to(state)
    effects = session.lost()
    assert not any(isinstance(effect, (bytes, Finish)) for effect in effects)
    assert session.lost() == session.half_closed() == session.rejected(BadRequest("late")) == []
    assert all(session.receive(message(kind)) == [] for kind in Kind)


@pytest.mark.parametrize(
    "state", [state for state in State if state not in {State.NEW, State.GATHERING, State.DECIDING}]
)
def test_a_refusal_after_the_choice_is_too_late(state: State):
    session = brought_to(state)
    assert session.rejected(BadRequest("late")) == []
    assert session.state is state


def test_a_route_ends_once_whatever_follows():
    """Every order of messages, half-close and loss, drawn at random: a route that is observed ends exactly once."""
    rng = Random(1)
    for _ in range(2000):
        session, ends, routed = Session(Limits()), 0, False
        for _ in range(rng.randrange(1, 10)):
            kind = rng.choice(list(Kind))
            effects = session.receive(message(kind, mode=rng.choice([0, 1, 2, 3, 4, 5]), end=rng.random() < 0.5))
            ends += sum(isinstance(effect, Over) for effect in effects)
            if session.state is State.DECIDING and rng.random() < 0.7:
                routed = True
                ends += sum(isinstance(effect, Over) for effect in session.decided(Route("10.0.0.1:8000", Quiet())))
            if rng.random() < 0.1:
                ends += sum(isinstance(effect, Over) for effect in session.half_closed())
        ends += sum(isinstance(effect, Over) for effect in session.lost())
        assert ends == routed
