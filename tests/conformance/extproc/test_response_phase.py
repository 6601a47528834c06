"""The response phase: headers, chunks and trailers in every body mode, and responses of Envoy or another filter."""

from __future__ import annotations

import pytest

from epp.extproc.session import RequestLimits
from epp.testing.actions import (
    cancels_decision,
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
    raw_message,
    request_body,
    request_headers,
    request_trailers,
    resets,
    response_body,
    response_headers,
    response_trailers,
    routes,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"
STARTED = (delivers_event(status=200), marks_response())
COMPLETED = delivers_event(ended="completed")


def routed(limits: RequestLimits | None = None, *, observe: bool = True, response_mode: str | None = None) -> Playbook:
    """A stream whose request phase is complete."""
    (play := Playbook(limits)).receives(request_headers(response_mode=response_mode), request_body(b"x", end=True))
    play.expects(requests_decision(b"x")).receives(routes(POD, observe=observe))
    return play.expects(sends_route(POD), sends_request_body(b"x", end=True))


def test_full_duplex_forwards_each_chunk_as_it_arrives():
    play = routed().receives(response_headers(200, headers={"content-type": "text/event-stream"})).expects(*STARTED)
    for chunk in (b"data: 1\n\n", b"data: 2\n\n"):
        play.receives(response_body(chunk)).expects(sends_response_body(chunk), delivers_event(data=chunk))
    play.receives(response_body(b"", end=True)).expects(sends_response_body(b"", end=True), COMPLETED)
    play.receives(half_closes()).expects(closes_stream()).run()


def test_full_duplex_splits_long_chunks():
    long = b"y" * 130_000
    play = routed().receives(response_headers(200)).expects(*STARTED).receives(response_body(long, end=True))
    chunks = [sends_response_body(long[:62_000]), sends_response_body(long[:62_000])]
    play.expects(*chunks, sends_response_body(long[124_000:], end=True), delivers_event(data=long), COMPLETED).run()


def test_full_duplex_ignores_a_repeated_end_of_the_response_body():
    play = routed().receives(response_headers(200)).expects(*STARTED).receives(response_body(b"y", end=True))
    play.expects(sends_response_body(b"y", end=True), delivers_event(data=b"y"), COMPLETED)
    play.receives(response_body(b"", end=True), half_closes()).expects(closes_stream()).run()


@pytest.mark.parametrize("mode", ["STREAMED", "BUFFERED"])
def test_other_modes_continue_each_chunk(mode):
    play = routed(response_mode=mode).receives(response_headers(200)).expects(*STARTED)
    play.receives(response_body(b"y")).expects(continues("response_body"), delivers_event(data=b"y"))
    play.receives(response_body(b"z", end=True)).expects(
        continues("response_body"), delivers_event(data=b"z"), COMPLETED
    ).run()


def test_without_response_bodies_the_half_close_completes_the_request():
    play = routed(response_mode="NONE").receives(response_headers(200)).expects(*STARTED)
    play.receives(half_closes()).expects(COMPLETED, closes_stream()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
def test_trailers_end_the_response(mode):
    play = routed(response_mode=mode).receives(response_headers(200)).expects(*STARTED)
    reply = sends_response_body(b"y") if mode == "FULL_DUPLEX_STREAMED" else continues("response_body")
    play.receives(response_body(b"y")).expects(reply, delivers_event(data=b"y"))
    play.receives(response_trailers()).expects(continues("response_trailers"), COMPLETED).run()


def test_trailers_right_after_the_headers():
    play = routed().receives(response_headers(200)).expects(*STARTED)
    play.receives(response_trailers()).expects(continues("response_trailers"), COMPLETED).run()


@pytest.mark.parametrize("mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
def test_a_gateway_that_sends_no_response_headers(mode):
    reply = sends_response_body(b"y", end=True) if mode == "FULL_DUPLEX_STREAMED" else continues("response_body")
    play = (
        routed(response_mode=mode)
        .receives(response_body(b"y", end=True))
        .expects(reply, delivers_event(data=b"y"), COMPLETED)
    )
    play.receives(half_closes()).expects(closes_stream()).run()


def test_the_served_endpoint_is_delivered_before_the_response():
    play = routed().receives(response_headers(200, served="10.0.0.2:8001", end=True))
    play.expects(delivers_event(served="10.0.0.2:8001"), *STARTED, COMPLETED).run()


@pytest.mark.parametrize(("status", "delivered"), [("503", 503), ("abc", 0), ("", 0), ("²²²", 0)])
def test_status_of_the_response(status, delivered):
    play = routed().receives(response_headers(status, end=True))
    play.expects(delivers_event(status=delivered), marks_response(), COMPLETED).run()


def test_responses_are_not_marked_if_disabled():
    play = routed(RequestLimits(mark_responses=False)).receives(response_headers(200, end=True))
    play.expects(delivers_event(status=200), continues("response_headers"), COMPLETED).run()


def test_an_unobserved_stream_ends_with_the_request_phase():
    routed(observe=False).expects(closes_stream()).receives(response_headers(200), response_body(b"y", end=True)).run()


def test_another_filter_answers_before_the_request_reaches_us():
    """The response is forwarded; no request was routed, so there are no events."""
    play = Playbook().receives(response_headers(401, mode="FULL_DUPLEX_STREAMED")).expects(marks_response())
    play.receives(response_body(b"no", end=True)).expects(sends_response_body(b"no", end=True))
    play.receives(half_closes()).expects(closes_stream()).run()


def test_a_local_reply_while_the_body_arrives():
    play = Playbook().receives(request_headers(), request_body(b"x"), response_headers(408)).expects(marks_response())
    play.receives(request_body(b"y", end=True), response_body(b"slow", end=True))
    play.expects(sends_response_body(b"slow", end=True)).receives(half_closes()).expects(closes_stream()).run()


def test_a_local_reply_while_deciding():
    play = Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True))
    play.receives(response_headers(504, end=True)).expects(marks_response(), cancels_decision()).receives(
        half_closes()
    ).expects(closes_stream())
    play.run()


def test_request_trailers_after_the_response_began():
    play = routed().receives(request_trailers()).expects(continues("request_trailers"))
    play.receives(response_headers(200)).expects(*STARTED).receives(request_trailers()).expects(
        continues("request_trailers")
    )
    play.receives(resets()).expects(delivers_event(ended="disconnected")).run()


def test_a_response_that_is_cut_off():
    play = routed().receives(response_headers(200)).expects(*STARTED).receives(response_body(b"y"))
    play.expects(sends_response_body(b"y"), delivers_event(data=b"y")).receives(half_closes())
    play.expects(delivers_event(ended="disconnected"), closes_stream()).run()


def test_a_malformed_message_ends_a_routed_stream_without_grpc_error():
    play = routed().receives(response_headers(200)).expects(*STARTED).receives(raw_message(b"\xff\xff"))
    play.expects(delivers_event(ended="error"), closes_stream()).run()


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x50\x01", b"\x22\x7f"])
def test_a_malformed_first_message_is_a_500(data):
    Playbook().receives(raw_message(data)).expects(sends_immediate_response(500), closes_stream()).run()


@pytest.mark.parametrize("event", [request_body(b"x", end=True), request_trailers(), response_trailers()])
def test_a_first_message_other_than_headers_is_a_500(event):
    Playbook().receives(event).expects(sends_immediate_response(500), closes_stream()).run()


def test_a_response_that_is_cut_off_without_protocol_config():
    play = (
        Playbook()
        .receives(request_headers(mode=None, end=True))
        .expects(requests_decision(end=True))
        .receives(routes(POD))
    )
    play.expects(sends_route(POD)).receives(response_headers(200)).expects(*STARTED).receives(response_body(b"y"))
    play.expects(sends_response_body(b"y"), delivers_event(data=b"y")).receives(resets()).expects(
        delivers_event(ended="disconnected")
    ).run()
