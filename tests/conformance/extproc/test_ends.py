"""Ends of streams and of decisions: whoever ends what, when; every flight hears of its end once."""

from __future__ import annotations

import pytest

from epp.errors import NoEndpoints
from epp.testing.actions import (
    asks,
    closes,
    continues,
    gives_up,
    marks_response,
    sends_choice,
    sends_error,
    sends_request_body,
    tells,
)
from epp.testing.events import (
    breaks,
    chooses,
    half_closes,
    octets,
    refuses,
    request_body,
    request_headers,
    response_headers,
    waits,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"


def test_a_gateway_without_protocol_config_may_end_the_body_by_half_closing():
    """NGINX Gateway Fabric: headers, one body message, half-close, then it reads to the end; no response phase."""
    (
        Playbook()
        .gets(request_headers(mode=None), request_body(b"x"), half_closes())
        .does(asks(b"x"))
        .gets(chooses(POD))
        .does(sends_choice(POD), sends_request_body(b"x", end=True), tells(ended="completed"), closes())
        .run()
    )


@pytest.mark.parametrize("pieces", [(), (b"x",)])
def test_the_same_with_a_decision_that_takes_time(pieces):
    whole = b"".join(pieces)
    (
        Playbook()
        .gets(request_headers(mode=None), *map(request_body, pieces), half_closes())
        .does(asks(whole))
        .gets(waits(), chooses(POD))
        .does(sends_choice(POD), sends_request_body(whole, end=True), tells(ended="completed"), closes())
        .run()
    )


def test_a_gateway_that_half_closes_once_it_has_its_choice():
    play = Playbook().gets(request_headers(mode=None), request_body(b"x", end=True)).does(asks(b"x"))
    play.gets(chooses(POD)).does(sends_choice(POD), sends_request_body(b"x", end=True))
    play.gets(half_closes()).does(tells(ended="completed"), closes()).run()


def test_a_half_close_while_the_choice_is_made_does_not_lose_it():
    play = Playbook().gets(request_headers(), request_body(b"x", end=True)).does(asks(b"x"))
    play.gets(waits(), half_closes(), chooses(POD))
    play.does(sends_choice(POD), sends_request_body(b"x", end=True), tells(ended="disconnected"), closes()).run()


def test_envoy_half_closes_within_the_body_when_the_client_has_left():
    """Half a body must not be routed, nor parsed."""
    Playbook().gets(request_headers(), request_body(b"x"), half_closes()).does(closes()).run()


def test_envoy_half_closes_before_the_answer_when_the_client_has_left():
    play = Playbook().gets(request_headers(), request_body(b"x", end=True)).does(asks(b"x"))
    play.gets(chooses(POD)).does(sends_choice(POD), sends_request_body(b"x", end=True))
    play.gets(half_closes()).does(tells(ended="disconnected"), closes()).run()


def test_a_gateway_without_a_response_phase_half_closes_when_all_is_well():
    play = Playbook().gets(request_headers(end=True, response_mode="NONE")).does(asks(end=True))
    play.gets(chooses(POD)).does(sends_choice(POD)).gets(half_closes()).does(tells(ended="completed"), closes()).run()


def test_nothing_at_all():
    Playbook().gets(half_closes()).does(closes()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
@pytest.mark.parametrize("end", [breaks, half_closes])
def test_the_stream_ends_within_the_request_body(mode, end):
    streamed = mode == "STREAMED"
    play = Playbook().gets(request_headers(mode=mode))
    if streamed:
        play.does(asks(unseen=True)).gets(chooses(POD)).does(sends_choice(POD))
    play.gets(request_body(b"x")).does(*([continues("request_body")] if streamed else []))
    told = [tells(ended="disconnected")] if streamed else []
    play.gets(end()).does(*told, *([] if end is breaks else [closes()])).run()


def test_a_decision_for_a_stream_that_is_gone_is_given_up():
    Playbook().gets(request_headers(end=True)).does(asks(end=True)).gets(breaks()).does(gives_up()).run()


def test_a_decision_that_takes_too_long():
    play = Playbook(timeout=0.0).gets(request_headers(end=True))
    play.does(asks(end=True), sends_error(503), closes(), gives_up()).run()


def test_a_decision_that_is_refused_later():
    play = Playbook().gets(request_headers(end=True)).does(asks(end=True)).gets(waits(), refuses(NoEndpoints("none")))
    play.does(sends_error(503, dropped="rejected-no-endpoints"), closes()).run()


@pytest.mark.parametrize("meanwhile", [(), (waits(),)])
def test_a_decider_with_a_bug(meanwhile):
    play = (
        Playbook().gets(request_headers(end=True)).does(asks(end=True)).gets(*meanwhile, refuses(ZeroDivisionError()))
    )
    play.does(sends_error(500, text="inference error: Internal - the endpoint picker failed; its log says why"))
    play.does(closes()).run()


def test_nonsense_while_the_choice_is_made():
    play = Playbook().gets(request_headers(end=True)).does(asks(end=True)).gets(octets(b"\xff"))
    play.does(sends_error(500), closes(), gives_up()).run()


def test_a_second_request_on_one_stream():
    play = Playbook().gets(request_headers(end=True)).does(asks(end=True)).gets(chooses(POD)).does(sends_choice(POD))
    play.gets(request_headers(end=True)).does(tells(ended="error"), closes()).run()


@pytest.mark.parametrize("observe", [True, False])
def test_observability_mode_is_told_nothing_and_still_counted(observe):
    """Envoy does not read what we say in this mode."""
    play = Playbook().gets(request_headers(mode="STREAMED", observability=True)).does(asks(unseen=True))
    play.gets(chooses(POD, observe=observe), request_body(b"x", end=True))
    if observe:
        play.gets(response_headers(200, served="10.0.0.9:80", end=True))
        play.does(tells(served="10.0.0.9:80"), tells(status=200), tells(ended="completed"))
        play.gets(half_closes())
    play.does(closes()).run()


def test_observability_mode_is_not_refused_anything():
    play = Playbook().gets(request_headers(mode="STREAMED", observability=True)).does(asks(unseen=True))
    play.gets(refuses(NoEndpoints("none"))).does(closes()).run()


def test_a_stream_that_breaks_after_the_end_changes_nothing():
    play = Playbook().gets(request_headers(end=True)).does(asks(end=True)).gets(chooses(POD)).does(sends_choice(POD))
    play.gets(response_headers(204, end=True)).does(tells(status=204), marks_response(), tells(ended="completed"))
    play.gets(breaks()).run()
