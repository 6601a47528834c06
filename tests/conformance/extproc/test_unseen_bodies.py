"""Bodies that the choice cannot wait for: streamed, unwanted, messages of gRPC, tunnels."""

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
UNSEEING = ["STREAMED", "NONE"]


def test_streamed_chooses_at_the_headers_and_stays_until_the_body_has_passed():
    (
        Playbook()
        .receives(request_headers(mode="STREAMED"))
        .expects(requests_decision(unseen=True))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD))
        .receives(request_body(b"x"))
        .expects(continues("request_body"))
        .receives(request_body(b"y", end=True))
        .expects(continues("request_body"), closes_stream())
        .run()
    )


def test_streamed_pieces_that_come_before_the_choice_are_answered_after_it():
    (
        Playbook()
        .receives(request_headers(mode="STREAMED"))
        .expects(requests_decision(unseen=True))
        .receives(request_body(b"x"), request_body(b"y", end=True), routes(POD, observe=False))
        .expects(sends_route(POD), continues("request_body"), continues("request_body"), closes_stream())
        .run()
    )


@pytest.mark.parametrize("meanwhile", [True, False])
def test_streamed_with_trailers(meanwhile):
    play = Playbook().receives(request_headers(mode="STREAMED")).expects(requests_decision(unseen=True))
    if meanwhile:
        play.receives(request_body(b"x"), request_trailers(), routes(POD, observe=False))
        play.expects(sends_route(POD), continues("request_body"), continues("request_trailers"), closes_stream())
    else:
        play.receives(routes(POD, observe=False)).expects(sends_route(POD))
        play.receives(request_body(b"x")).expects(continues("request_body"))
        play.receives(request_trailers()).expects(continues("request_trailers"), closes_stream())
    play.run()


def test_streamed_answers_that_begin_before_the_request_has_ended():
    """Closing then would lose a piece: the stream stays although nobody observes it."""
    (
        Playbook()
        .receives(request_headers(mode="STREAMED"))
        .expects(requests_decision(unseen=True))
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


def test_no_body_wanted_is_chosen_and_left_at_the_headers():
    (
        Playbook()
        .receives(request_headers(mode="NONE"))
        .expects(requests_decision(unseen=True))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD), closes_stream())
        .run()
    )


@pytest.mark.parametrize("mode", UNSEEING)
def test_what_nobody_could_replace_is_not_replaced(mode):
    play = Playbook().receives(request_headers(mode=mode)).expects(requests_decision(unseen=True))
    play.receives(routes(POD, body=b"newer")).expects(sends_route(POD)).run()


def test_pieces_of_grpc_pass_one_by_one_with_their_flags():
    """In mode GRPC each piece is one message, perhaps compressed; to join or to cut them would be to break them."""
    (
        Playbook()
        .receives(request_headers(mode="GRPC"))
        .expects(requests_decision(unseen=True))
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
def test_a_tunnel_is_chosen_for_at_once_and_passed_through(method, headers, observe):
    """It has no end to wait for. What flows in it is nobody's request body."""
    (
        Playbook()
        .receives(request_headers("/v1/realtime", method=method, headers=headers))
        .expects(requests_decision(unseen=True))
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
def test_a_tunnel_in_buffered_mode_is_chosen_for_at_the_headers_too(method, headers):
    (
        Playbook()
        .receives(request_headers("/v1/realtime", method=method, headers=headers, mode="BUFFERED"))
        .expects(requests_decision(unseen=True))
        .receives(routes(POD))
        .expects(sends_route(POD))
        .receives(request_body(b"x", end=True))
        .expects(continues("request_body"))
        .run()
    )


def test_an_upgrade_that_may_be_declined_is_a_request_like_any_other():
    play = Playbook().receives(request_headers(headers={"upgrade": "h2c"}), request_body(b"x", end=True))
    play.expects(requests_decision(b"x")).receives(routes(POD, observe=False))
    play.expects(sends_route(POD), sends_request_body(b"x", end=True), closes_stream()).run()
