"""What gateway and client say beside the body: subset hints, control headers, repeated headers."""

from __future__ import annotations

import pytest

from epp.testing.actions import closes_stream, requests_decision, sends_request_body, sends_route
from epp.testing.events import request_body, request_headers, routes
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"


@pytest.mark.parametrize(
    ("hint", "subset"),
    [
        (["10.0.0.1:8000", "10.0.0.2:8000"], ("10.0.0.1:8000", "10.0.0.2:8000")),
        ("10.0.0.1:8000, 10.0.0.2:8000", ("10.0.0.1:8000", "10.0.0.2:8000")),
        (["10.0.0.1:8000,10.0.0.2:8000", " 10.0.0.3:8000 "], ("10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000")),
        (["[2001:db8::1]:8000"], ("[2001:db8::1]:8000",)),
        ("10.0.0.1", ("10.0.0.1",)),
        ([], ()),
        ("", ()),
        ([",", ""], ()),
        ([1, True, None, "10.0.0.1:8000"], ("10.0.0.1:8000",)),
        (None, None),
        # The key is set, so nothing outside it may be chosen; what it says is nothing.
        (7, ()),
        (True, ()),
        ({"10.0.0.1:8000": True}, ()),
    ],
)
def test_the_subset_hint_in_every_form(hint, subset):
    play = (
        Playbook().receives(request_headers(end=True, subset=hint)).expects(requests_decision(end=True, subset=subset))
    )
    play.receives(routes(POD, observe=False)).expects(sends_route(POD), closes_stream()).run()


def test_no_hint_is_no_limit():
    play = Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True, subset=None))
    play.receives(routes(POD, observe=False)).expects(sends_route(POD), closes_stream()).run()


def test_the_hint_may_come_with_the_body():
    play = (
        Playbook()
        .receives(request_headers(), request_body(b"x", end=True, subset=[POD]))
        .expects(requests_decision(b"x", subset=(POD,)))
    )
    play.receives(routes(POD, observe=False)).expects(
        sends_route(POD), sends_request_body(b"x", end=True), closes_stream()
    ).run()


SPOOFED = {
    "x-gateway-destination-endpoint": "169.254.169.254:80",
    "X-Gateway-Destination-Endpoint-Served": "10.0.0.66:8000",
    "x-gateway-destination-endpoint-subset": "10.0.0.66:8000",
    "x-llm-d-request-dropped-reason": "none",
    "x-prefiller-host-port": "169.254.169.254:80",
    "x-encoder-hosts-ports": "169.254.169.254:80",
    "x-data-parallel-host-port": "169.254.169.254:80",
    "x-kv-cache-source-host-port": "169.254.169.254:80",
}
CONTROL = {
    "x-llm-d-inference-objective": "high",
    "x-gateway-inference-fairness-id": "tenant",
    "x-llm-d-slo-ttft-ms": "100",
}


def test_what_only_the_gateway_may_say_is_not_believed_from_a_client():
    removed = {name.lower() for name in SPOOFED} - {"x-gateway-destination-endpoint"}
    play = Playbook().receives(request_headers(end=True, headers=SPOOFED)).expects(requests_decision(end=True))
    play.receives(routes(POD, observe=False)).expects(sends_route(POD, removes=removed), closes_stream()).run()
    assert not {name.lower() for name in SPOOFED} & play.request_headers[0].headers.keys()


def test_what_a_client_may_ask_of_us_is_not_told_to_the_model_server():
    play = Playbook().receives(request_headers(end=True, headers=CONTROL)).expects(requests_decision(end=True))
    play.receives(routes(POD, observe=False)).expects(sends_route(POD, removes=CONTROL), closes_stream()).run()
    assert CONTROL.items() <= play.request_headers[0].headers.items()


def test_a_header_that_we_set_replaces_the_client_s():
    ours = {"X-Prefiller-Host-Port": "10.0.0.7:8000", "x-request-id": "1"}
    play = (
        Playbook()
        .receives(request_headers(end=True, headers=SPOOFED | {"x-request-id": ""}))
        .expects(requests_decision(end=True))
    )
    sets = {"x-prefiller-host-port": "10.0.0.7:8000", "x-request-id": "1"}
    removed = {name.lower() for name in SPOOFED} - {"x-gateway-destination-endpoint", "x-prefiller-host-port"}
    play.receives(routes(POD, sets=ours, observe=False)).expects(
        sends_route(POD, sets=sets, removes=removed), closes_stream()
    )
    play.run()


def test_nobody_sets_the_destination_but_the_choice():
    play = Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True))
    play.receives(routes(POD, sets={"x-gateway-destination-endpoint": "10.9.9.9:1"}, observe=False))
    play.expects(sends_route(POD), closes_stream()).run()


@pytest.mark.parametrize("destination", ["10.0.0.1:8000", "10.0.0.1:8000,10.0.0.2:8000", "[2001:db8::1]:8000"])
def test_header_and_metadata_name_the_same_destination(destination):
    play = Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True))
    play.receives(routes(destination, observe=False)).expects(sends_route(destination), closes_stream()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
def test_scores_are_told_when_asked_for(mode):
    scores = {"10.0.0.1:8000": 1.75, "10.0.0.2:8000": 0.0}
    play = (
        Playbook().receives(request_headers(end=True, mode=mode, headers=CONTROL)).expects(requests_decision(end=True))
    )
    play.receives(routes(POD, scores=scores, sets={"x": "1"}, observe=False))
    play.expects(sends_route(POD, scores=scores, sets={"x": "1"}, removes=CONTROL), closes_stream()).run()


def test_repeated_headers_are_joined_as_http_has_it():
    headers = [("Accept", "text/plain"), ("cookie", "a=1"), ("accept", "text/html"), ("cookie", "b=2"), ("x", "\udcff")]
    play = Playbook().receives(request_headers(end=True, headers=headers)).expects(requests_decision(end=True))
    play.receives(routes(POD, observe=False)).expects(sends_route(POD), closes_stream()).run()
    found = play.request_headers[0].headers
    assert (found["accept"], found["cookie"], found["x"]) == ("text/plain, text/html", "a=1; b=2", "\udcff")
