"""The request phase in every body mode, message by message, as gaie-protocol 1.9 and what real Envoy does have it."""

from __future__ import annotations

import pytest

from epp.errors import BadRequest, NoEndpoints, Overloaded
from epp.testing.actions import (
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


def test_a_mode_that_is_not_known_yet_is_taken_for_full_duplex():
    headers = request_headers()
    unknown = headers._replace(
        message=headers.message.replace(b"\x5a\x04\x08\x04\x10\x04", b"\x5a\x04\x08\x09\x10\x09")
    )
    assert unknown.message != headers.message
    play = Playbook().gets(unknown, request_body(b"x", end=True)).does(asks(b"x"))
    play.gets(chooses(POD, observe=False)).does(sends_choice(POD), sends_request_body(b"x", end=True), closes()).run()
