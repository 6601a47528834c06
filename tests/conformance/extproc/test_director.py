"""The protocol with the real director: the subset hint, rejections, and a rewritten model name."""

from __future__ import annotations

from random import Random

import pytest

from epp.api import Endpoint
from epp.clock import ManualClock
from epp.config import presets
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.obs.decision_log import DecisionLog
from epp.obs.metrics import Metrics
from epp.requestcontrol.completion import ObservedCompletion
from epp.requestcontrol.director import Director, DirectorOptions
from epp.testing.actions import closes_stream, continues, sends_immediate_response, sends_request_body, sends_route
from epp.testing.events import request_body, request_headers
from epp.testing.playbook import Playbook

PODS = [("a", "10.0.0.1", 8000), ("b", "10.0.0.1", 8001), ("c", "10.0.0.2", 8000), ("d", "2001:db8::1", 8000)]
WORDS = b'{"model": "m", "prompt": "p"}'
IDENTIFIED = {"x-request-id": "1"}


@pytest.fixture
def new_director():
    """new_director(pods): a director over these endpoints, the `Router` of the stream."""

    def build(pods=PODS):
        clock, rng = ManualClock(), Random(1)
        table = EndpointStore(clock)
        for name, address, port in pods:
            table.upsert(Endpoint(name, address, port))
        plan = load_config(presets.read_preset(), PluginRegistry.load())
        return Director(
            plan,
            table,
            Ledger(clock),
            ObservedCompletion(),
            Metrics(),
            clock,
            rng,
            DirectorOptions(),
            DecisionLog().record,
        )

    return build


def streams(router, hint):
    """A request without and one with a body, and the body as it is forwarded."""
    get = request_headers("/v1/models", method="GET", end=True, headers=IDENTIFIED, subset=hint)
    post = request_headers(headers=IDENTIFIED, subset=hint)
    return (
        (Playbook(router=router).receives(get), []),
        (
            Playbook(router=router).receives(post, request_body(WORDS, end=True)),
            [sends_request_body(WORDS, end=True)],
        ),
    )


@pytest.mark.parametrize(
    ("hint", "destination"),
    [
        (["10.0.0.1:8001"], "10.0.0.1:8001"),
        ("10.0.0.1:8000", "10.0.0.1:8000"),
        (["10.0.0.9:8000, 10.0.0.2:8000"], "10.0.0.2:8000"),
        (["[2001:db8::1]:8000"], "[2001:db8::1]:8000"),
        ("10.0.0.2", "10.0.0.2:8000"),
    ],
)
def test_the_destination_is_in_the_subset_port_included(new_director, hint, destination):
    for play, body in streams(new_director(), hint):
        play.expects(sends_route(destination), *body).run()


@pytest.mark.parametrize("hint", [[], "", ["10.0.0.2:8001"], ["10.0.0.9:8000"], ["[2001:db8::2]:8000"], 7])
def test_a_hint_without_a_candidate_is_a_503(new_director, hint):
    for play, _ in streams(new_director(), hint):
        play.expects(sends_immediate_response(503, dropped="rejected-no-endpoints"), closes_stream()).run()


def test_no_endpoints_is_a_503_with_and_without_body(new_director):
    for play, _ in streams(new_director([]), ["10.0.0.1:8000"]):
        play.expects(sends_immediate_response(503, dropped="rejected-no-endpoints"), closes_stream()).run()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"prompt": "p"}', b"\xff"])
def test_a_body_that_cannot_be_parsed_is_a_400(new_director, mode, body):
    play = Playbook(router=new_director()).receives(request_headers(mode=mode, headers=IDENTIFIED))
    play.expects(*([continues("request_headers")] if mode == "BUFFERED" else []))
    play.receives(request_body(body, end=True)).expects(sends_immediate_response(400), closes_stream()).run()


@pytest.mark.parametrize("mode", ["STREAMED", "NONE"])
def test_a_body_that_is_not_sent_to_us_is_not_parsed(new_director, mode):
    play = Playbook(router=new_director(PODS[:1])).receives(request_headers(mode=mode, headers=IDENTIFIED))
    play.expects(sends_route("10.0.0.1:8000")).run()


def test_a_model_rewrite_changes_nothing_else_of_the_body(new_director):
    rename = {"x-llm-d-model-name-rewrite": "longer", **IDENTIFIED}
    body = b'{ "prompt": "p",\n"model" : "m", "seed": 12345678901234567890, "x": 1e400 }'
    renamed = body.replace(b'"m"', b'"longer"')
    play = Playbook(router=new_director(PODS[:1]))
    play.receives(request_headers(headers=rename), request_body(body, end=True))
    choice = sends_route(
        "10.0.0.1:8000", sets={"content-length": str(len(renamed))}, removes=["x-llm-d-model-name-rewrite"]
    )
    play.expects(choice, sends_request_body(renamed, end=True)).run()
