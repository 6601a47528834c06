"""A recorder that remembers, and a crew for flights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epp.api import INFLIGHT_REQUESTS, Request, RequestHooks, RequestOutcome
from epp.clock import ManualClock
from epp.datastore.ledger import Ledger
from epp.requestcontrol.inflight_request import InflightDependencies, InflightRequest


class RecordingMetrics:
    """Implements `epp.requestcontrol.interfaces.Recorder`, and `Account`, by keeping what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def calls_of(self, kind: str) -> list[Any]:
        return [what for name, what in self.calls if name == kind]

    def record_routed_request(
        self, model: str, target_model: str, fairness_id: str, priority: int, body_bytes: int, prompt_tokens: int
    ) -> RecordingMetrics:
        self.calls.append(("routed", (model, target_model, body_bytes, prompt_tokens)))
        return self

    def record_inter_token_latency(self, seconds: float) -> None:
        self.calls.append(("gap", seconds))

    def record_end(self, streaming: bool, response_bytes: int, how: RequestOutcome) -> None:
        self.calls.append(("ended", how))

    def record_rejection(self, model: str, target_model: str, fairness_id: str, priority: int, code: str) -> None:
        self.calls.append(("rejected", (model, code)))

    def record_scheduling_attempt(
        self, seconds: float, target_model: str, endpoint: str, namespace: str, port: int
    ) -> None:
        self.calls.append(("scheduled", (target_model, endpoint, port)))

    def record_plugin_duration(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        self.calls.append(("plugin", (extension_point, type, name)))

    def record_plugin_error(self, plugin: str, kind: str) -> None:
        self.calls.append(("fault", (plugin, kind)))


class InflightHarness:
    """The crew of some flights over three endpoints: 10.0.0.1:8000 to 10.0.0.3:8000 at slots 0 to 2."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(self.clock)
        self.recorder = RecordingMetrics()
        self.request_hooks: tuple[RequestHooks, ...] = ()
        self.done: list[InflightRequest] = []
        self.untrack: Callable[[InflightRequest], None] = self.done.append
        self.failed: list[RequestHooks] = []

    def find_slot(self, target: str) -> int | None:
        return {f"10.0.0.{i + 1}:8000": i for i in range(3)}.get(target)

    def report_hook_error(self, observer: RequestHooks) -> None:
        self.failed.append(observer)

    def start_request(self, request_id: str = "r1", slot: int = 0, tokens: float = 100.0) -> InflightRequest:
        """A request that has just been routed."""
        request, ticket = Request(id=request_id, model="m"), self.ledger.reserve(slot, tokens)
        dependencies = InflightDependencies(
            self.clock, self.ledger, self.request_hooks, self.find_slot, self.untrack, self.report_hook_error
        )
        return InflightRequest(dependencies, request, ticket, tokens, None, self.recorder)

    def inflight_counts(self) -> list[float]:
        """Requests in flight at the three slots."""
        return [float(count) for count in self.ledger.columns()[INFLIGHT_REQUESTS][:3]]


@pytest.fixture
def pool() -> InflightHarness:
    return InflightHarness()


@pytest.fixture
def recording() -> RecordingMetrics:
    return RecordingMetrics()
