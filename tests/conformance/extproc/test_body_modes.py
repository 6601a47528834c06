"""The request phase in every body mode, message by message, as gaie-protocol 1.9 and what real Envoy does have it."""

from __future__ import annotations

import pytest

from epp.errors import BadRequest, NoEndpoints, Overloaded
from epp.extproc.session import Limits
from epp.testing.effects import (
    asks,
    closes,
    continues,
    marks_response,
    sends_choice,
    sends_error,
    sends_request_body,
    sends_response_body,
    tells,
)
from epp.testing.events import (
    breaks,
    chooses,
    half_closes,
    refuses,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    waits,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"
UNSEEING = ["STREAMED", "NONE"]
ALL_MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "NONE", "GRPC", None]


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_request_without_a_body_is_answered_at_once(mode):
    (
        Playbook()
        .gets(request_headers("/v1/models", method="GET", end=True, mode=mode))
        .does(asks(end=True))
        .gets(chooses(POD))
        .does(sends_choice(POD))
        .gets(response_headers(200, end=True))
        .does(tells(status=200), marks_response(), tells(ended="completed"))
        .gets(half_closes())
        .does(closes())
        .run()
    )


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", None])
def test_full_duplex_holds_the_reply_to_the_headers_until_the_body_has_ended(mode):
    (
        Playbook()
        .gets(request_headers(mode=mode), request_body(b'{"model"'), request_body(b': "m"}', end=True))
        .does(asks(b'{"model": "m"}'))
        .gets(chooses(POD, observe=False))
        .does(sends_choice(POD), sends_request_body(b'{"model": "m"}', end=True), closes())
        .run()
    )


def test_full_duplex_cuts_long_bodies_and_keeps_every_byte():
    body = bytes(range(256)) * 600
    (
        Playbook()
        .gets(request_headers(), request_body(body[:100_000]), request_body(body[100_000:], end=True))
        .does(asks(body))
        .gets(chooses(POD, observe=False))
        .does(
            sends_choice(POD),
            sends_request_body(body[:62_000]),
            sends_request_body(body[62_000:124_000]),
            sends_request_body(body[124_000:], end=True),
            closes(),
        )
        .run()
    )


def test_full_duplex_with_an_empty_body():
    (
        Playbook()
        .gets(request_headers(), request_body(b"", end=True))
        .does(asks(b""))
        .gets(chooses(POD, observe=False))
        .does(sends_choice(POD), sends_request_body(b"", end=True), closes())
        .run()
    )


def test_full_duplex_drops_a_repeated_end():
    (
        Playbook()
        .gets(request_headers(), request_body(b"x", end=True))
        .does(asks(b"x"))
        .gets(waits(), request_body(b"", end=True), chooses(POD))
        .does(sends_choice(POD), sends_request_body(b"x", end=True))
        .gets(request_body(b"", end=True), response_headers(200))
        .does(tells(status=200), marks_response())
        .gets(request_body(b"", end=True), response_body(b"y", end=True))
        .does(sends_response_body(b"y", end=True), tells(data=b"y"), tells(ended="completed"))
        .gets(request_body(b"", end=True), half_closes())
        .does(closes())
        .run()
    )


@pytest.mark.parametrize("pieces", [(), (b"x",), (b"x", b"y")])
def test_full_duplex_ends_with_trailers(pieces):
    whole = b"".join(pieces)
    forwarded = [sends_request_body(whole)] if whole else []
    (
        Playbook()
        .gets(request_headers(), *map(request_body, pieces), request_trailers())
        .does(asks(whole))
        .gets(chooses(POD, observe=False))
        .does(sends_choice(POD), *forwarded, continues("request_trailers"), closes())
        .run()
    )


def test_full_duplex_replaces_the_body_and_its_length():
    (
        Playbook()
        .gets(request_headers(headers={"content-length": "3"}), request_body(b"old", end=True))
        .does(asks(b"old"))
        .gets(chooses(POD, body=b"newer", observe=False))
        .does(sends_choice(POD, sets={"content-length": "5"}), sends_request_body(b"newer", end=True), closes())
        .run()
    )


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("error", [NoEndpoints("none"), BadRequest("bad"), Overloaded("full")])
def test_a_refusal_is_an_answer_to_the_client(mode, error):
    first = [continues("request_headers")] if mode == "BUFFERED" else []
    (
        Playbook()
        .gets(request_headers(mode=mode))
        .does(*first)
        .gets(request_body(b"x", end=True))
        .does(asks(b"x"))
        .gets(refuses(error))
        .does(
            sends_error(error.status, dropped=error.dropped, text=f"inference error: {error.code} - {error.message}"),
            closes(),
        )
        .gets(request_body(b"", end=True), half_closes())
        .run()
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_buffered_answers_the_headers_empty_and_chooses_with_the_body(at_once):
    (
        Playbook()
        .gets(request_headers(mode="BUFFERED"))
        .does(continues("request_headers"))
        .gets(request_body(b"x" * 70_000, end=True))
        .does(asks(b"x" * 70_000))
        .gets(*([] if at_once else [waits()]), chooses(POD))
        .does(sends_choice(POD, at="body"))
        .gets(response_headers(200))
        .does(tells(status=200), marks_response())
        .gets(response_body(b"y", end=True))
        .does(continues("response_body"), tells(data=b"y"), tells(ended="completed"))
        .run()
    )


def test_buffered_replaces_the_whole_body():
    (
        Playbook()
        .gets(request_headers(mode="BUFFERED"))
        .does(continues("request_headers"))
        .gets(request_body(b"old", end=True))
        .does(asks(b"old"))
        .gets(chooses(POD, body=b"newer", observe=False))
        .does(sends_choice(POD, at="body", sets={"content-length": "5"}, body=b"newer"), closes())
        .run()
    )


@pytest.mark.parametrize("meanwhile", [True, False])
def test_buffered_with_trailers(meanwhile):
    play = Playbook().gets(request_headers(mode="BUFFERED")).does(continues("request_headers"))
    play.gets(request_body(b"x")).does(asks(b"x"))
    if meanwhile:
        play.gets(request_trailers(), chooses(POD)).does(sends_choice(POD, at="body"), continues("request_trailers"))
    else:
        play.gets(chooses(POD)).does(sends_choice(POD, at="body"))
        play.gets(request_trailers()).does(continues("request_trailers"))
    play.gets(breaks()).does(tells(ended="disconnected")).run()


def test_buffered_with_trailers_and_no_body_can_name_the_choice_by_metadata_only():
    (
        Playbook()
        .gets(request_headers(mode="BUFFERED"))
        .does(continues("request_headers"))
        .gets(request_trailers())
        .does(asks(b""))
        .gets(chooses(POD, observe=False))
        .does(sends_choice(POD, at="trailers"), closes())
        .run()
    )


def test_a_partly_buffered_body_is_no_body_to_decide_by():
    (
        Playbook()
        .gets(request_headers(mode="BUFFERED_PARTIAL"))
        .does(continues("request_headers"))
        .gets(request_body(b'{"model": '))
        .does(asks(b"", unseen=True))
        .gets(chooses(POD, observe=False))
        .does(sends_choice(POD, at="body"), closes())
        .run()
    )


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


def test_a_mode_that_is_not_known_yet_is_taken_for_full_duplex():
    headers = request_headers()
    unknown = headers._replace(
        message=headers.message.replace(b"\x5a\x04\x08\x04\x10\x04", b"\x5a\x04\x08\x09\x10\x09")
    )
    assert unknown.message != headers.message
    play = Playbook().gets(unknown, request_body(b"x", end=True)).does(asks(b"x"))
    play.gets(chooses(POD, observe=False)).does(sends_choice(POD), sends_request_body(b"x", end=True), closes()).run()


def test_a_body_above_the_limit_is_refused_without_being_kept():
    (
        Playbook(Limits(body=10))
        .gets(request_headers(), request_body(b"123456"), request_body(b"78901"))
        .does(sends_error(413), closes())
        .gets(request_body(b"x" * 1000), request_body(b"", end=True), half_closes())
        .run()
    )


def test_a_body_announced_above_the_limit_is_refused_before_it_comes():
    play = Playbook(Limits(body=10)).gets(request_headers(headers={"content-length": "11"}))
    play.does(sends_error(413), closes()).run()


def test_headers_above_the_limit():
    play = Playbook(Limits(headers=200)).gets(request_headers(headers={"cookie": "x" * 200}))
    play.does(sends_error(431), closes()).run()


def test_a_long_subset_hint_is_not_counted_as_headers():
    hint = [f"10.0.0.{i}:8000" for i in range(100)]
    play = Playbook(Limits(headers=200)).gets(request_headers(end=True, subset=hint))
    play.does(asks(end=True, subset=tuple(hint))).gets(chooses(POD, observe=False)).does(sends_choice(POD), closes())
    play.run()
