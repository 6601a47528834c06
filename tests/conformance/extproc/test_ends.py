"""Ends of streams and decisions: half-close, reset, timeout, error. A routed request is finalized once in each."""

from __future__ import annotations

import pytest

from epp.errors import NoEndpoints
from epp.testing.actions import (
    cancels_decision,
    closes_stream,
    continues,
    delivers_event,
    marks_response,
    requests_decision,
    sends_immediate_response,
    sends_request_body,
    sends_route,
)
from epp.testing.events import (
    half_closes,
    raw_message,
    rejects,
    request_body,
    request_headers,
    resets,
    response_headers,
    routes,
    waits,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"


def test_without_protocol_config_a_half_close_ends_the_body():
    """NGINX Gateway Fabric sends headers, one body message, half-close, reads to the end and has no response phase."""
    (
        Playbook()
        .receives(request_headers(mode=None), request_body(b"x"), half_closes())
        .expects(requests_decision(b"x"))
        .receives(routes(POD))
        .expects(
            sends_route(POD), sends_request_body(b"x", end=True), delivers_event(ended="completed"), closes_stream()
        )
        .run()
    )


@pytest.mark.parametrize("chunks", [(), (b"x",)])
def test_without_protocol_config_a_half_close_ends_the_body_before_an_awaited_decision(chunks):
    whole = b"".join(chunks)
    (
        Playbook()
        .receives(request_headers(mode=None), *map(request_body, chunks), half_closes())
        .expects(requests_decision(whole))
        .receives(waits(), routes(POD))
        .expects(
            sends_route(POD), sends_request_body(whole, end=True), delivers_event(ended="completed"), closes_stream()
        )
        .run()
    )


def test_without_protocol_config_a_half_close_after_the_route_completes_the_request():
    play = (
        Playbook().receives(request_headers(mode=None), request_body(b"x", end=True)).expects(requests_decision(b"x"))
    )
    play.receives(routes(POD)).expects(sends_route(POD), sends_request_body(b"x", end=True))
    play.receives(half_closes()).expects(delivers_event(ended="completed"), closes_stream()).run()


def test_a_half_close_while_deciding_does_not_lose_the_decision():
    play = Playbook().receives(request_headers(), request_body(b"x", end=True)).expects(requests_decision(b"x"))
    play.receives(waits(), half_closes(), routes(POD))
    play.expects(
        sends_route(POD), sends_request_body(b"x", end=True), delivers_event(ended="disconnected"), closes_stream()
    ).run()


def test_a_half_close_within_the_body_means_that_the_client_left():
    """An incomplete body is neither parsed nor routed."""
    Playbook().receives(request_headers(), request_body(b"x"), half_closes()).expects(closes_stream()).run()


def test_a_half_close_before_the_response_means_that_the_client_left():
    play = Playbook().receives(request_headers(), request_body(b"x", end=True)).expects(requests_decision(b"x"))
    play.receives(routes(POD)).expects(sends_route(POD), sends_request_body(b"x", end=True))
    play.receives(half_closes()).expects(delivers_event(ended="disconnected"), closes_stream()).run()


def test_without_a_response_phase_a_half_close_completes_the_request():
    play = Playbook().receives(request_headers(end=True, response_mode="NONE")).expects(requests_decision(end=True))
    play.receives(routes(POD)).expects(sends_route(POD)).receives(half_closes()).expects(
        delivers_event(ended="completed"), closes_stream()
    ).run()


def test_a_stream_without_messages():
    Playbook().receives(half_closes()).expects(closes_stream()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
@pytest.mark.parametrize("end", [resets, half_closes])
def test_the_stream_ends_within_the_request_body(mode, end):
    streamed = mode == "STREAMED"
    play = Playbook().receives(request_headers(mode=mode))
    if streamed:
        play.expects(requests_decision(before_body=True)).receives(routes(POD)).expects(sends_route(POD))
    play.receives(request_body(b"x")).expects(*([continues("request_body")] if streamed else []))
    ended = [delivers_event(ended="disconnected")] if streamed else []
    play.receives(end()).expects(*ended, *([] if end is resets else [closes_stream()])).run()


def test_a_reset_cancels_the_decision():
    Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True)).receives(resets()).expects(
        cancels_decision()
    ).run()


def test_a_decision_after_the_timeout_is_a_503():
    play = Playbook(timeout=0.0).receives(request_headers(end=True))
    play.expects(requests_decision(end=True), sends_immediate_response(503), closes_stream(), cancels_decision()).run()


def test_an_awaited_decision_that_is_rejected():
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(waits(), rejects(NoEndpoints("none")))
    )
    play.expects(sends_immediate_response(503, dropped="rejected-no-endpoints"), closes_stream()).run()


@pytest.mark.parametrize("while_deciding", [(), (waits(),)])
def test_an_exception_in_the_router_is_a_500(while_deciding):
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(*while_deciding, rejects(ZeroDivisionError()))
    )
    play.expects(
        sends_immediate_response(500, text="inference error: Internal - the endpoint picker failed; its log says why")
    )
    play.expects(closes_stream()).run()


def test_a_malformed_message_while_deciding_is_a_500():
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(raw_message(b"\xff"))
    )
    play.expects(sends_immediate_response(500), closes_stream(), cancels_decision()).run()


def test_a_second_request_on_one_stream_ends_it():
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(routes(POD))
        .expects(sends_route(POD))
    )
    play.receives(request_headers(end=True)).expects(delivers_event(ended="error"), closes_stream()).run()


@pytest.mark.parametrize("observe", [True, False])
def test_observability_mode_sends_nothing_and_delivers_events(observe):
    """Envoy does not read replies in this mode."""
    play = (
        Playbook()
        .receives(request_headers(mode="STREAMED", observability=True))
        .expects(requests_decision(before_body=True))
    )
    play.receives(routes(POD, observe=observe), request_body(b"x", end=True))
    if observe:
        play.receives(response_headers(200, served="10.0.0.9:80", end=True))
        play.expects(
            delivers_event(served="10.0.0.9:80"), delivers_event(status=200), delivers_event(ended="completed")
        )
        play.receives(half_closes())
    play.expects(closes_stream()).run()


def test_observability_mode_gets_no_immediate_response():
    play = (
        Playbook()
        .receives(request_headers(mode="STREAMED", observability=True))
        .expects(requests_decision(before_body=True))
    )
    play.receives(rejects(NoEndpoints("none"))).expects(closes_stream()).run()


def test_a_reset_after_the_end_of_the_response_has_no_effect():
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(routes(POD))
        .expects(sends_route(POD))
    )
    play.receives(response_headers(204, end=True)).expects(
        delivers_event(status=204), marks_response(), delivers_event(ended="completed")
    )
    play.receives(resets()).run()
