"""The optional interfaces of plugins: which calls they get, in which order, and what an exception in one does."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
import pytest

from epp.api import (
    INFLIGHT_TOKENS,
    PROMPT,
    Endpoint,
    Endpoints,
    LoadEstimate,
    LoadEstimator,
    Request,
    RequestHeaderProvider,
    RequestHooks,
    RequestOutcome,
    Scorer,
    Scores,
)
from epp.clock import ManualClock
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.requestcontrol.completion import ObservedCompletion
from epp.requestcontrol.director import Director, DirectorOptions
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from tests.unit.requestcontrol.conftest import RecordingMetrics

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: hooked, name: first, parameters: {fails: FAILS}}
- {type: hooked, name: second}
"""


class HookedScorer(Scorer, RequestHooks, LoadEstimator, RequestHeaderProvider, type="hooked"):
    """Implements every interface that the director calls, and records the calls; each raises if `fails`."""

    consumes = (PROMPT,)
    fails: bool = False

    def __post_init__(self) -> None:
        self.calls: list[str] = []

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.ones(len(endpoints), np.float32)

    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        self._record("estimate_load")
        return LoadEstimate(500.0)

    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None:
        self._record(f"pre_request {dict(chosen)} {len(request.body)}")

    def request_headers(self, request: Request, chosen: Mapping[str, Endpoint]) -> Mapping[str, str]:
        self._record("request_headers")
        return {"x-chosen": chosen["default"].name, f"x-{id(self)}": "1"}

    def response_complete(self, request: Request, slot: int, outcome: RequestOutcome) -> None:
        self._record(f"response_complete {slot} {outcome.cause} {len(request.body)}")

    def endpoint_removed(self, slot: int) -> None:
        self._record(f"endpoint_removed {slot}")

    def _record(self, call: str) -> None:
        self.calls.append(call)
        if self.fails:
            raise RuntimeError(call)


CALLS = [
    "pre_request {'default': 0} 4",
    "request_headers",
    "response_complete 0 completed 0",
    "endpoint_removed 0",
]


@pytest.mark.parametrize("fails", [False, True])
def test_each_interface_is_called_in_order_and_an_exception_changes_nothing(
    metrics: RecordingMetrics, fails: bool
) -> None:
    built_in = PluginRegistry.load()
    registry = PluginRegistry.from_classes(
        {**{plugin_type: built_in.find_class(plugin_type) for plugin_type in built_in}, "hooked": HookedScorer}
    )
    plan = load_config(CONFIG.replace("FAILS", str(fails).lower()), registry)
    assert plan.warnings == []
    clock = ManualClock()
    endpoints, ledger = EndpointStore(clock), Ledger(clock)
    endpoints.upsert(Endpoint("a", "10.0.0.1", 8000))
    director = Director(
        plan, endpoints, ledger, ObservedCompletion(), metrics, clock, Random(1), DirectorOptions(), lambda _: None
    )

    decision = director.route_request(RequestHeaders({":path": "/other", "x-request-id": "r1"}), b"body")
    assert isinstance(decision, RoutingDecision)
    tokens = ledger.columns()[INFLIGHT_TOKENS][0]
    decision.request.finalize("completed")
    endpoints.remove("a")

    first, second = (plan.plugins_by_name()[name] for name in ("first", "second"))
    assert isinstance(first, HookedScorer)
    assert isinstance(second, HookedScorer)
    assert first.calls == ["estimate_load", *CALLS]
    assert second.calls == CALLS, "the first load estimator of the configuration counts"
    assert decision.set_headers is not None
    assert decision.set_headers["x-chosen"] == "a"
    assert f"x-{id(second)}" in decision.set_headers
    assert (f"x-{id(first)}" in decision.set_headers) is not fails
    assert (tokens == 500) is not fails
    assert metrics.calls_of("plugin error") == ([("first", "observer")] * 5 if fails else [])
