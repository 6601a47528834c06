"""Metrics that keep what was recorded, and the dependencies of in-flight requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epp.api import INFLIGHT_REQUESTS, Request, RequestHooks, RequestOutcome
from epp.clock import ManualClock
from epp.datastore.ledger import Ledger
from epp.requestcontrol.inflight_request import InflightDependencies, InflightRequest


class RecordingMetrics:
    """`SchedulingMetrics`, and the `RequestMetrics` of every request, that keep what was recorded."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def calls_of(self, event: str) -> list[Any]:
        return [recorded for name, recorded in self.calls if name == event]

    def record_routed_request(
        self, model: str, target_model: str, fairness_id: str, priority: int, body_bytes: int, prompt_tokens: int
    ) -> RecordingMetrics:
        self.calls.append(("routed", (model, target_model, body_bytes, prompt_tokens)))
        return self

    def record_inter_token_latency(self, seconds: float) -> None:
        self.calls.append(("latency", seconds))

    def record_end(self, streaming: bool, response_bytes: int, outcome: RequestOutcome) -> None:
        self.calls.append(("end", outcome))

    def record_rejection(self, model: str, target_model: str, fairness_id: str, priority: int, code: str) -> None:
        self.calls.append(("rejection", (model, code)))

    def record_scheduling_attempt(
        self, seconds: float, target_model: str, endpoint: str, namespace: str, port: int
    ) -> None:
        self.calls.append(("scheduling", (target_model, endpoint, port)))

    def record_plugin_duration(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        self.calls.append(("plugin duration", (extension_point, type, name)))

    def record_plugin_error(self, plugin: str, kind: str) -> None:
        self.calls.append(("plugin error", (plugin, kind)))


class InflightHarness:
    """In-flight requests over three endpoints: 10.0.0.1:8000 to 10.0.0.3:8000 at slots 0 to 2."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(self.clock)
        self.metrics = RecordingMetrics()
        self.response_hooks: tuple[RequestHooks, ...] = ()
        self.untracked: list[InflightRequest] = []
        self.untrack: Callable[[InflightRequest], None] = self.untracked.append
        self.failed_hooks: list[RequestHooks] = []

    def start_request(self, request_id: str = "r1", slot: int = 0, tokens: float = 100.0) -> InflightRequest:
        """A request that has just been routed; its dependencies are what the harness holds now."""
        targets = {f"10.0.0.{i + 1}:8000": i for i in range(3)}
        dependencies = InflightDependencies(
            self.clock, self.ledger, self.response_hooks, targets.get, self.untrack, self.failed_hooks.append
        )
        request, reservation = Request(id=request_id, model="m"), self.ledger.reserve(slot, tokens)
        return InflightRequest(dependencies, request, reservation, tokens, None, self.metrics)

    def inflight_counts(self) -> list[float]:
        """Requests in flight at the three slots."""
        return [float(count) for count in self.ledger.columns()[INFLIGHT_REQUESTS][:3]]


@pytest.fixture
def inflight() -> InflightHarness:
    return InflightHarness()


@pytest.fixture
def metrics() -> RecordingMetrics:
    return RecordingMetrics()
