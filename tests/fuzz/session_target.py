"""Fuzz target: the ext_proc session. Any messages give known replies and no gRPC error; a routed request ends once."""

from __future__ import annotations

from collections.abc import Mapping

from epp.errors import NoEndpoints
from epp.extproc import handler
from epp.extproc.session import RequestLimits
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from epp.tasks import Tasks
from epp.testing import events
from epp.testing.actions import TranscriptLine, describe_reply

LIMIT = 4096
OBSERVED, UNOBSERVED, REJECTED = range(3)


def encode_script(*lines: TranscriptLine, result: int = OBSERVED) -> bytes:
    """One byte for the result of the router, then messages, each after its length in two bytes."""
    messages = [line.message or b"" for line in lines]
    return bytes([result]) + b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def encode_transcript(mode: events.BodyModeName | None, result: int) -> bytes:
    """A request and its response."""
    return encode_script(
        events.request_headers(
            mode=mode, headers={"cookie": "a=1", "x-llm-d-inference-objective": "o"}, subset=["a:1"]
        ),
        events.request_body(b'{"model": ', subset="a:1,b:2"),
        events.request_body(b'"m"}', end=True),
        events.request_trailers(),
        events.response_headers(200, served="a:1"),
        events.response_body(b"data: 1\n\n"),
        events.response_body(b"", end=True),
        events.response_trailers(),
        result=result,
    )


SEEDS = [
    *(
        encode_transcript(mode, OBSERVED)
        for mode in ("FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED", "NONE", "GRPC", None)
    ),
    encode_transcript("FULL_DUPLEX_STREAMED", UNOBSERVED),
    encode_transcript("STREAMED", REJECTED),
    encode_script(events.request_headers(end=True), events.response_headers(503, end=True)),
    encode_script(events.request_headers(method="CONNECT"), events.request_body(b"x"), events.response_body(b"y")),
    encode_script(events.response_headers(401, mode="STREAMED"), events.response_body(b"no", end=True)),
    encode_script(events.request_headers(mode="STREAMED", observability=True), events.response_headers(200, end=True)),
]


class FuzzPeer:
    """The call and the router of one stream; checks what the session sends and routes."""

    def __init__(self, result: int) -> None:
        self.result = result
        self.decisions = 0
        self.ended = 0
        self.finished = False
        self.status = 0

    def send(self, message: bytes) -> None:
        assert not self.finished, "sent after the end"
        assert describe_reply(message).name != "sends", describe_reply(message)

    def finish(self, status: int = 0, message: str = "") -> None:
        self.finished, self.status = True, status

    def route_request(self, headers: RequestHeaders, body: bytes) -> RoutingDecision:
        self.decisions += 1
        assert len(body) <= LIMIT
        if self.result == REJECTED:
            raise NoEndpoints("none")
        return RoutingDecision("10.0.0.1:8000", _CountedRequest(self), self.result == OBSERVED)


class _CountedRequest:
    def __init__(self, peer: FuzzPeer) -> None:
        self._peer = peer

    def on_served_by(self, target: str) -> None:
        assert isinstance(target, str)

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        assert 0 <= status <= 999

    def on_response_body(self, data: bytes) -> None:
        assert data

    def finalize(self, cause: str) -> None:
        self._peer.ended += 1


def check(data: bytes) -> None:
    """Plays one stream, which is cancelled at the end."""
    if not data:
        return
    peer = FuzzPeer(data[0] % 3)
    stream = handler.ext_proc_methods(peer, Tasks("fuzz"), RequestLimits(max_body_bytes=LIMIT), 1.0)[
        handler.PROCESS_METHOD
    ](peer)
    at = 1
    while at + 2 <= len(data) and not peer.finished:
        size = int.from_bytes(data[at : at + 2], "big")
        stream.on_message(data[at + 2 : at + 2 + size])
        at += 2 + size
    if not peer.finished and len(data) % 2:
        stream.on_half_close()
    if not peer.finished:
        stream.on_cancel()
    assert peer.status == 0, "a gRPC error on a live stream"
    assert peer.decisions <= 1
    assert peer.ended == (peer.decisions if peer.result == OBSERVED else 0)
