"""A session for every order of messages that Hypothesis finds, sound or not, against a gateway as strict as Envoy."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from epp.errors import NoEndpoints
from epp.extproc.actions import (
    CancelDecision,
    FinishStream,
    ObservabilityMode,
    RequestEnded,
    ResponseData,
    StartDecision,
)
from epp.extproc.codec import Codec
from epp.extproc.session import RequestLimits, Session, SessionState
from epp.requestcontrol.interfaces import RoutingDecision
from epp.testing import events
from epp.testing.actions import TranscriptLine, describe_reply

POD = "10.0.0.1:8000"
MODES = [
    "FULL_DUPLEX_STREAMED",
    "FULL_DUPLEX_STREAMED",
    "BUFFERED",
    "BUFFERED_PARTIAL",
    "STREAMED",
    "NONE",
    "GRPC",
    None,
]
REQUEST = ("request_headers", "request_body", "request_trailers")
RESPONSE = ("response_headers", "response_body", "response_trailers")
ORDER = REQUEST + RESPONSE


class Gateway:
    """Plays a script to a session, does its effects, and checks that every reply is one that a gateway waits for."""

    def __init__(self, mode: str | None, response_mode: str | None) -> None:
        self.session = Session(RequestLimits(max_body_bytes=1000), Codec())
        self.duplex = {
            "request": mode in {"FULL_DUPLEX_STREAMED", "GRPC", None},
            "response": (response_mode or mode) in {"FULL_DUPLEX_STREAMED", "GRPC", None},
        }
        self.mode = mode
        self.sent: list[str] = []
        self.replies: list[TranscriptLine] = []
        self.bodies = {"request": b"", "response": b""}
        self.orderly = True
        self.half_closed = False
        self.asked = False
        self.deciding = False
        self.abandoned = False
        self.muted = False
        self.finished = False
        self.ends: list[str] = []
        self.data = b""

    def message(self, line: TranscriptLine) -> None:
        if self.finished or self.half_closed:
            return
        if line.name in ORDER:
            same = [each for each in self.sent if each.split("_")[0] == line.name.split("_")[0]]
            later = ORDER[ORDER.index(line.name) + ("body" in line.name) :]
            self.orderly = self.orderly and not any(each in later for each in same)
        self.sent.append(line.name)
        for phase in self.bodies:
            if line.name == f"{phase}_body":
                self.bodies[phase] += line.details["body"]
        assert line.message is not None
        self.do(self.session.receive(line.message))

    def half_close(self) -> None:
        if not (self.finished or self.half_closed):
            self.half_closed = True
            self.do(self.session.on_half_close())

    def do(self, effects: list[Any]) -> None:
        for effect in effects:
            assert not self.finished, f"{effect} after the end"
            match effect:
                case bytes():
                    self.reply(describe_reply(effect))
                case StartDecision():
                    assert not self.asked, "asked twice"
                    self.asked = self.deciding = True
                case CancelDecision():
                    assert self.deciding
                    self.abandoned, self.deciding = True, False
                case FinishStream():
                    self.finished = True
                case ObservabilityMode():
                    self.muted = True
                case RequestEnded():
                    self.ends.append(effect.cause)
                case ResponseData():
                    self.data += effect.data

    def decide(self, answer: RoutingDecision | NoEndpoints) -> None:
        if not self.deciding or self.finished:
            return
        self.deciding = False
        assert self.session.state is SessionState.DECIDING
        if isinstance(answer, RoutingDecision):
            if not self.bodies["request"]:
                answer = msgspec.structs.replace(answer, body=None)  # there is nothing to replace
            self.do(self.session.on_decision(answer))
        else:
            self.do(self.session.on_rejection(answer))

    def reply(self, line: TranscriptLine) -> None:
        if self.muted:
            return
        assert line.name != "sends", f"a reply in no known form: {line}"
        self.replies.append(line)
        if line.name == "sends_immediate_response":
            assert not any(each.name == "sends_route" for each in self.replies), "refused after the choice"
            return
        if not self.orderly:
            return  # whatever it waits for
        phase = answered(line)
        ended_by_closing = self.mode is None and self.half_closed and line.details.get("body") == b""
        assert phase in self.sent or ended_by_closing, f"{line} was not waited for"
        side, kind = phase.split("_")
        earlier = [answered(each) for each in self.replies[:-1]]
        if kind != "body" or not self.duplex[side]:
            assert earlier.count(phase) < self.sent.count(phase), f"{line}: more replies than messages"
        # Headers, then body, then trailers.
        order = REQUEST if side == "request" else RESPONSE
        later = order[order.index(phase) + 1 :]
        assert not any(each in later for each in earlier), f"{line} after {earlier}"
        if side == "request" and kind != "headers":
            assert "request_headers" in earlier, f"{line} before the reply to the headers"


def answered(line: TranscriptLine) -> str:
    """Which phase a reply belongs to."""
    match line.name:
        case "sends_route":
            return f"request_{line.details['at']}"
        case "continues":
            return str(line.details["phase"])
        case "marks_response":
            return "response_headers"
        case "sends_request_body" | "sends_response_body":
            return line.name.removeprefix("sends_")
    return ""


pieces = st.builds(
    lambda build, body, end: build(body, end=end),
    st.sampled_from([events.request_body, events.request_body, events.response_body]),
    st.binary(max_size=40),
    st.booleans(),
)
others = st.sampled_from(
    [
        events.request_trailers(),
        events.response_headers(200),
        events.response_headers(200, end=True, served=POD),
        events.response_trailers(),
        events.request_headers(end=True),
        events.raw_message(b"\xff"),
    ]
)
steps = st.lists(st.one_of(pieces, pieces, others, st.sampled_from(["decide", "half-close"])), max_size=12)
answers = st.one_of(
    st.builds(
        lambda observe, body, sets: RoutingDecision(POD, None, observe, sets, body),  # type: ignore[arg-type]
        st.booleans(),
        st.none() | st.binary(max_size=20),
        st.sampled_from([{}, {"x-request-id": "1"}]),
    ),
    st.just(NoEndpoints("none")),
)
heads = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["POST", "POST", "POST", "GET", "CONNECT"]),
        "end": st.sampled_from([False, False, True]),
        "observability": st.sampled_from([False, False, False, True]),
    }
)


@settings(max_examples=500)
@given(st.sampled_from(MODES), st.none() | st.sampled_from(MODES), heads, answers, st.booleans(), steps)
def test_whatever_comes_the_gateway_is_answered_in_its_order(mode, response_mode, head, answer, at_once, script):
    gateway = Gateway(mode, response_mode)
    first = events.request_headers(mode=mode, response_mode=response_mode, **head)
    for step in [first, *script]:
        if step == "half-close":
            gateway.half_close()
        elif step == "decide":
            gateway.decide(answer)
        else:
            gateway.message(step)
        if at_once:
            gateway.decide(answer)
    gateway.decide(answer)
    chosen = gateway.asked and not gateway.abandoned and isinstance(answer, RoutingDecision) and not gateway.deciding
    passed_whole(gateway, answer, chosen)
    if not gateway.finished:
        gateway.do(gateway.session.on_cancel())
    routed = any(line.name == "sends_route" for line in gateway.replies)
    event(f"routed: {routed}")
    assert len(gateway.ends) == (1 if chosen and answer.observe_response else 0), gateway.ends
    assert gateway.muted == head["observability"]
    assert not gateway.muted or not gateway.replies
    assert gateway.session.receive(first.message) == []
    assert gateway.session.on_cancel() == []


def passed_whole(gateway: Gateway, answer: Any, chosen: bool) -> None:
    """What full duplex passes on is what came: no octet lost, doubled or moved."""
    said = dict.fromkeys(gateway.bodies, b"")
    for line in gateway.replies:
        if line.name in {"sends_request_body", "sends_response_body"}:
            said[answered(line).removesuffix("_body")] += line.details["body"]
    if answered_whole := [line for line in gateway.replies if line.name == "sends_request_body"]:
        unseen = answer.body is None or said["request"] != answer.body
        assert not unseen or gateway.bodies["request"].startswith(said["request"]), answered_whole
    assert gateway.bodies["response"].startswith(said["response"])
    assert gateway.bodies["response"].startswith(gateway.data)
    assert not said["request"] or chosen
