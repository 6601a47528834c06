"""A session for any order of messages, valid or not, against a model of a gateway that is as strict as Envoy."""

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
    """Plays a script to a session, carries out its actions, and checks that every reply is one that Envoy waits for."""

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
        self.requested = False
        self.deciding = False
        self.cancelled = False
        self.silent = False
        self.finished = False
        self.ends: list[str] = []
        self.data = b""

    def send_message(self, line: TranscriptLine) -> None:
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
        self.execute(self.session.receive(line.message))

    def half_close(self) -> None:
        if not (self.finished or self.half_closed):
            self.half_closed = True
            self.execute(self.session.on_half_close())

    def execute(self, actions: list[Any]) -> None:
        for action in actions:
            assert not self.finished, f"{action} after the end"
            match action:
                case bytes():
                    self.on_reply(describe_reply(action))
                case StartDecision():
                    assert not self.requested, "two decisions for one stream"
                    self.requested = self.deciding = True
                case CancelDecision():
                    assert self.deciding
                    self.cancelled, self.deciding = True, False
                case FinishStream():
                    self.finished = True
                case ObservabilityMode():
                    self.silent = True
                case RequestEnded():
                    self.ends.append(action.cause)
                case ResponseData():
                    self.data += action.data

    def decide(self, result: RoutingDecision | NoEndpoints) -> None:
        if not self.deciding or self.finished:
            return
        self.deciding = False
        assert self.session.state is SessionState.DECIDING
        if isinstance(result, RoutingDecision):
            if not self.bodies["request"]:
                result = msgspec.structs.replace(result, body=None)  # there is nothing to replace
            self.execute(self.session.on_decision(result))
        else:
            self.execute(self.session.on_rejection(result))

    def on_reply(self, line: TranscriptLine) -> None:
        if self.silent:
            return
        assert line.name != "sends", f"a reply in no known form: {line}"
        self.replies.append(line)
        if line.name == "sends_immediate_response":
            assert not any(each.name == "sends_route" for each in self.replies), "rejected after the route"
            return
        if not self.orderly:
            return  # a gateway that sends messages out of order waits for no particular reply
        phase = replied_phase(line)
        ended_by_closing = self.mode is None and self.half_closed and line.details.get("body") == b""
        assert phase in self.sent or ended_by_closing, f"{line} was not waited for"
        side, kind = phase.split("_")
        earlier = [replied_phase(each) for each in self.replies[:-1]]
        if kind != "body" or not self.duplex[side]:
            assert earlier.count(phase) < self.sent.count(phase), f"{line}: more replies than messages"
        # Headers, then body, then trailers.
        order = REQUEST if side == "request" else RESPONSE
        later = order[order.index(phase) + 1 :]
        assert not any(each in later for each in earlier), f"{line} after {earlier}"
        if side == "request" and kind != "headers":
            assert "request_headers" in earlier, f"{line} before the reply to the headers"


def replied_phase(line: TranscriptLine) -> str:
    """The phase to which a reply belongs."""
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


chunks = st.builds(
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
steps = st.lists(st.one_of(chunks, chunks, others, st.sampled_from(["decide", "half-close"])), max_size=12)
results = st.one_of(
    st.builds(
        lambda observe, body, sets: RoutingDecision(POD, None, observe, sets, body),  # type: ignore[arg-type]
        st.booleans(),
        st.none() | st.binary(max_size=20),
        st.sampled_from([{}, {"x-request-id": "1"}]),
    ),
    st.just(NoEndpoints("none")),
)
first_messages = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["POST", "POST", "POST", "GET", "CONNECT"]),
        "end": st.sampled_from([False, False, True]),
        "observability": st.sampled_from([False, False, False, True]),
    }
)


@settings(max_examples=500)
@given(st.sampled_from(MODES), st.none() | st.sampled_from(MODES), first_messages, results, st.booleans(), steps)
def test_every_reply_is_one_that_the_gateway_waits_for(mode, response_mode, first_message, result, immediate, script):
    gateway = Gateway(mode, response_mode)
    first = events.request_headers(mode=mode, response_mode=response_mode, **first_message)
    for step in [first, *script]:
        if step == "half-close":
            gateway.half_close()
        elif step == "decide":
            gateway.decide(result)
        else:
            gateway.send_message(step)
        if immediate:
            gateway.decide(result)
    gateway.decide(result)
    routed = (
        gateway.requested and not gateway.cancelled and isinstance(result, RoutingDecision) and not gateway.deciding
    )
    check_forwarded_bodies(gateway, result, routed)
    if not gateway.finished:
        gateway.execute(gateway.session.on_cancel())
    event(f"routed: {any(line.name == 'sends_route' for line in gateway.replies)}")
    assert len(gateway.ends) == (1 if routed and result.observe_response else 0), gateway.ends
    assert gateway.silent == first_message["observability"]
    assert not gateway.silent or not gateway.replies
    assert gateway.session.receive(first.message) == []
    assert gateway.session.on_cancel() == []


def check_forwarded_bodies(gateway: Gateway, result: Any, routed: bool) -> None:
    """Full duplex forwards what was received: no byte is lost, doubled or moved."""
    forwarded = dict.fromkeys(gateway.bodies, b"")
    for line in gateway.replies:
        if line.name in {"sends_request_body", "sends_response_body"}:
            forwarded[replied_phase(line).removesuffix("_body")] += line.details["body"]
    if forwarded_lines := [line for line in gateway.replies if line.name == "sends_request_body"]:
        unchanged = result.body is None or forwarded["request"] != result.body
        assert not unchanged or gateway.bodies["request"].startswith(forwarded["request"]), forwarded_lines
    assert gateway.bodies["response"].startswith(forwarded["response"])
    assert gateway.bodies["response"].startswith(gateway.data)
    assert not forwarded["request"] or routed
