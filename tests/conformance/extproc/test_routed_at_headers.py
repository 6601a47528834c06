"""Requests routed at their headers: modes streamed, none and gRPC, and tunnels."""

from __future__ import annotations

import pytest

from epp.testing.actions import (
    closes_stream,
    continues,
    delivers_event,
    marks_response,
    requests_decision,
    sends_request_body,
    sends_response_body,
    sends_route,
)
from epp.testing.events import (
    half_closes,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    routes,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"
UNBUFFERED_MODES = ["STREAMED", "NONE"]


def test_streamed_routes_at_the_headers_and_closes_after_the_body():
    (
        Playbook()
        .receives(request_headers(mode="STREAMED"))
        .expects(requests_decision(before_body=True))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD))
        .receives(request_body(b"x"))
        .expects(continues("request_body"))
        .receives(request_body(b"y", end=True))
        .expects(continues("request_body"), closes_stream())
        .run()
    )


def test_streamed_chunks_before_the_decision_are_continued_after_it():
    (
        Playbook()
        .receives(request_headers(mode="STREAMED"))
        .expects(requests_decision(before_body=True))
        .receives(request_body(b"x"), request_body(b"y", end=True), routes(POD, observe=False))
        .expects(sends_route(POD), continues("request_body"), continues("request_body"), closes_stream())
        .run()
    )


@pytest.mark.parametrize("while_deciding", [True, False])
def test_streamed_body_with_trailers(while_deciding):
    play = Playbook().receives(request_headers(mode="STREAMED")).expects(requests_decision(before_body=True))
    if while_deciding:
        play.receives(request_body(b"x"), request_trailers(), routes(POD, observe=False))
        play.expects(sends_route(POD), continues("request_body"), continues("request_trailers"), closes_stream())
    else:
        play.receives(routes(POD, observe=False)).expects(sends_route(POD))
        play.receives(request_body(b"x")).expects(continues("request_body"))
        play.receives(request_trailers()).expects(continues("request_trailers"), closes_stream())
    play.run()


def test_streamed_response_that_begins_before_the_request_has_ended():
    """The stream stays open although it is not observed: closing it now would lose a chunk."""
    (
        Playbook()
        .receives(request_headers(mode="STREAMED"))
        .expects(requests_decision(before_body=True))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD))
        .receives(request_body(b"x"))
        .expects(continues("request_body"))
        .receives(response_headers(413))
        .expects(delivers_event(status=413), marks_response())
        .receives(request_body(b"y", end=True))
        .expects(continues("request_body"))
        .receives(response_body(b"z", end=True))
        .expects(continues("response_body"), delivers_event(data=b"z"))
        .receives(half_closes())
        .expects(closes_stream())
        .run()
    )


def test_mode_none_routes_and_closes_at_the_headers():
    (
        Playbook()
        .receives(request_headers(mode="NONE"))
        .expects(requests_decision(before_body=True))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD), closes_stream())
        .run()
    )


@pytest.mark.parametrize("mode", UNBUFFERED_MODES)
def test_a_body_that_is_not_sent_to_us_is_not_replaced(mode):
    play = Playbook().receives(request_headers(mode=mode)).expects(requests_decision(before_body=True))
    play.receives(routes(POD, body=b"newer")).expects(sends_route(POD)).run()


def test_grpc_messages_are_forwarded_one_by_one_with_their_flags():
    """In mode GRPC each chunk is one message, perhaps compressed: it must be neither joined nor split."""
    (
        Playbook()
        .receives(request_headers(mode="GRPC"))
        .expects(requests_decision(before_body=True))
        .receives(routes(POD))
        .expects(sends_route(POD))
        .receives(request_body(b"x" * 70_000))
        .expects(sends_request_body(b"x" * 70_000))
        .receives(request_body(b"y", end=True))
        .expects(sends_request_body(b"y", end=True))
        .receives(response_headers(200))
        .expects(delivers_event(status=200), marks_response())
        .receives(response_body(b"z" * 70_000))
        .expects(sends_response_body(b"z" * 70_000), delivers_event(data=b"z" * 70_000))
        .run()
    )


UPGRADES = [
    ("GET", {"connection": "Upgrade", "upgrade": "websocket"}),
    ("CONNECT", {":protocol": "websocket"}),
    ("CONNECT", {}),
]


@pytest.mark.parametrize(("method", "headers"), UPGRADES)
@pytest.mark.parametrize("observe", [True, False])
def test_a_tunnel_is_routed_at_its_headers_and_forwarded(method, headers, observe):
    """Its body has no end to wait for, and is no request body that could be parsed."""
    (
        Playbook()
        .receives(request_headers("/v1/realtime", method=method, headers=headers))
        .expects(requests_decision(before_body=True))
        .receives(routes(POD, observe=observe))
        .expects(sends_route(POD))
        .receives(response_headers(101))
        .expects(delivers_event(status=101), marks_response())
        .receives(request_body(b"ping"))
        .expects(sends_request_body(b"ping"))
        .receives(response_body(b"pong"))
        .expects(sends_response_body(b"pong"), delivers_event(data=b"pong"))
        .receives(request_body(b"", end=True))
        .expects(sends_request_body(b"", end=True))
        .receives(response_body(b"", end=True))
        .expects(sends_response_body(b"", end=True), *([delivers_event(ended="completed")] if observe else []))
        .run()
    )


@pytest.mark.parametrize(("method", "headers"), UPGRADES[:1])
def test_a_tunnel_in_buffered_mode_is_routed_at_its_headers(method, headers):
    (
        Playbook()
        .receives(request_headers("/v1/realtime", method=method, headers=headers, mode="BUFFERED"))
        .expects(requests_decision(before_body=True))
        .receives(routes(POD))
        .expects(sends_route(POD))
        .receives(request_body(b"x", end=True))
        .expects(continues("request_body"))
        .run()
    )


def test_an_h2c_upgrade_is_an_ordinary_request():
    play = Playbook().receives(request_headers(headers={"upgrade": "h2c"}), request_body(b"x", end=True))
    play.expects(requests_decision(b"x")).receives(routes(POD, observe=False))
    play.expects(sends_route(POD), sends_request_body(b"x", end=True), closes_stream()).run()
