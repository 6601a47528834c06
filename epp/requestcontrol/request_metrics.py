"""What request control records about requests; implemented by `epp.obs.metrics`."""

from __future__ import annotations

from typing import Protocol

from epp.api import RequestOutcome
from epp.scheduling.plugin_metrics import PluginMetrics


class RequestMetrics(Protocol):
    """The metrics of one routed request."""

    def record_inter_token_latency(self, seconds: float) -> None:
        """The time between two chunks of a streamed response."""

    def record_end(self, streaming: bool, response_bytes: int, outcome: RequestOutcome) -> None:
        """The request ended; called once."""


class SchedulingMetrics(PluginMetrics, Protocol):
    """The metrics of all requests and scheduling cycles."""

    def record_routed_request(
        self, model: str, target_model: str, fairness_id: str, priority: int, body_bytes: int, prompt_tokens: int
    ) -> RequestMetrics:
        """A request was routed; `prompt_tokens` is our estimate. Returns where the rest of its life is recorded."""
        ...

    def record_rejection(self, model: str, target_model: str, fairness_id: str, priority: int, code: str) -> None:
        """A request was answered with an error; `code` is the value of llm-d's label `error_code`."""

    def record_scheduling_attempt(
        self, seconds: float, target_model: str, endpoint: str, namespace: str, port: int
    ) -> None:
        """A scheduling cycle ended; an empty `endpoint` means that it failed."""
