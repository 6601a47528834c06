"""From headers and body to a route and a reservation, with real plugins and real state."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from epp.api import INFLIGHT_REQUESTS, KV_USAGE, RUNNING, WAITING, AsyncProducer, Column, Endpoint
from epp.clock import ManualClock
from epp.config.loader import load
from epp.config.registry import Registry
from epp.datastore.endpoint_store import Table
from epp.datastore.ledger import Ledger
from epp.errors import BadRequest, NoEndpoints, Overloaded
from epp.requestcontrol.completion import AccessLogCompletion, Completion, ObservedCompletion
from epp.requestcontrol.director import Decided, Director, Settings
from epp.requestcontrol.interfaces import Head, Route

QUEUES = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: active-request-scorer
- type: label-selector-filter
  parameters: {matchLabels: {accepts: "yes"}}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: label-selector-filter}
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: active-request-scorer, weight: 1}
"""
CHAT = {":path": "/v1/chat/completions", ":method": "POST", "x-request-id": "r1"}
HELLO = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()


class Bench:
    """A director over endpoints a, b, c with queues 5, 0, 3."""

    def __init__(self, recording: Any, *, text: str = QUEUES, completion: Completion | None = None, **settings: Any):
        self.clock = ManualClock()
        self.table = Table(self.clock)
        self.ledger = Ledger(self.clock)
        self.recording = recording
        self.decided: list[Decided] = []
        for i, (name, queue) in enumerate([("a", 5.0), ("b", 0.0), ("c", 3.0)]):
            slot = self.table.put(Endpoint(name, f"10.0.0.{i + 1}", 8000, {"accepts": "yes"}))
            values = {WAITING: queue, RUNNING: 1.0, KV_USAGE: 0.1}
            self.table.scraped(slot, self.table.generation(slot), self.clock.now(), values, None)
        self.completion = ObservedCompletion() if completion is None else completion
        self.director = Director(
            load(text, Registry.load()), self.table, self.ledger, self.completion, recording, self.clock, Random(1),
            Settings(**settings), self.decided.append,
        )  # fmt: skip

    def decide(self, body: bytes = HELLO, headers: dict[str, str] | None = None, **head: Any) -> Route:
        route = self.director.decide(Head({**CHAT, **(headers or {})}, **head), body)
        assert isinstance(route, Route)
        return route

    def load(self) -> list[float]:
        return [float(count) for count in self.ledger.columns()[INFLIGHT_REQUESTS][:3]]


@pytest.fixture
def bench(recording: Any) -> Bench:
    return Bench(recording)


def test_the_shortest_queue_is_chosen_and_claimed_at_once(bench: Bench) -> None:
    route = bench.decide()
    assert route.destination == "10.0.0.2:8000"
    assert route.observe
    assert route.body is None
    assert bench.load() == [0, 1, 0]
    assert bench.recording.of("routed") == [("m", "m", len(HELLO), 0)]


def test_the_end_of_the_flight_gives_the_claim_back(bench: Bench) -> None:
    route = bench.decide()
    route.flight.response_started(200, {})
    route.flight.ended("completed")
    assert bench.load() == [0, 0, 0]
    assert [how.status for how in bench.recording.of("ended")] == [200]


def test_a_burst_between_two_scrapes_is_spread(recording: Any) -> None:
    text = QUEUES.replace("weight: 2", "weight: 0.1").replace("weight: 1}", "weight: 3}")
    bench = Bench(recording, text=text)
    for _ in range(6):
        bench.decide()
    assert bench.load() == [2, 2, 2]


def test_the_hint_of_the_gateway_limits_the_choice(bench: Bench) -> None:
    assert bench.decide(subset=("10.0.0.1:8000", "10.0.0.3:8000")).destination == "10.0.0.3:8000"
    assert bench.decide(subset=("10.0.0.1",)).destination == "10.0.0.1:8000"
    for nothing in ((), ("10.0.0.1:9999",)):
        with pytest.raises(NoEndpoints):
            bench.decide(subset=nothing)


def test_the_hint_can_be_switched_off(recording: Any) -> None:
    assert Bench(recording, use_subset=False).decide(subset=()).destination == "10.0.0.2:8000"


def test_filters_that_leave_nothing_mean_429(recording: Any) -> None:
    bench = Bench(recording, text=QUEUES.replace('"yes"', '"no"'))
    with pytest.raises(Overloaded) as refused:
        bench.decide()
    assert refused.value.dropped == "rejected-saturated"
    assert bench.load() == [0, 0, 0]
    assert recording.of("rejected") == [("m", "ResourceExhausted")]
    assert bench.decided[0].refusal.startswith("ResourceExhausted")
    assert bench.decided[0].verdicts["default"].emptied_by == "label-selector-filter"


def test_an_empty_pool_means_503(bench: Bench) -> None:
    bench.table.sync([])
    with pytest.raises(NoEndpoints) as refused:
        bench.decide(body=b"", headers={":path": "/v1/models"}, end_of_stream=True)
    assert refused.value.dropped == "rejected-no-endpoints"


def test_a_request_without_a_body_is_scheduled_too(bench: Bench) -> None:
    assert bench.decide(body=b"", headers={":path": "/v1/models"}, end_of_stream=True).destination == "10.0.0.2:8000"


def test_a_body_not_yet_seen_is_not_parsed(bench: Bench) -> None:
    assert bench.decide(body=b"", body_unseen=True).destination == "10.0.0.2:8000"


@pytest.mark.parametrize("body", [b"{", b'{"messages": [{"role": "user", "content": "x"}]}', b"[]"])
def test_what_cannot_be_read_means_400(bench: Bench, body: bytes) -> None:
    with pytest.raises(BadRequest):
        bench.decide(body=body)
    assert bench.load() == [0, 0, 0]
    (shown,) = bench.decided
    assert (shown.request_id, shown.path) == ("r1", "/v1/chat/completions")
    assert shown.refusal.startswith("BadRequest - ")


def test_a_rewritten_model_replaces_just_the_name(bench: Bench) -> None:
    route = bench.decide(headers={"x-llm-d-model-name-rewrite": "other"})
    assert route.body == HELLO.replace(b'"m"', b'"other"')
    assert bench.recording.of("routed") == [("m", "other", len(HELLO), 0)]


def test_a_control_header_that_is_no_name_is_refused(bench: Bench) -> None:
    for bad in ("x" * 257, "a\nb"):
        with pytest.raises(BadRequest, match="x-llm-d-model-name-rewrite"):
            bench.decide(headers={"x-llm-d-model-name-rewrite": bad})


def test_a_request_without_an_id_gets_one(bench: Bench) -> None:
    route = bench.decide(headers={"x-request-id": ""})
    assert len(route.set_headers["x-request-id"]) == 36


def test_scores_are_shown_when_asked_for(recording: Any) -> None:
    scores = Bench(recording, emit_scores=True).decide().scores
    assert scores is not None
    assert list(scores) == ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"]
    assert scores["10.0.0.2:8000"] == pytest.approx(3.0)


def test_followed_requests_let_go_of_their_body(recording: Any, pool: Any) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    bench = Bench(recording, completion=completion)
    route = bench.decide()
    assert not route.observe
    assert len(completion) == 1
    assert route.flight.request.body == b""  # type: ignore[attr-defined]


SEEN = Column("seen", "requests", "set by the slow producer")


class Slow(AsyncProducer, type="slow"):
    """Produces after an await."""

    gives = (SEEN,)

    async def produce(self, request: Any, endpoints: Any) -> Any:
        return {SEEN: endpoints[WAITING]}


async def test_a_producer_that_waits_makes_the_decision_awaitable(recording: Any) -> None:
    text = QUEUES.replace("- type: max-score", "- type: slow\n- type: max-score").replace(
        "  - {pluginRef: label", "  - {pluginRef: slow}\n  - {pluginRef: label"
    )
    registry = Registry.load()
    classes = {name: registry.find(name) for name in registry if "producer" not in name}
    bench = Bench(recording)
    plan = load(text, Registry.of({**classes, "slow": Slow}))
    director = Director(
        plan, bench.table, bench.ledger, bench.completion, recording, bench.clock, Random(1), Settings(),
        bench.decided.append,
    )  # fmt: skip
    waiting = director.decide(Head(CHAT), HELLO)
    assert not isinstance(waiting, Route)
    bench.table.remove("b")  # leaves while the producer waits
    route = await waiting
    assert route.destination == "10.0.0.3:8000"
    assert bench.ledger.columns()[INFLIGHT_REQUESTS].sum() == 1
