"""The request phase without a session: what it collects, which limits hold, and which reply carries the destination."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from epp.errors import HeadersTooLarge, PayloadTooLarge
from epp.extproc.codec import BodyMode, Codec
from epp.extproc.request_phase import RequestLimits, RequestPhase
from epp.requestcontrol.interfaces import RoutingDecision
from epp.testing.actions import TranscriptLine, continues, describe_reply, sends_request_body, sends_route
from epp.testing.events import UNSET, BodyModeName, request_body, request_headers

POD = "10.0.0.1:8000"
CODEC = Codec()
UNUSED_REQUEST: Any = None  # the phase passes the routed request on, unread


class PhaseRig:
    """A request phase that receives messages as Envoy encodes them."""

    def __init__(self, mode: BodyModeName | None = "FULL_DUPLEX_STREAMED", limits: RequestLimits | None = None) -> None:
        self.mode = mode
        self.phase = RequestPhase(limits or RequestLimits(), CODEC)

    def receive_headers(
        self, headers: Mapping[str, str] | None = None, *, method: str = "POST", end: bool = False, subset: Any = UNSET
    ) -> RequestPhase:
        line = request_headers(method=method, headers=headers or {}, end=end, mode=self.mode, subset=subset)
        self.phase.receive_headers(CODEC.decode(line.message or b""))
        return self.phase

    def append_body(self, body: bytes, *, end: bool = False) -> None:
        self.phase.append_body(CODEC.decode(request_body(body, end=end).message or b""))

    def append_early_body(self, body: bytes, *, end: bool = False) -> None:
        self.phase.append_early_body(CODEC.decode(request_body(body, end=end).message or b""))

    def replies(self, body: bytes | None = None) -> list[TranscriptLine]:
        """The replies after the whole request arrived, for a decision that replaces the body by `body`."""
        self.phase.take_body()
        decision = RoutingDecision(POD, UNUSED_REQUEST, body=body)
        return [describe_reply(reply) for reply in self.phase.build_replies(decision)]


@pytest.mark.parametrize(
    ("mode", "at_headers"),
    [
        ("FULL_DUPLEX_STREAMED", False),
        ("BUFFERED", False),
        ("BUFFERED_PARTIAL", False),
        (None, False),
        ("STREAMED", True),
        ("NONE", True),
        ("GRPC", True),
    ],
)
def test_the_body_mode_decides_whether_headers_are_routed_before_the_body(
    mode: BodyModeName | None, at_headers: bool
) -> None:
    phase = PhaseRig(mode).receive_headers()
    assert phase.route_at_headers is at_headers
    assert phase.headers.routed_before_body is at_headers
    assert phase.is_streaming is (at_headers and mode != "NONE")


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED"])
def test_a_request_without_body_is_routed_at_its_headers_and_not_before_a_body(mode: BodyModeName) -> None:
    phase = PhaseRig(mode).receive_headers(method="GET", end=True)
    assert (phase.route_at_headers, phase.headers.end_of_stream, phase.headers.routed_before_body) == (
        True,
        True,
        False,
    )
    assert not phase.is_streaming


@pytest.mark.parametrize(
    ("method", "headers", "tunnel"),
    [
        ("CONNECT", {}, True),
        ("GET", {"upgrade": "websocket"}, True),
        ("GET", {}, False),
        ("POST", {"upgrade": "h2c"}, False),
    ],
)
def test_tunnels_are_routed_before_their_body(method: str, headers: dict[str, str], tunnel: bool) -> None:
    assert PhaseRig().receive_headers(headers, method=method).headers.routed_before_body is tunnel


@pytest.mark.parametrize(
    ("content_length", "accepted"),
    [("10", True), ("11", False), ("9" * 18, False), ("1" * 5000, False), ("-1", True), ("ten", True), ("²", True)],
)
def test_content_length_above_the_limit_is_rejected_and_a_malformed_one_left_to_envoy(
    content_length: str, accepted: bool
) -> None:
    rig = PhaseRig(limits=RequestLimits(max_body_bytes=10))
    if accepted:
        rig.receive_headers({"content-length": content_length})
        return
    with pytest.raises(PayloadTooLarge, match="request body above the limit of 10 bytes"):
        rig.receive_headers({"content-length": content_length})


@pytest.mark.parametrize("mode", ["STREAMED", "NONE", "GRPC"])
def test_content_length_does_not_limit_a_body_that_is_not_buffered(mode: BodyModeName) -> None:
    PhaseRig(mode, RequestLimits(max_body_bytes=10)).receive_headers({"content-length": "11"})


def test_header_bytes_are_counted_without_the_metadata_of_the_message() -> None:
    names_and_values = len(":methodPOST:path/v1/completions:schemehttp:authoritygateway")
    subset = ["10.0.0.1:8000"] * 100
    exact = RequestLimits(max_header_bytes=names_and_values)
    assert PhaseRig(limits=exact).receive_headers(subset=subset).headers.subset_hint == tuple(subset)
    with pytest.raises(HeadersTooLarge, match=f"request headers of {names_and_values} bytes; the limit is "):
        PhaseRig(limits=RequestLimits(max_header_bytes=names_and_values - 1)).receive_headers()


def test_a_later_subset_hint_replaces_the_first_and_its_absence_does_not() -> None:
    rig = PhaseRig()
    phase = rig.receive_headers(subset=["10.0.0.1:8000"])
    phase.read_subset_hint(CODEC.decode(request_body(b"x").message or b""))
    assert phase.headers.subset_hint == ("10.0.0.1:8000",)
    phase.read_subset_hint(CODEC.decode(request_body(b"x", subset=["10.0.0.2:8000"]).message or b""))
    assert phase.headers.subset_hint == ("10.0.0.2:8000",)


def test_chunks_above_the_limit_are_rejected() -> None:
    rig = PhaseRig(limits=RequestLimits(max_body_bytes=10))
    rig.receive_headers()
    rig.append_body(b"123456")
    with pytest.raises(PayloadTooLarge):
        rig.append_body(b"78901")


@pytest.mark.parametrize(("mode", "limited"), [("STREAMED", False), ("GRPC", True)])
def test_chunks_before_the_decision_are_limited_if_their_replies_hold_them(mode: BodyModeName, limited: bool) -> None:
    """The replies of mode STREAMED are empty; those of GRPC contain the body."""
    rig = PhaseRig(mode, RequestLimits(max_body_bytes=10))
    rig.receive_headers()
    rig.append_early_body(b"123456")
    if limited:
        with pytest.raises(PayloadTooLarge):
            rig.append_early_body(b"78901")
    else:
        rig.append_early_body(b"78901")
        assert len(rig.phase.early_replies) == 2


def test_full_duplex_replies_to_the_headers_then_forwards_the_body() -> None:
    rig = PhaseRig()
    rig.receive_headers()
    rig.append_body(b"ab")
    assert not rig.phase.end_of_stream
    rig.append_body(b"cd", end=True)
    assert rig.phase.end_of_stream
    assert rig.replies() == [sends_route(POD), sends_request_body(b"abcd", end=True)]


def test_full_duplex_body_before_trailers_has_no_end_and_an_empty_one_no_chunk() -> None:
    for body, chunks in ((b"ab", [sends_request_body(b"ab")]), (b"", [])):
        rig = PhaseRig()
        rig.receive_headers()
        rig.append_body(body)
        rig.phase.has_trailers = True
        assert rig.replies() == [sends_route(POD), *chunks, continues("request_trailers")]


def test_buffered_body_is_complete_with_its_only_message_even_before_trailers() -> None:
    rig = PhaseRig("BUFFERED")
    rig.receive_headers()
    rig.append_body(b"ab")
    assert rig.phase.end_of_stream
    rig.phase.has_trailers = True
    assert rig.replies(b"new") == [
        sends_route(POD, at="body", sets={"content-length": "3"}, body=b"new"),
        continues("request_trailers"),
    ]


def test_buffered_trailers_without_body_carry_the_route() -> None:
    rig = PhaseRig("BUFFERED")
    rig.receive_headers()
    rig.phase.has_trailers = True
    assert rig.replies() == [sends_route(POD, at="trailers")]


def test_a_partially_buffered_body_is_dropped_and_not_replaced() -> None:
    rig = PhaseRig("BUFFERED_PARTIAL")
    phase = rig.receive_headers()
    rig.append_body(b'{"model":')
    assert phase.take_body() == b""
    assert phase.headers.routed_before_body
    assert rig.replies(b"new") == [sends_route(POD, at="body")]


def test_streamed_replies_of_early_chunks_follow_the_route() -> None:
    rig = PhaseRig("STREAMED")
    phase = rig.receive_headers()
    rig.append_early_body(b"x")
    assert phase.is_streaming
    rig.append_early_body(b"y", end=True)
    assert not phase.is_streaming
    assert rig.replies() == [sends_route(POD), continues("request_body"), continues("request_body")]


def test_control_headers_are_removed_in_the_reply() -> None:
    rig = PhaseRig()
    phase = rig.receive_headers({"x-llm-d-slo-ttft-ms": "100", "x-prefiller-host-port": "169.254.169.254:80"}, end=True)
    assert phase.headers.headers.keys() & {"x-llm-d-slo-ttft-ms", "x-prefiller-host-port"} == {"x-llm-d-slo-ttft-ms"}
    assert rig.replies() == [sends_route(POD, removes=["x-llm-d-slo-ttft-ms", "x-prefiller-host-port"])]


def test_discard_body_frees_the_body_and_the_replies() -> None:
    rig = PhaseRig("GRPC")
    phase = rig.receive_headers()
    rig.append_early_body(b"x" * 100)
    phase.discard_body()
    assert phase.early_replies == []
    assert phase.take_body() == b""


def test_without_protocol_config_the_mode_is_full_duplex() -> None:
    assert PhaseRig(None).receive_headers().body_mode is BodyMode.FULL_DUPLEX_STREAMED
