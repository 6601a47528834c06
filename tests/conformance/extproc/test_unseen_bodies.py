"""Bodies that the choice cannot wait for: streamed, unwanted, messages of gRPC, tunnels."""

from __future__ import annotations

import pytest

from epp.testing.actions import (
    asks,
    closes,
    continues,
    marks_response,
    sends_choice,
    sends_request_body,
    sends_response_body,
    tells,
)
from epp.testing.events import (
    chooses,
    half_closes,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"
UNSEEING = ["STREAMED", "NONE"]


def test_streamed_chooses_at_the_headers_and_stays_until_the_body_has_passed():
    (
        Playbook()
        .gets(request_headers(mode="STREAMED"))
        .does(asks(unseen=True))
        .gets(chooses(POD, observe=False))
        .does(sends_choice(POD))
        .gets(request_body(b"x"))
        .does(continues("request_body"))
        .gets(request_body(b"y", end=True))
        .does(continues("request_body"), closes())
        .run()
    )


def test_streamed_pieces_that_come_before_the_choice_are_answered_after_it():
    (
        Playbook()
        .gets(request_headers(mode="STREAMED"))
        .does(asks(unseen=True))
        .gets(request_body(b"x"), request_body(b"y", end=True), chooses(POD, observe=False))
        .does(sends_choice(POD), continues("request_body"), continues("request_body"), closes())
        .run()
    )


@pytest.mark.parametrize("meanwhile", [True, False])
def test_streamed_with_trailers(meanwhile):
    play = Playbook().gets(request_headers(mode="STREAMED")).does(asks(unseen=True))
    if meanwhile:
        play.gets(request_body(b"x"), request_trailers(), chooses(POD, observe=False))
        play.does(sends_choice(POD), continues("request_body"), continues("request_trailers"), closes())
    else:
        play.gets(chooses(POD, observe=False)).does(sends_choice(POD))
        play.gets(request_body(b"x")).does(continues("request_body"))
        play.gets(request_trailers()).does(continues("request_trailers"), closes())
    play.run()


def test_streamed_answers_that_begin_before_the_request_has_ended():
    """Closing then would lose a piece: the stream stays although nobody observes it."""
    (
        Playbook()
        .gets(request_headers(mode="STREAMED"))
        .does(asks(unseen=True))
        .gets(chooses(POD, observe=False))
        .does(sends_choice(POD))
        .gets(request_body(b"x"))
        .does(continues("request_body"))
        .gets(response_headers(413))
        .does(tells(status=413), marks_response())
        .gets(request_body(b"y", end=True))
        .does(continues("request_body"))
        .gets(response_body(b"z", end=True))
        .does(continues("response_body"), tells(data=b"z"))
        .gets(half_closes())
        .does(closes())
        .run()
    )


def test_no_body_wanted_is_chosen_and_left_at_the_headers():
    (
        Playbook()
        .gets(request_headers(mode="NONE"))
        .does(asks(unseen=True))
        .gets(chooses(POD, observe=False))
        .does(sends_choice(POD), closes())
        .run()
    )


@pytest.mark.parametrize("mode", UNSEEING)
def test_what_nobody_could_replace_is_not_replaced(mode):
    play = Playbook().gets(request_headers(mode=mode)).does(asks(unseen=True))
    play.gets(chooses(POD, body=b"newer")).does(sends_choice(POD)).run()


def test_pieces_of_grpc_pass_one_by_one_with_their_flags():
    """In mode GRPC each piece is one message, perhaps compressed; to join or to cut them would be to break them."""
    (
        Playbook()
        .gets(request_headers(mode="GRPC"))
        .does(asks(unseen=True))
        .gets(chooses(POD))
        .does(sends_choice(POD))
        .gets(request_body(b"x" * 70_000))
        .does(sends_request_body(b"x" * 70_000))
        .gets(request_body(b"y", end=True))
        .does(sends_request_body(b"y", end=True))
        .gets(response_headers(200))
        .does(tells(status=200), marks_response())
        .gets(response_body(b"z" * 70_000))
        .does(sends_response_body(b"z" * 70_000), tells(data=b"z" * 70_000))
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
        .gets(request_headers("/v1/realtime", method=method, headers=headers))
        .does(asks(unseen=True))
        .gets(chooses(POD, observe=observe))
        .does(sends_choice(POD))
        .gets(response_headers(101))
        .does(tells(status=101), marks_response())
        .gets(request_body(b"ping"))
        .does(sends_request_body(b"ping"))
        .gets(response_body(b"pong"))
        .does(sends_response_body(b"pong"), tells(data=b"pong"))
        .gets(request_body(b"", end=True))
        .does(sends_request_body(b"", end=True))
        .gets(response_body(b"", end=True))
        .does(sends_response_body(b"", end=True), *([tells(ended="completed")] if observe else []))
        .run()
    )


@pytest.mark.parametrize(("method", "headers"), UPGRADES[:1])
def test_a_tunnel_in_buffered_mode_is_chosen_for_at_the_headers_too(method, headers):
    (
        Playbook()
        .gets(request_headers("/v1/realtime", method=method, headers=headers, mode="BUFFERED"))
        .does(asks(unseen=True))
        .gets(chooses(POD))
        .does(sends_choice(POD))
        .gets(request_body(b"x", end=True))
        .does(continues("request_body"))
        .run()
    )


def test_an_upgrade_that_may_be_declined_is_a_request_like_any_other():
    play = Playbook().gets(request_headers(headers={"upgrade": "h2c"}), request_body(b"x", end=True))
    play.does(asks(b"x")).gets(chooses(POD, observe=False))
    play.does(sends_choice(POD), sends_request_body(b"x", end=True), closes()).run()
