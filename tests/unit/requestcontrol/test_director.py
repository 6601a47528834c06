"""From headers and body to a routing decision and a reservation, with the real plugins and state."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from epp.api import (
    INFLIGHT_REQUESTS,
    KV_CACHE_USAGE,
    RUNNING_REQUESTS,
    SCRAPED_COLUMNS,
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
        self, metrics: RecordingMetrics, *, text: str = QUEUES, completion: Completion | None = None, **settings: Any
    ):
        self.clock = ManualClock()
        self.store = EndpointStore(self.clock)
        self.ledger = Ledger(self.clock)
        self.metrics = metrics
        self.decisions: list[DecisionRecord] = []
        writer = self.store.create_writer(SCRAPED_COLUMNS)
        for i, (name, queue) in enumerate([("a", 5.0), ("b", 0.0), ("c", 3.0)]):
            slot = self.store.upsert(Endpoint(name, f"10.0.0.{i + 1}", 8000, {"accepts": "yes"}))
            values = {WAITING_REQUESTS: queue, RUNNING_REQUESTS: 1.0, KV_CACHE_USAGE: 0.1}
            writer.record(slot, self.store.generation_of(slot), self.clock.now(), values, None)
        self.completion = ObservedCompletion() if completion is None else completion
        self.director = Director(
            load_config(text, PluginRegistry.load()), self.store, self.ledger, self.completion, metrics,
            self.clock, Random(1), DirectorOptions(**settings), self.decisions.append,
        )  # fmt: skip

    def route_request(
        self, body: bytes = HELLO, headers: dict[str, str] | None = None, **options: Any
    ) -> RoutingDecision:
        decision = self.director.route_request(RequestHeaders({**CHAT, **(headers or {})}, **options), body)
        assert isinstance(decision, RoutingDecision)
        return decision

    def inflight_counts(self) -> list[float]:
        return [float(count) for count in self.ledger.columns()[INFLIGHT_REQUESTS][:3]]


@pytest.fixture
def harness(metrics: RecordingMetrics) -> DirectorHarness:
    return DirectorHarness(metrics)


def test_the_shortest_queue_is_picked_and_reserved_at_once(harness: DirectorHarness) -> None:
    decision = harness.route_request()
    assert decision.destination == "10.0.0.2:8000"
    assert decision.observe_response
    assert decision.body is None
    assert harness.inflight_counts() == [0, 1, 0]
    assert harness.metrics.calls_of("routed") == [("m", "m", len(HELLO), 0)]


def test_the_end_of_the_request_releases_the_reservation(harness: DirectorHarness) -> None:
    decision = harness.route_request()
    decision.request.on_response_headers(200, {})
    decision.request.finalize("completed")
    assert harness.inflight_counts() == [0, 0, 0]
    assert [outcome.status for outcome in harness.metrics.calls_of("end")] == [200]


def test_a_burst_between_two_scrapes_is_spread(metrics: RecordingMetrics) -> None:
    text = QUEUES.replace("weight: 2", "weight: 0.1").replace("weight: 1}", "weight: 3}")
    harness = DirectorHarness(metrics, text=text)
    for _ in range(6):
        harness.route_request()
    assert harness.inflight_counts() == [2, 2, 2]


def test_the_subset_hint_limits_the_candidates(harness: DirectorHarness) -> None:
    assert harness.route_request(subset_hint=("10.0.0.1:8000", "10.0.0.3:8000")).destination == "10.0.0.3:8000"
    assert harness.route_request(subset_hint=("10.0.0.1",)).destination == "10.0.0.1:8000"
    for subset_hint in ((), ("10.0.0.1:9999",)):
        with pytest.raises(NoEndpoints):
            harness.route_request(subset_hint=subset_hint)


def test_the_subset_hint_can_be_disabled(metrics: RecordingMetrics) -> None:
    assert DirectorHarness(metrics, use_subset_hint=False).route_request(subset_hint=()).destination == "10.0.0.2:8000"


def test_filters_that_leave_no_endpoint_mean_429(metrics: RecordingMetrics) -> None:
    harness = DirectorHarness(metrics, text=QUEUES.replace('"yes"', '"no"'))
    with pytest.raises(Overloaded) as rejected:
        harness.route_request()
    assert rejected.value.dropped_reason == "rejected-saturated"
    assert harness.inflight_counts() == [0, 0, 0]
    assert metrics.calls_of("rejection") == [("m", "ResourceExhausted")]
    assert harness.decisions[0].rejection.startswith("ResourceExhausted")
    assert harness.decisions[0].results["default"].emptied_by == "label-selector-filter"


def test_an_empty_pool_means_503(harness: DirectorHarness) -> None:
    harness.store.replace_all([])
    with pytest.raises(NoEndpoints) as rejected:
        harness.route_request(body=b"", headers={":path": "/v1/models"}, end_of_stream=True)
    assert rejected.value.dropped_reason == "rejected-no-endpoints"


def test_a_request_without_a_body_is_scheduled_too(harness: DirectorHarness) -> None:
    assert (
        harness.route_request(body=b"", headers={":path": "/v1/models"}, end_of_stream=True).destination
        == "10.0.0.2:8000"
    )


def test_a_body_that_arrives_after_routing_is_not_parsed(harness: DirectorHarness) -> None:
    assert harness.route_request(body=b"", routed_before_body=True).destination == "10.0.0.2:8000"


@pytest.mark.parametrize("body", [b"{", b'{"messages": [{"role": "user", "content": "x"}]}', b"[]"])
def test_an_invalid_body_means_400(harness: DirectorHarness, body: bytes) -> None:
    with pytest.raises(BadRequest):
        harness.route_request(body=body)
    assert harness.inflight_counts() == [0, 0, 0]
    (record,) = harness.decisions
    assert (record.request_id, record.path) == ("r1", "/v1/chat/completions")
    assert record.rejection.startswith("BadRequest - ")


def test_a_model_rewrite_replaces_only_the_model_name(harness: DirectorHarness) -> None:
    decision = harness.route_request(headers={"x-llm-d-model-name-rewrite": "other"})
    assert decision.body == HELLO.replace(b'"m"', b'"other"')
    assert harness.metrics.calls_of("routed") == [("m", "other", len(HELLO), 0)]


def test_a_control_header_that_cannot_be_a_label_is_rejected(harness: DirectorHarness) -> None:
    for bad in ("x" * 257, "a\nb"):
        with pytest.raises(BadRequest, match="x-llm-d-model-name-rewrite"):
            harness.route_request(headers={"x-llm-d-model-name-rewrite": bad})


def test_a_request_without_an_id_gets_one(harness: DirectorHarness) -> None:
    decision = harness.route_request(headers={"x-request-id": ""})
    assert len(decision.set_headers["x-request-id"]) == 36


def test_scores_are_emitted_if_enabled(metrics: RecordingMetrics) -> None:
    scores = DirectorHarness(metrics, emit_scores=True).route_request().scores
    assert scores is not None
    assert list(scores) == ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"]
    assert scores["10.0.0.2:8000"] == pytest.approx(3.0)


def test_tracked_requests_release_their_body(metrics: RecordingMetrics, inflight: InflightHarness) -> None:
    completion = AccessLogCompletion(inflight.clock, Random(1))
    harness = DirectorHarness(metrics, completion=completion)
    decision = harness.route_request()
    assert not decision.observe_response
    assert len(completion) == 1
    assert decision.request.request.body == b""  # type: ignore[attr-defined]


SEEN = Column("seen", "requests", "set by the async producer")


class StubAsyncProducer(AsyncProducer, type="slow"):
    """Produces a copy of a scraped column."""

    produces = (SEEN,)

    async def produce(self, request: Any, endpoints: Any) -> Any:
        return {SEEN: endpoints[WAITING_REQUESTS]}


async def test_a_producer_that_does_io_makes_the_decision_awaitable(metrics: RecordingMetrics) -> None:
    text = QUEUES.replace("- type: max-score", "- type: slow\n- type: max-score").replace(
        "  - {pluginRef: label", "  - {pluginRef: slow}\n  - {pluginRef: label"
    )
    registry = PluginRegistry.load()
    classes = {name: registry.find_class(name) for name in registry if "producer" not in name}
    harness = DirectorHarness(metrics)
    plan = load_config(text, PluginRegistry.from_classes({**classes, "slow": StubAsyncProducer}))
    director = Director(
        plan, harness.store, harness.ledger, harness.completion, metrics, harness.clock, Random(1), DirectorOptions(),
        harness.decisions.append,
    )  # fmt: skip
    pending = director.route_request(RequestHeaders(CHAT), HELLO)
    assert not isinstance(pending, RoutingDecision)
    harness.store.remove("b")  # leaves while the producer waits
    decision = await pending
    assert decision.destination == "10.0.0.3:8000"
    assert harness.ledger.columns()[INFLIGHT_REQUESTS].sum() == 1
