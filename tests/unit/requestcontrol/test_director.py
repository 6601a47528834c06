"""From headers and body to a route and a reservation, with real plugins and real state."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from epp.api import (
    INFLIGHT_REQUESTS,
    KV_CACHE_USAGE,
    RUNNING_REQUESTS,
    WAITING_REQUESTS,
    AsyncProducer,
    Column,
    Endpoint,
)
from epp.clock import ManualClock
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.errors import BadRequest, NoEndpoints, Overloaded
from epp.requestcontrol.completion import AccessLogCompletion, Completion, ObservedCompletion
from epp.requestcontrol.director import DecisionRecord, Director, DirectorOptions
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from tests.unit.requestcontrol.conftest import InflightHarness, RecordingMetrics

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


class DirectorHarness:
    """A director over endpoints a, b, c with queues 5, 0, 3."""

    def __init__(
        self, recording: RecordingMetrics, *, text: str = QUEUES, completion: Completion | None = None, **settings: Any
    ):
        self.clock = ManualClock()
        self.table = EndpointStore(self.clock)
        self.ledger = Ledger(self.clock)
        self.recording = recording
        self.decisions: list[DecisionRecord] = []
        for i, (name, queue) in enumerate([("a", 5.0), ("b", 0.0), ("c", 3.0)]):
            slot = self.table.upsert(Endpoint(name, f"10.0.0.{i + 1}", 8000, {"accepts": "yes"}))
            values = {WAITING_REQUESTS: queue, RUNNING_REQUESTS: 1.0, KV_CACHE_USAGE: 0.1}
            self.table.record_scrape(slot, self.table.generation_of(slot), self.clock.now(), values, None)
        self.completion = ObservedCompletion() if completion is None else completion
        self.director = Director(
            load_config(text, PluginRegistry.load()), self.table, self.ledger, self.completion, recording,
            self.clock, Random(1), DirectorOptions(**settings), self.decisions.append,
        )  # fmt: skip

    def route_request(self, body: bytes = HELLO, headers: dict[str, str] | None = None, **head: Any) -> RoutingDecision:
        route = self.director.route_request(RequestHeaders({**CHAT, **(headers or {})}, **head), body)
        assert isinstance(route, RoutingDecision)
        return route

    def inflight_counts(self) -> list[float]:
        return [float(count) for count in self.ledger.columns()[INFLIGHT_REQUESTS][:3]]


@pytest.fixture
def bench(recording: RecordingMetrics) -> DirectorHarness:
    return DirectorHarness(recording)


def test_the_shortest_queue_is_chosen_and_claimed_at_once(bench: DirectorHarness) -> None:
    route = bench.route_request()
    assert route.destination == "10.0.0.2:8000"
    assert route.observe_response
    assert route.body is None
    assert bench.inflight_counts() == [0, 1, 0]
    assert bench.recording.calls_of("routed") == [("m", "m", len(HELLO), 0)]


def test_the_end_of_the_flight_gives_the_claim_back(bench: DirectorHarness) -> None:
    route = bench.route_request()
    route.request.on_response_headers(200, {})
    route.request.finalize("completed")
    assert bench.inflight_counts() == [0, 0, 0]
    assert [how.status for how in bench.recording.calls_of("ended")] == [200]


def test_a_burst_between_two_scrapes_is_spread(recording: RecordingMetrics) -> None:
    text = QUEUES.replace("weight: 2", "weight: 0.1").replace("weight: 1}", "weight: 3}")
    bench = DirectorHarness(recording, text=text)
    for _ in range(6):
        bench.route_request()
    assert bench.inflight_counts() == [2, 2, 2]


def test_the_hint_of_the_gateway_limits_the_choice(bench: DirectorHarness) -> None:
    assert bench.route_request(subset_hint=("10.0.0.1:8000", "10.0.0.3:8000")).destination == "10.0.0.3:8000"
    assert bench.route_request(subset_hint=("10.0.0.1",)).destination == "10.0.0.1:8000"
    for nothing in ((), ("10.0.0.1:9999",)):
        with pytest.raises(NoEndpoints):
            bench.route_request(subset_hint=nothing)


def test_the_hint_can_be_switched_off(recording: RecordingMetrics) -> None:
    assert (
        DirectorHarness(recording, use_subset_hint=False).route_request(subset_hint=()).destination == "10.0.0.2:8000"
    )


def test_filters_that_leave_nothing_mean_429(recording: RecordingMetrics) -> None:
    bench = DirectorHarness(recording, text=QUEUES.replace('"yes"', '"no"'))
    with pytest.raises(Overloaded) as refused:
        bench.route_request()
    assert refused.value.dropped_reason == "rejected-saturated"
    assert bench.inflight_counts() == [0, 0, 0]
    assert recording.calls_of("rejected") == [("m", "ResourceExhausted")]
    assert bench.decisions[0].rejection.startswith("ResourceExhausted")
    assert bench.decisions[0].results["default"].emptied_by == "label-selector-filter"


def test_an_empty_pool_means_503(bench: DirectorHarness) -> None:
    bench.table.replace_all([])
    with pytest.raises(NoEndpoints) as refused:
        bench.route_request(body=b"", headers={":path": "/v1/models"}, end_of_stream=True)
    assert refused.value.dropped_reason == "rejected-no-endpoints"


def test_a_request_without_a_body_is_scheduled_too(bench: DirectorHarness) -> None:
    assert (
        bench.route_request(body=b"", headers={":path": "/v1/models"}, end_of_stream=True).destination
        == "10.0.0.2:8000"
    )


def test_a_body_not_yet_seen_is_not_parsed(bench: DirectorHarness) -> None:
    assert bench.route_request(body=b"", routed_before_body=True).destination == "10.0.0.2:8000"


@pytest.mark.parametrize("body", [b"{", b'{"messages": [{"role": "user", "content": "x"}]}', b"[]"])
def test_what_cannot_be_read_means_400(bench: DirectorHarness, body: bytes) -> None:
    with pytest.raises(BadRequest):
        bench.route_request(body=body)
    assert bench.inflight_counts() == [0, 0, 0]
    (shown,) = bench.decisions
    assert (shown.request_id, shown.path) == ("r1", "/v1/chat/completions")
    assert shown.rejection.startswith("BadRequest - ")


def test_a_rewritten_model_replaces_just_the_name(bench: DirectorHarness) -> None:
    route = bench.route_request(headers={"x-llm-d-model-name-rewrite": "other"})
    assert route.body == HELLO.replace(b'"m"', b'"other"')
    assert bench.recording.calls_of("routed") == [("m", "other", len(HELLO), 0)]


def test_a_control_header_that_is_no_name_is_refused(bench: DirectorHarness) -> None:
    for bad in ("x" * 257, "a\nb"):
        with pytest.raises(BadRequest, match="x-llm-d-model-name-rewrite"):
            bench.route_request(headers={"x-llm-d-model-name-rewrite": bad})


def test_a_request_without_an_id_gets_one(bench: DirectorHarness) -> None:
    route = bench.route_request(headers={"x-request-id": ""})
    assert len(route.set_headers["x-request-id"]) == 36


def test_scores_are_shown_when_asked_for(recording: RecordingMetrics) -> None:
    scores = DirectorHarness(recording, emit_scores=True).route_request().scores
    assert scores is not None
    assert list(scores) == ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"]
    assert scores["10.0.0.2:8000"] == pytest.approx(3.0)


def test_followed_requests_let_go_of_their_body(recording: RecordingMetrics, pool: InflightHarness) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    bench = DirectorHarness(recording, completion=completion)
    route = bench.route_request()
    assert not route.observe_response
    assert len(completion) == 1
    assert route.request.request.body == b""  # type: ignore[attr-defined]


SEEN = Column("seen", "requests", "set by the slow producer")


class Slow(AsyncProducer, type="slow"):
    """Produces after an await."""

    produces = (SEEN,)

    async def produce(self, request: Any, endpoints: Any) -> Any:
        return {SEEN: endpoints[WAITING_REQUESTS]}


async def test_a_producer_that_waits_makes_the_decision_awaitable(recording: RecordingMetrics) -> None:
    text = QUEUES.replace("- type: max-score", "- type: slow\n- type: max-score").replace(
        "  - {pluginRef: label", "  - {pluginRef: slow}\n  - {pluginRef: label"
    )
    registry = PluginRegistry.load()
    classes = {name: registry.find_class(name) for name in registry if "producer" not in name}
    bench = DirectorHarness(recording)
    plan = load_config(text, PluginRegistry.from_classes({**classes, "slow": Slow}))
    director = Director(
        plan, bench.table, bench.ledger, bench.completion, recording, bench.clock, Random(1), DirectorOptions(),
        bench.decisions.append,
    )  # fmt: skip
    waiting = director.route_request(RequestHeaders(CHAT), HELLO)
    assert not isinstance(waiting, RoutingDecision)
    bench.table.remove("b")  # leaves while the producer waits
    route = await waiting
    assert route.destination == "10.0.0.3:8000"
    assert bench.ledger.columns()[INFLIGHT_REQUESTS].sum() == 1
