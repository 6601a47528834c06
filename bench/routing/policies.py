"""The routing policies under comparison: our director under some configuration, and two that ignore all state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from epp.api import (
    KV_BLOCK_COUNT,
    KV_BLOCK_SIZE,
    KV_CACHE_USAGE,
    RUNNING_REQUESTS,
    SCRAPED_COLUMNS,
    WAITING_REQUESTS,
    Column,
    Endpoint,
)
from epp.clock import Clock
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.requestcontrol.completion import ObservedCompletion
from epp.requestcontrol.director import DecisionRecord, Director, DirectorOptions
from epp.requestcontrol.interfaces import RequestHeaders, RoutedRequest, RoutingDecision
from epp.sim.engine import SimEngine

PATH = "/v1/completions"
MODEL = "sim"
ROUND_ROBIN = "round-robin"
RANDOM = "random"

ColumnValues = dict[Column, float]


class RoutingPolicy(Protocol):
    """One way to choose among servers 0, 1, ..."""

    def choose_server(self, request_id: str, prompt: str, output_tokens: int) -> tuple[int, RoutedRequest]:
        """The server for this prompt, and the routed request to which the response is reported."""

    def record_scrape(self, server: int, started_at: float, values: ColumnValues) -> None:
        """The metrics of a server as scraped at `started_at`."""


class IgnoredRequest:
    """A routed request whose events have no effect."""

    def on_served_by(self, target: str) -> None: ...

    def on_response_headers(self, status: int, headers: object) -> None: ...

    def on_response_body(self, data: bytes) -> None: ...

    def finalize(self, cause: str) -> None: ...


class LoadBlindPolicy:
    """A policy that depends on the number of servers only."""

    def __init__(self, choose: Callable[[], int]) -> None:
        self._choose = choose
        self._request = IgnoredRequest()

    def choose_server(self, request_id: str, prompt: str, output_tokens: int) -> tuple[int, RoutedRequest]:
        return self._choose(), self._request

    def record_scrape(self, server: int, started_at: float, values: ColumnValues) -> None: ...


class NullMetrics:
    """A `SchedulingMetrics`, and the `RequestMetrics` of every request, that record nothing."""

    def record_routed_request(self, *_: object) -> NullMetrics:
        return self

    def record_inter_token_latency(self, seconds: float) -> None: ...

    def record_end(self, *_: object) -> None: ...

    def record_rejection(self, *_: object) -> None: ...

    def record_scheduling_attempt(self, *_: object) -> None: ...

    def record_plugin_duration(self, *_: object) -> None: ...

    def record_plugin_error(self, plugin: str, kind: str) -> None:
        raise AssertionError(f"plugin {plugin} broke its contract: {kind}")


class DirectorPolicy:
    """The director as `epp serve` builds it, observing every response (`--completion extproc`)."""

    def __init__(self, config: str, servers: int, clock: Clock, rng: Random) -> None:
        self._store = EndpointStore(clock)
        self._writer = self._store.create_writer(SCRAPED_COLUMNS)
        slots = [self._store.upsert(Endpoint(f"e{i}", f"10.0.0.{i + 1}", 8000)) for i in range(servers)]
        self._slots: Sequence[int] = slots
        self._server_of = {f"10.0.0.{i + 1}:8000": i for i in range(servers)}
        self._director = Director(
            load_config(config, PluginRegistry.load()),
            self._store,
            Ledger(clock),
            ObservedCompletion(),
            NullMetrics(),
            clock,
            rng,
            DirectorOptions(),
            _discard_decision,
        )

    def choose_server(self, request_id: str, prompt: str, output_tokens: int) -> tuple[int, RoutedRequest]:
        headers = RequestHeaders({":path": PATH, "x-request-id": request_id, "content-type": "application/json"})
        body = b'{"model":"%s","max_tokens":%d,"prompt":"%s"}' % (MODEL.encode(), output_tokens, prompt.encode())
        decision = self._director.route_request(headers, body)
        assert isinstance(decision, RoutingDecision), "no producer here does I/O"
        return self._server_of[decision.destination], decision.request

    def record_scrape(self, server: int, started_at: float, values: ColumnValues) -> None:
        slot = self._slots[server]
        self._writer.record(slot, self._store.generation_of(slot), started_at, values, None)


def _discard_decision(record: DecisionRecord) -> None:
    """Decisions are not kept: `/debug/decisions` does not exist here."""


def create_policy(name: str, config: str, servers: int, clock: Clock, rng: Random) -> RoutingPolicy:
    """The policy of that name; `config` is read for all but the two load-blind ones."""
    if name == ROUND_ROBIN:
        turns = iter(range(1 << 62))
        return LoadBlindPolicy(lambda: next(turns) % servers)
    if name == RANDOM:
        return LoadBlindPolicy(lambda: rng.randrange(servers))
    return DirectorPolicy(config, servers, clock, rng)


def scrape_engine(engine: SimEngine) -> ColumnValues:
    """The values that the picker would read from the server's `/metrics`."""
    return {
        WAITING_REQUESTS: float(len(engine.waiting)),
        RUNNING_REQUESTS: float(len(engine.running)),
        KV_CACHE_USAGE: engine.block_pool.usage,
        KV_BLOCK_SIZE: float(engine.config.block_size),
        KV_BLOCK_COUNT: float(engine.config.total_blocks),
    }
