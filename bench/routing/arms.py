"""Who chooses: our director under some configuration, or one of the two policies that know nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from epp.api import BLOCK_COUNT, BLOCK_SIZE, KV_USAGE, RUNNING, WAITING, Column, Endpoint
from epp.clock import Clock
from epp.config.loader import load
from epp.config.registry import Registry
from epp.datastore.endpoint_store import Table
from epp.datastore.ledger import Ledger
from epp.requestcontrol.completion import ObservedCompletion
from epp.requestcontrol.director import Decided, Director, Settings
from epp.requestcontrol.interfaces import Flight, Head, Route
from epp.sim.engine import Engine

PATH = "/v1/completions"
MODEL = "sim"
ROUND_ROBIN = "round-robin"
RANDOM = "random"

Values = dict[Column, float]


class Arm(Protocol):
    """One way to choose among servers 0, 1, …"""

    def choose(self, request_id: str, prompt: str, answer: int) -> tuple[int, Flight]:
        """The server for this prompt, and whom to tell of the answer."""

    def scraped(self, server: int, started: float, values: Values) -> None:
        """What a server said of itself at `started`."""


class NoFlight:
    """Nobody wants to know."""

    def served(self, target: str) -> None: ...

    def response_started(self, status: int, headers: object) -> None: ...

    def response_data(self, data: bytes) -> None: ...

    def ended(self, cause: str) -> None: ...


class Blind:
    """Any function of the number of servers."""

    def __init__(self, choice: Callable[[], int]) -> None:
        self._choice = choice
        self._flight = NoFlight()

    def choose(self, request_id: str, prompt: str, answer: int) -> tuple[int, Flight]:
        return self._choice(), self._flight

    def scraped(self, server: int, started: float, values: Values) -> None: ...


class Unrecorded:
    """A `Recorder` of nothing, and the `Account` of every request."""

    def routed(self, *_: object) -> Unrecorded:
        return self

    def gap(self, seconds: float) -> None: ...

    def ended(self, *_: object) -> None: ...

    def rejected(self, *_: object) -> None: ...

    def scheduled(self, *_: object) -> None: ...

    def plugin(self, *_: object) -> None: ...

    def fault(self, plugin: str, kind: str) -> None:
        raise AssertionError(f"plugin {plugin} broke its contract: {kind}")


class Picked:
    """The director as `epp serve` builds it, told of every response (`--completion extproc`)."""

    def __init__(self, config: str, servers: int, clock: Clock, rng: Random) -> None:
        self._table = Table(clock)
        slots = [self._table.put(Endpoint(f"e{i}", f"10.0.0.{i + 1}", 8000)) for i in range(servers)]
        self._slots: Sequence[int] = slots
        self._server_of = {f"10.0.0.{i + 1}:8000": i for i in range(servers)}
        self._director = Director(
            load(config, Registry.load()),
            self._table,
            Ledger(clock),
            ObservedCompletion(),
            Unrecorded(),
            clock,
            rng,
            Settings(),
            _forget,
        )

    def choose(self, request_id: str, prompt: str, answer: int) -> tuple[int, Flight]:
        head = Head({":path": PATH, "x-request-id": request_id, "content-type": "application/json"})
        body = b'{"model":"%s","max_tokens":%d,"prompt":"%s"}' % (MODEL.encode(), answer, prompt.encode())
        route = self._director.decide(head, body)
        assert isinstance(route, Route), "no producer here does I/O"
        return self._server_of[route.destination], route.flight

    def scraped(self, server: int, started: float, values: Values) -> None:
        slot = self._slots[server]
        self._table.scraped(slot, self._table.generation(slot), started, values, None)


def _forget(decided: Decided) -> None:
    """`epp explain` is not asked here."""


def make(name: str, config: str, servers: int, clock: Clock, rng: Random) -> Arm:
    """The arm of that name; `config` is read for arms other than the two blind ones."""
    if name == ROUND_ROBIN:
        turns = iter(range(1 << 62))
        return Blind(lambda: next(turns) % servers)
    if name == RANDOM:
        return Blind(lambda: rng.randrange(servers))
    return Picked(config, servers, clock, rng)


def metrics_of(engine: Engine) -> Values:
    """What the picker reads off a server's `/metrics` page."""
    return {
        WAITING: float(len(engine.waiting)),
        RUNNING: float(len(engine.running)),
        KV_USAGE: engine.pool.usage,
        BLOCK_SIZE: float(engine.config.block_size),
        BLOCK_COUNT: float(engine.config.blocks),
    }
