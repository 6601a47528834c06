"""A recorder that remembers, and a crew for flights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epp.api import INFLIGHT_REQUESTS, Ended, Observer, Request
from epp.clock import ManualClock
from epp.datastore.ledger import Ledger
from epp.requestcontrol.inflight_request import InFlight


class Recording:
    """Implements `epp.requestcontrol.interfaces.Recorder`, and `Account`, by keeping what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def of(self, kind: str) -> list[Any]:
        return [what for name, what in self.calls if name == kind]

    def routed(
        self, model: str, target_model: str, fairness_id: str, priority: int, body_bytes: int, prompt_tokens: int
    ) -> Recording:
        self.calls.append(("routed", (model, target_model, body_bytes, prompt_tokens)))
        return self

    def gap(self, seconds: float) -> None:
        self.calls.append(("gap", seconds))

    def ended(self, streaming: bool, response_bytes: int, how: Ended) -> None:
        self.calls.append(("ended", how))

    def rejected(self, model: str, target_model: str, fairness_id: str, priority: int, code: str) -> None:
        self.calls.append(("rejected", (model, code)))

    def scheduled(self, seconds: float, target_model: str, endpoint: str, namespace: str, port: int) -> None:
        self.calls.append(("scheduled", (target_model, endpoint, port)))

    def plugin(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        self.calls.append(("plugin", (extension_point, type, name)))

    def fault(self, plugin: str, kind: str) -> None:
        self.calls.append(("fault", (plugin, kind)))


class Pool:
    """The crew of some flights over three endpoints: 10.0.0.1:8000 to 10.0.0.3:8000 at slots 0 to 2."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(self.clock)
        self.recorder = Recording()
        self.observers: tuple[Observer, ...] = ()
        self.done: list[InFlight] = []
        self.on_done: Callable[[InFlight], None] = self.done.append
        self.failed: list[Observer] = []

    def slot_of_target(self, target: str) -> int | None:
        return {f"10.0.0.{i + 1}:8000": i for i in range(3)}.get(target)

    def observer_failed(self, observer: Observer) -> None:
        self.failed.append(observer)

    def fly(self, request_id: str = "r1", slot: int = 0, tokens: float = 100.0) -> InFlight:
        """A request that has just been routed."""
        request, ticket = Request(id=request_id, model="m"), self.ledger.reserve(slot, tokens)
        return InFlight(self, request, ticket, tokens, None, self.recorder)

    def load(self) -> list[float]:
        """Requests in flight at the three slots."""
        return [float(count) for count in self.ledger.columns()[INFLIGHT_REQUESTS][:3]]


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def recording() -> Recording:
    return Recording()
