"""Subset hints of the gateway, control headers and forged headers of the client, repeated headers."""

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
        # The key is set, so no endpoint outside the subset may be chosen; in these forms it names none.
        (7, ()),
        (True, ()),
        ({"10.0.0.1:8000": True}, ()),
    ],
)
def test_every_form_of_the_subset_hint(hint, subset):
    play = (
        Playbook().receives(request_headers(end=True, subset=hint)).expects(requests_decision(end=True, subset=subset))
    )
    play.receives(routes(POD, observe=False)).expects(sends_route(POD), closes_stream()).run()


def test_without_a_hint_there_is_no_subset():
    play = Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True, subset=None))
    play.receives(routes(POD, observe=False)).expects(sends_route(POD), closes_stream()).run()


def test_the_hint_may_arrive_with_the_body():
    play = (
        Playbook()
        .receives(request_headers(), request_body(b"x", end=True, subset=[POD]))
        .expects(requests_decision(b"x", subset=(POD,)))
    )
    play.receives(routes(POD, observe=False)).expects(
        sends_route(POD), sends_request_body(b"x", end=True), closes_stream()
    ).run()


FORGED = {
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


def test_reserved_headers_of_a_client_are_removed():
    removed = {name.lower() for name in FORGED} - {"x-gateway-destination-endpoint"}
    play = Playbook().receives(request_headers(end=True, headers=FORGED)).expects(requests_decision(end=True))
    play.receives(routes(POD, observe=False)).expects(sends_route(POD, removes=removed), closes_stream()).run()
    assert not {name.lower() for name in FORGED} & play.request_headers[0].headers.keys()


def test_control_headers_reach_the_router_and_not_the_model_server():
    play = Playbook().receives(request_headers(end=True, headers=CONTROL)).expects(requests_decision(end=True))
    play.receives(routes(POD, observe=False)).expects(sends_route(POD, removes=CONTROL), closes_stream()).run()
    assert CONTROL.items() <= play.request_headers[0].headers.items()


def test_a_header_set_by_the_decision_replaces_the_clients():
    ours = {"X-Prefiller-Host-Port": "10.0.0.7:8000", "x-request-id": "1"}
    play = (
        Playbook()
        .receives(request_headers(end=True, headers=FORGED | {"x-request-id": ""}))
        .expects(requests_decision(end=True))
    )
    sets = {"x-prefiller-host-port": "10.0.0.7:8000", "x-request-id": "1"}
    removed = {name.lower() for name in FORGED} - {"x-gateway-destination-endpoint", "x-prefiller-host-port"}
    play.receives(routes(POD, sets=ours, observe=False)).expects(
        sends_route(POD, sets=sets, removes=removed), closes_stream()
    )
    play.run()


def test_set_headers_cannot_change_the_destination():
    play = Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True))
    play.receives(routes(POD, sets={"x-gateway-destination-endpoint": "10.9.9.9:1"}, observe=False))
    play.expects(sends_route(POD), closes_stream()).run()


@pytest.mark.parametrize("destination", ["10.0.0.1:8000", "10.0.0.1:8000,10.0.0.2:8000", "[2001:db8::1]:8000"])
def test_header_and_metadata_have_the_same_destination(destination):
    play = Playbook().receives(request_headers(end=True)).expects(requests_decision(end=True))
    play.receives(routes(destination, observe=False)).expects(sends_route(destination), closes_stream()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
def test_scores_are_sent_as_metadata(mode):
    scores = {"10.0.0.1:8000": 1.75, "10.0.0.2:8000": 0.0}
    play = (
        Playbook().receives(request_headers(end=True, mode=mode, headers=CONTROL)).expects(requests_decision(end=True))
    )
    play.receives(routes(POD, scores=scores, sets={"x": "1"}, observe=False))
    play.expects(sends_route(POD, scores=scores, sets={"x": "1"}, removes=CONTROL), closes_stream()).run()


def test_repeated_headers_are_joined_as_in_rfc_9110():
    headers = [("Accept", "text/plain"), ("cookie", "a=1"), ("accept", "text/html"), ("cookie", "b=2"), ("x", "\udcff")]
    play = Playbook().receives(request_headers(end=True, headers=headers)).expects(requests_decision(end=True))
    play.receives(routes(POD, observe=False)).expects(sends_route(POD), closes_stream()).run()
    found = play.request_headers[0].headers
    assert (found["accept"], found["cookie"], found["x"]) == ("text/plain, text/html", "a=1; b=2", "\udcff")
