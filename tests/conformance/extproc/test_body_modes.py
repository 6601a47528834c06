"""The request phase in every body mode, message by message, as GAIE proposal 004 and real Envoy require it."""

from __future__ import annotations

import pytest

from epp.errors import BadRequest, NoEndpoints, Overloaded
from epp.testing.actions import (
    closes_stream,
    continues,
    delivers_event,
    marks_response,
    requests_decision,
    sends_immediate_response,
    sends_request_body,
    sends_response_body,
    sends_route,
)
from epp.testing.events import (
    half_closes,
    rejects,
    request_body,
    request_headers,
    request_trailers,
    resets,
    response_body,
    response_headers,
    routes,
    waits,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"
ALL_MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "NONE", "GRPC", None]


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_request_without_body_is_routed_at_its_headers(mode):
    (
        Playbook()
        .receives(request_headers("/v1/models", method="GET", end=True, mode=mode))
        .expects(requests_decision(end=True))
        .receives(routes(POD))
        .expects(sends_route(POD))
        .receives(response_headers(200, end=True))
        .expects(delivers_event(status=200), marks_response(), delivers_event(ended="completed"))
        .receives(half_closes())
        .expects(closes_stream())
        .run()
    )


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", None])
def test_full_duplex_replies_to_the_headers_after_the_end_of_the_body(mode):
    (
        Playbook()
        .receives(request_headers(mode=mode), request_body(b'{"model"'), request_body(b': "m"}', end=True))
        .expects(requests_decision(b'{"model": "m"}'))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD), sends_request_body(b'{"model": "m"}', end=True), closes_stream())
        .run()
    )


def test_full_duplex_splits_a_long_body_into_chunks():
    body = bytes(range(256)) * 600
    (
        Playbook()
        .receives(request_headers(), request_body(body[:100_000]), request_body(body[100_000:], end=True))
        .expects(requests_decision(body))
        .receives(routes(POD, observe=False))
        .expects(
            sends_route(POD),
            sends_request_body(body[:62_000]),
            sends_request_body(body[62_000:124_000]),
            sends_request_body(body[124_000:], end=True),
            closes_stream(),
        )
        .run()
    )


def test_full_duplex_with_an_empty_body():
    (
        Playbook()
        .receives(request_headers(), request_body(b"", end=True))
        .expects(requests_decision(b""))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD), sends_request_body(b"", end=True), closes_stream())
        .run()
    )


def test_full_duplex_ignores_a_repeated_end_of_the_request_body():
    (
        Playbook()
        .receives(request_headers(), request_body(b"x", end=True))
        .expects(requests_decision(b"x"))
        .receives(waits(), request_body(b"", end=True), routes(POD))
        .expects(sends_route(POD), sends_request_body(b"x", end=True))
        .receives(request_body(b"", end=True), response_headers(200))
        .expects(delivers_event(status=200), marks_response())
        .receives(request_body(b"", end=True), response_body(b"y", end=True))
        .expects(sends_response_body(b"y", end=True), delivers_event(data=b"y"), delivers_event(ended="completed"))
        .receives(request_body(b"", end=True), half_closes())
        .expects(closes_stream())
        .run()
    )


@pytest.mark.parametrize("chunks", [(), (b"x",), (b"x", b"y")])
def test_full_duplex_body_ended_by_trailers(chunks):
    whole = b"".join(chunks)
    forwarded = [sends_request_body(whole)] if whole else []
    (
        Playbook()
        .receives(request_headers(), *map(request_body, chunks), request_trailers())
        .expects(requests_decision(whole))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD), *forwarded, continues("request_trailers"), closes_stream())
        .run()
    )


def test_full_duplex_replaces_body_and_content_length():
    (
        Playbook()
        .receives(request_headers(headers={"content-length": "3"}), request_body(b"old", end=True))
        .expects(requests_decision(b"old"))
        .receives(routes(POD, body=b"newer", observe=False))
        .expects(
            sends_route(POD, sets={"content-length": "5"}), sends_request_body(b"newer", end=True), closes_stream()
        )
        .run()
    )


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("error", [NoEndpoints("none"), BadRequest("bad"), Overloaded("full")])
def test_a_rejection_is_an_immediate_response(mode, error):
    first = [continues("request_headers")] if mode == "BUFFERED" else []
    (
        Playbook()
        .receives(request_headers(mode=mode))
        .expects(*first)
        .receives(request_body(b"x", end=True))
        .expects(requests_decision(b"x"))
        .receives(rejects(error))
        .expects(
            sends_immediate_response(
                error.status, dropped=error.dropped_reason, text=f"inference error: {error.code} - {error.message}"
            ),
            closes_stream(),
        )
        .receives(request_body(b"", end=True), half_closes())
        .run()
    )


@pytest.mark.parametrize("immediately", [True, False])
def test_buffered_continues_the_headers_and_routes_in_the_body_reply(immediately):
    (
        Playbook()
        .receives(request_headers(mode="BUFFERED"))
        .expects(continues("request_headers"))
        .receives(request_body(b"x" * 70_000, end=True))
        .expects(requests_decision(b"x" * 70_000))
        .receives(*([] if immediately else [waits()]), routes(POD))
        .expects(sends_route(POD, at="body"))
        .receives(response_headers(200))
        .expects(delivers_event(status=200), marks_response())
        .receives(response_body(b"y", end=True))
        .expects(continues("response_body"), delivers_event(data=b"y"), delivers_event(ended="completed"))
        .run()
    )


def test_buffered_replaces_the_whole_body():
    (
        Playbook()
        .receives(request_headers(mode="BUFFERED"))
        .expects(continues("request_headers"))
        .receives(request_body(b"old", end=True))
        .expects(requests_decision(b"old"))
        .receives(routes(POD, body=b"newer", observe=False))
        .expects(sends_route(POD, at="body", sets={"content-length": "5"}, body=b"newer"), closes_stream())
        .run()
    )


@pytest.mark.parametrize("while_deciding", [True, False])
def test_buffered_body_with_trailers(while_deciding):
    play = Playbook().receives(request_headers(mode="BUFFERED")).expects(continues("request_headers"))
    play.receives(request_body(b"x")).expects(requests_decision(b"x"))
    if while_deciding:
        play.receives(request_trailers(), routes(POD)).expects(
            sends_route(POD, at="body"), continues("request_trailers")
        )
    else:
        play.receives(routes(POD)).expects(sends_route(POD, at="body"))
        play.receives(request_trailers()).expects(continues("request_trailers"))
    play.receives(resets()).expects(delivers_event(ended="disconnected")).run()


def test_buffered_trailers_without_body_carry_the_route_as_metadata_only():
    (
        Playbook()
        .receives(request_headers(mode="BUFFERED"))
        .expects(continues("request_headers"))
        .receives(request_trailers())
        .expects(requests_decision(b""))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD, at="trailers"), closes_stream())
        .run()
    )


def test_a_partially_buffered_body_is_not_used_for_the_decision():
    (
        Playbook()
        .receives(request_headers(mode="BUFFERED_PARTIAL"))
        .expects(continues("request_headers"))
        .receives(request_body(b'{"model": '))
        .expects(requests_decision(b"", before_body=True))
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD, at="body"), closes_stream())
        .run()
    )


def test_an_unknown_body_mode_is_treated_as_full_duplex():
    headers = request_headers()
    unknown = headers._replace(
        message=headers.message.replace(b"\x5a\x04\x08\x04\x10\x04", b"\x5a\x04\x08\x09\x10\x09")
    )
    assert unknown.message != headers.message
    play = Playbook().receives(unknown, request_body(b"x", end=True)).expects(requests_decision(b"x"))
    play.receives(routes(POD, observe=False)).expects(
        sends_route(POD), sends_request_body(b"x", end=True), closes_stream()
    ).run()
