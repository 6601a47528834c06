"""The answer passes: head, pieces, trailers, in every body mode, and answers that are not the model server's."""

from __future__ import annotations

import pytest

from epp.extproc.session import Limits
from epp.testing.actions import (
    asks,
    closes,
    continues,
    gives_up,
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
    octets,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    response_trailers,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"
STARTED = (tells(status=200), marks_response())
LAST_END = tells(ended="completed")


def routed(limits: Limits | None = None, *, observe: bool = True, response_mode: str | None = None) -> Playbook:
    """A stream whose request phase is over."""
    (play := Playbook(limits)).gets(request_headers(response_mode=response_mode), request_body(b"x", end=True))
    play.does(asks(b"x")).gets(chooses(POD, observe=observe))
    return play.does(sends_choice(POD), sends_request_body(b"x", end=True))


def test_full_duplex_passes_every_piece_as_it_comes():
    play = routed().gets(response_headers(200, headers={"content-type": "text/event-stream"})).does(*STARTED)
    for piece in (b"data: 1\n\n", b"data: 2\n\n"):
        play.gets(response_body(piece)).does(sends_response_body(piece), tells(data=piece))
    play.gets(response_body(b"", end=True)).does(sends_response_body(b"", end=True), LAST_END)
    play.gets(half_closes()).does(closes()).run()


def test_full_duplex_cuts_long_pieces():
    long = b"y" * 130_000
    play = routed().gets(response_headers(200)).does(*STARTED).gets(response_body(long, end=True))
    pieces = [sends_response_body(long[:62_000]), sends_response_body(long[:62_000])]
    play.does(*pieces, sends_response_body(long[124_000:], end=True), tells(data=long), LAST_END).run()


def test_full_duplex_drops_a_repeated_end():
    play = routed().gets(response_headers(200)).does(*STARTED).gets(response_body(b"y", end=True))
    play.does(sends_response_body(b"y", end=True), tells(data=b"y"), LAST_END)
    play.gets(response_body(b"", end=True), half_closes()).does(closes()).run()


@pytest.mark.parametrize("mode", ["STREAMED", "BUFFERED"])
def test_in_other_modes_pieces_are_waved_through(mode):
    play = routed(response_mode=mode).gets(response_headers(200)).does(*STARTED)
    play.gets(response_body(b"y")).does(continues("response_body"), tells(data=b"y"))
    play.gets(response_body(b"z", end=True)).does(continues("response_body"), tells(data=b"z"), LAST_END).run()


def test_without_bodies_the_end_is_the_end_of_the_stream():
    play = routed(response_mode="NONE").gets(response_headers(200)).does(*STARTED)
    play.gets(half_closes()).does(LAST_END, closes()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
def test_trailers_end_the_answer(mode):
    play = routed(response_mode=mode).gets(response_headers(200)).does(*STARTED)
    reply = sends_response_body(b"y") if mode == "FULL_DUPLEX_STREAMED" else continues("response_body")
    play.gets(response_body(b"y")).does(reply, tells(data=b"y"))
    play.gets(response_trailers()).does(continues("response_trailers"), LAST_END).run()


def test_trailers_right_after_the_headers():
    play = routed().gets(response_headers(200)).does(*STARTED)
    play.gets(response_trailers()).does(continues("response_trailers"), LAST_END).run()


@pytest.mark.parametrize("mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
def test_a_gateway_that_skips_the_head_of_the_answer(mode):
    reply = sends_response_body(b"y", end=True) if mode == "FULL_DUPLEX_STREAMED" else continues("response_body")
    play = routed(response_mode=mode).gets(response_body(b"y", end=True)).does(reply, tells(data=b"y"), LAST_END)
    play.gets(half_closes()).does(closes()).run()


def test_the_endpoint_that_answered_is_told_before_the_answer():
    play = routed().gets(response_headers(200, served="10.0.0.2:8001", end=True))
    play.does(tells(served="10.0.0.2:8001"), *STARTED, LAST_END).run()


@pytest.mark.parametrize(("status", "told"), [("503", 503), ("abc", 0), ("", 0), ("²²²", 0)])
def test_the_status_is_read(status, told):
    play = routed().gets(response_headers(status, end=True))
    play.does(tells(status=told), marks_response(), LAST_END).run()


def test_the_mark_can_be_left_out():
    play = routed(Limits(mark_responses=False)).gets(response_headers(200, end=True))
    play.does(tells(status=200), continues("response_headers"), LAST_END).run()


def test_a_stream_that_is_not_observed_ends_with_the_request_phase():
    routed(observe=False).does(closes()).gets(response_headers(200), response_body(b"y", end=True)).run()


def test_a_filter_before_us_answers():
    """We never saw the request: the answer passes, and no flight hears of it."""
    play = Playbook().gets(response_headers(401, mode="FULL_DUPLEX_STREAMED")).does(marks_response())
    play.gets(response_body(b"no", end=True)).does(sends_response_body(b"no", end=True))
    play.gets(half_closes()).does(closes()).run()


def test_the_gateway_answers_while_the_body_comes():
    play = Playbook().gets(request_headers(), request_body(b"x"), response_headers(408)).does(marks_response())
    play.gets(request_body(b"y", end=True), response_body(b"slow", end=True))
    play.does(sends_response_body(b"slow", end=True)).gets(half_closes()).does(closes()).run()


def test_the_gateway_answers_while_the_choice_is_made():
    play = Playbook().gets(request_headers(end=True)).does(asks(end=True))
    play.gets(response_headers(504, end=True)).does(marks_response(), gives_up()).gets(half_closes()).does(closes())
    play.run()


def test_late_trailers_of_the_request():
    play = routed().gets(request_trailers()).does(continues("request_trailers"))
    play.gets(response_headers(200)).does(*STARTED).gets(request_trailers()).does(continues("request_trailers"))
    play.gets(breaks()).does(tells(ended="disconnected")).run()


def test_an_answer_cut_short():
    play = routed().gets(response_headers(200)).does(*STARTED).gets(response_body(b"y"))
    play.does(sends_response_body(b"y"), tells(data=b"y")).gets(half_closes())
    play.does(tells(ended="disconnected"), closes()).run()


def test_what_is_no_message_ends_the_stream_without_a_grpc_error():
    play = routed().gets(response_headers(200)).does(*STARTED).gets(octets(b"\xff\xff"))
    play.does(tells(ended="error"), closes()).run()


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x50\x01", b"\x22\x7f"])
def test_what_is_no_message_at_first_is_answered_with_500(data):
    Playbook().gets(octets(data)).does(sends_error(500), closes()).run()


@pytest.mark.parametrize("event", [request_body(b"x", end=True), request_trailers(), response_trailers()])
def test_a_gateway_that_sends_no_headers_is_answered_with_500(event):
    Playbook().gets(event).does(sends_error(500), closes()).run()


def test_an_answer_cut_short_behind_a_gateway_that_tells_no_modes():
    play = Playbook().gets(request_headers(mode=None, end=True)).does(asks(end=True)).gets(chooses(POD))
    play.does(sends_choice(POD)).gets(response_headers(200)).does(*STARTED).gets(response_body(b"y"))
    play.does(sends_response_body(b"y"), tells(data=b"y")).gets(breaks()).does(tells(ended="disconnected")).run()
