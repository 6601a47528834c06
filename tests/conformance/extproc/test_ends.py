"""Ends of streams and of decisions: whoever ends what, when; every flight hears of its end once."""

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


def test_a_gateway_without_protocol_config_may_end_the_body_by_half_closing():
    """NGINX Gateway Fabric: headers, one body message, half-close, then it reads to the end; no response phase."""
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


@pytest.mark.parametrize("pieces", [(), (b"x",)])
def test_the_same_with_a_decision_that_takes_time(pieces):
    whole = b"".join(pieces)
    (
        Playbook()
        .receives(request_headers(mode=None), *map(request_body, pieces), half_closes())
        .expects(requests_decision(whole))
        .receives(waits(), routes(POD))
        .expects(
            sends_route(POD), sends_request_body(whole, end=True), delivers_event(ended="completed"), closes_stream()
        )
        .run()
    )


def test_a_gateway_that_half_closes_once_it_has_its_choice():
    play = (
        Playbook().receives(request_headers(mode=None), request_body(b"x", end=True)).expects(requests_decision(b"x"))
    )
    play.receives(routes(POD)).expects(sends_route(POD), sends_request_body(b"x", end=True))
    play.receives(half_closes()).expects(delivers_event(ended="completed"), closes_stream()).run()


def test_a_half_close_while_the_choice_is_made_does_not_lose_it():
    play = Playbook().receives(request_headers(), request_body(b"x", end=True)).expects(requests_decision(b"x"))
    play.receives(waits(), half_closes(), routes(POD))
    play.expects(
        sends_route(POD), sends_request_body(b"x", end=True), delivers_event(ended="disconnected"), closes_stream()
    ).run()


def test_envoy_half_closes_within_the_body_when_the_client_has_left():
    """Half a body must not be routed, nor parsed."""
    Playbook().receives(request_headers(), request_body(b"x"), half_closes()).expects(closes_stream()).run()


def test_envoy_half_closes_before_the_answer_when_the_client_has_left():
    play = Playbook().receives(request_headers(), request_body(b"x", end=True)).expects(requests_decision(b"x"))
    play.receives(routes(POD)).expects(sends_route(POD), sends_request_body(b"x", end=True))
    play.receives(half_closes()).expects(delivers_event(ended="disconnected"), closes_stream()).run()


def test_a_gateway_without_a_response_phase_half_closes_when_all_is_well():
    play = Playbook().receives(request_headers(end=True, response_mode="NONE")).expects(requests_decision(end=True))
    play.receives(routes(POD)).expects(sends_route(POD)).receives(half_closes()).expects(
        delivers_event(ended="completed"), closes_stream()
    ).run()


def test_nothing_at_all():
    Playbook().receives(half_closes()).expects(closes_stream()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
@pytest.mark.parametrize("end", [resets, half_closes])
def test_the_stream_ends_within_the_request_body(mode, end):
    streamed = mode == "STREAMED"
    play = Playbook().receives(request_headers(mode=mode))
    if streamed:
        play.expects(requests_decision(unseen=True)).receives(routes(POD)).expects(sends_route(POD))
    play.receives(request_body(b"x")).expects(*([continues("request_body")] if streamed else []))
    told = [delivers_event(ended="disconnected")] if streamed else []
    play.receives(end()).expects(*told, *([] if end is resets else [closes_stream()])).run()


def test_a_decision_for_a_stream_that_is_gone_is_given_up():
    Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True)).receives(resets()).expects(
        cancels_decision()
    ).run()


def test_a_decision_that_takes_too_long():
    play = Playbook(timeout=0.0).receives(request_headers(end=True))
    play.expects(requests_decision(end=True), sends_immediate_response(503), closes_stream(), cancels_decision()).run()


def test_a_decision_that_is_refused_later():
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(waits(), rejects(NoEndpoints("none")))
    )
    play.expects(sends_immediate_response(503, dropped="rejected-no-endpoints"), closes_stream()).run()


@pytest.mark.parametrize("meanwhile", [(), (waits(),)])
def test_a_decider_with_a_bug(meanwhile):
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(*meanwhile, rejects(ZeroDivisionError()))
    )
    play.expects(
        sends_immediate_response(500, text="inference error: Internal - the endpoint picker failed; its log says why")
    )
    play.expects(closes_stream()).run()


def test_nonsense_while_the_choice_is_made():
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(raw_message(b"\xff"))
    )
    play.expects(sends_immediate_response(500), closes_stream(), cancels_decision()).run()


def test_a_second_request_on_one_stream():
    play = (
        Playbook()
        .receives(request_headers(end=True))
        .expects(requests_decision(end=True))
        .receives(routes(POD))
        .expects(sends_route(POD))
    )
    play.receives(request_headers(end=True)).expects(delivers_event(ended="error"), closes_stream()).run()


@pytest.mark.parametrize("observe", [True, False])
def test_observability_mode_is_told_nothing_and_still_counted(observe):
    """Envoy does not read what we say in this mode."""
    play = (
        Playbook()
        .receives(request_headers(mode="STREAMED", observability=True))
        .expects(requests_decision(unseen=True))
    )
    play.receives(routes(POD, observe=observe), request_body(b"x", end=True))
    if observe:
        play.receives(response_headers(200, served="10.0.0.9:80", end=True))
        play.expects(
            delivers_event(served="10.0.0.9:80"), delivers_event(status=200), delivers_event(ended="completed")
        )
        play.receives(half_closes())
    play.expects(closes_stream()).run()


def test_observability_mode_is_not_refused_anything():
    play = (
        Playbook()
        .receives(request_headers(mode="STREAMED", observability=True))
        .expects(requests_decision(unseen=True))
    )
    play.receives(rejects(NoEndpoints("none"))).expects(closes_stream()).run()


def test_a_stream_that_breaks_after_the_end_changes_nothing():
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
