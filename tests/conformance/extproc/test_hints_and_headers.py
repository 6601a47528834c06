"""What gateway and client say beside the body: subset hints, control headers, repeated headers."""

from __future__ import annotations

import pytest

from epp.testing.actions import asks, closes, sends_choice, sends_request_body
from epp.testing.events import chooses, request_body, request_headers
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
    play = Playbook().gets(request_headers(end=True, subset=hint)).does(asks(end=True, subset=subset))
    play.gets(chooses(POD, observe=False)).does(sends_choice(POD), closes()).run()


def test_no_hint_is_no_limit():
    play = Playbook().gets(request_headers(end=True)).does(asks(end=True, subset=None))
    play.gets(chooses(POD, observe=False)).does(sends_choice(POD), closes()).run()


def test_the_hint_may_come_with_the_body():
    play = (
        Playbook().gets(request_headers(), request_body(b"x", end=True, subset=[POD])).does(asks(b"x", subset=(POD,)))
    )
    play.gets(chooses(POD, observe=False)).does(sends_choice(POD), sends_request_body(b"x", end=True), closes()).run()


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
    play = Playbook().gets(request_headers(end=True, headers=SPOOFED)).does(asks(end=True))
    play.gets(chooses(POD, observe=False)).does(sends_choice(POD, removes=removed), closes()).run()
    assert not {name.lower() for name in SPOOFED} & play.heads[0].headers.keys()


def test_what_a_client_may_ask_of_us_is_not_told_to_the_model_server():
    play = Playbook().gets(request_headers(end=True, headers=CONTROL)).does(asks(end=True))
    play.gets(chooses(POD, observe=False)).does(sends_choice(POD, removes=CONTROL), closes()).run()
    assert CONTROL.items() <= play.heads[0].headers.items()


def test_a_header_that_we_set_replaces_the_client_s():
    ours = {"X-Prefiller-Host-Port": "10.0.0.7:8000", "x-request-id": "1"}
    play = Playbook().gets(request_headers(end=True, headers=SPOOFED | {"x-request-id": ""})).does(asks(end=True))
    sets = {"x-prefiller-host-port": "10.0.0.7:8000", "x-request-id": "1"}
    removed = {name.lower() for name in SPOOFED} - {"x-gateway-destination-endpoint", "x-prefiller-host-port"}
    play.gets(chooses(POD, sets=ours, observe=False)).does(sends_choice(POD, sets=sets, removes=removed), closes())
    play.run()


def test_nobody_sets_the_destination_but_the_choice():
    play = Playbook().gets(request_headers(end=True)).does(asks(end=True))
    play.gets(chooses(POD, sets={"x-gateway-destination-endpoint": "10.9.9.9:1"}, observe=False))
    play.does(sends_choice(POD), closes()).run()


@pytest.mark.parametrize("destination", ["10.0.0.1:8000", "10.0.0.1:8000,10.0.0.2:8000", "[2001:db8::1]:8000"])
def test_header_and_metadata_name_the_same_destination(destination):
    play = Playbook().gets(request_headers(end=True)).does(asks(end=True))
    play.gets(chooses(destination, observe=False)).does(sends_choice(destination), closes()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
def test_scores_are_told_when_asked_for(mode):
    scores = {"10.0.0.1:8000": 1.75, "10.0.0.2:8000": 0.0}
    play = Playbook().gets(request_headers(end=True, mode=mode, headers=CONTROL)).does(asks(end=True))
    play.gets(chooses(POD, scores=scores, sets={"x": "1"}, observe=False))
    play.does(sends_choice(POD, scores=scores, sets={"x": "1"}, removes=CONTROL), closes()).run()


def test_repeated_headers_are_joined_as_http_has_it():
    headers = [("Accept", "text/plain"), ("cookie", "a=1"), ("accept", "text/html"), ("cookie", "b=2"), ("x", "\udcff")]
    play = Playbook().gets(request_headers(end=True, headers=headers)).does(asks(end=True))
    play.gets(chooses(POD, observe=False)).does(sends_choice(POD), closes()).run()
    found = play.heads[0].headers
    assert (found["accept"], found["cookie"], found["x"]) == ("text/plain, text/html", "a=1; b=2", "\udcff")
