"""Producers: what they leave behind, and what happens when they fail or are late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from epp.api import AsyncProducer, Column, DataKey, Endpoints, ProducedData, Producer, Request, RequestAttribute
from epp.scheduling.producers import Producers, has_async_producer, run_producers, run_sync_producers
from epp.testing import build_endpoints, build_request

HEAT = Column("heat", "degrees", "how hot the endpoint is")
SHADE = Column("shade", "fraction", "how shady")
MOOD = RequestAttribute("mood", "", "how the request feels")


class SyncStub(Producer, type="now"):
    produces = (HEAT, MOOD)
    what: Callable[[Request, Endpoints], ProducedData]

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return self.what(request, endpoints)


class AsyncStub(AsyncProducer, type="later"):
    """Gives what it is told to, once the event is set."""

    what: ProducedData
    needed: tuple[DataKey, ...] = ()
    wait: asyncio.Event | None = None
    begun: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.consumes = self.needed

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        if self.begun is not None:
            self.begun.set()
        if self.wait is not None:
            await self.wait.wait()
        return self.what


class Broken(AsyncProducer, type="broken"):
    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        raise TimeoutError("the tokenizer said so, not our deadline")


Faults = list[tuple[str, str]]


@pytest.fixture
def faults() -> Faults:
    return []


def heat_column(*values: float) -> ProducedData:
    return {HEAT: np.array(values, np.float32)}


def fail(request: Request, endpoints: Endpoints) -> ProducedData:
    raise RuntimeError("no thermometer")


def test_columns_and_facts(faults: Faults) -> None:
    asked, pool = build_request(), build_endpoints(2)
    producers = [("a", SyncStub(what=lambda *_: {**heat_column(1, 2), MOOD: "fine"}))]
    run_sync_producers(producers, asked, pool, lambda *fault: faults.append(fault))
    assert pool[HEAT].tolist() == [1, 2]
    assert asked[MOOD] == "fine"
    assert faults == []


def test_later_producers_see_what_earlier_ones_gave(faults: Faults) -> None:
    def double(request: Request, endpoints: Endpoints) -> ProducedData:
        return {HEAT: endpoints[HEAT] * 2}

    producers = [("a", SyncStub(what=lambda *_: heat_column(1, 2))), ("b", SyncStub(what=double))]
    pool = build_endpoints(2)
    run_sync_producers(producers, build_request(), pool, lambda *fault: faults.append(fault))
    assert pool[HEAT].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (fail, "raised"),
        (lambda *_: heat_column(1), "shape"),
        (lambda *_: None, "raised"),
        (lambda *_: {HEAT: "x"}, "raised"),
    ],
)
def test_a_failure_leaves_unknowns_and_the_others_run(
    faults: Faults, what: Callable[[Request, Endpoints], ProducedData], kind: str
) -> None:
    producers = [("bad", SyncStub(what=what)), ("good", SyncStub(what=lambda *_: {SHADE: [0.5, 0.5]}))]
    pool = build_endpoints(2)
    run_sync_producers(producers, build_request(), pool, lambda *fault: faults.append(fault))
    assert np.isnan(pool[HEAT]).all()
    assert pool[SHADE].tolist() == [0.5, 0.5]
    assert faults == [("bad", kind)]


def test_whether_to_wait() -> None:
    assert not has_async_producer([("a", SyncStub(what=fail))])
    assert has_async_producer([("a", SyncStub(what=fail)), ("b", Broken())])


async def test_neighbours_run_at_once(faults: Faults) -> None:
    """Each waits for the other to have begun: one after the other, neither would end."""
    left, right = asyncio.Event(), asyncio.Event()
    producers: Producers = [
        ("a", AsyncStub(what=heat_column(1, 2), wait=right, begun=left)),
        ("b", AsyncStub(what={MOOD: "fine"}, wait=left, begun=right)),
    ]
    asked = build_request()
    pool = build_endpoints(2)
    await run_producers(producers, asked, pool, 5.0, lambda *fault: faults.append(fault))
    assert (pool[HEAT].tolist(), asked[MOOD]) == ([1, 2], "fine")


async def test_who_needs_another_comes_after_it(faults: Faults) -> None:
    seen: list[object] = []

    class Reads(AsyncProducer, type="reads"):
        consumes = (MOOD,)

        async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
            seen.append(request[MOOD])
            return {}

    class Gives(AsyncStub, type="gives"):
        produces = (MOOD,)

    producers: Producers = [("a", Gives(what={MOOD: "fine"})), ("b", Reads())]
    await run_producers(producers, build_request(), build_endpoints(1), 5.0, lambda *fault: faults.append(fault))
    assert seen == ["fine"]


async def test_one_deadline_for_all(faults: Faults) -> None:
    never = asyncio.Event()
    producers: Producers = [
        ("quick", AsyncStub(what=heat_column(1, 2))),
        ("hung", AsyncStub(what={}, wait=never)),
        ("sync", SyncStub(what=lambda *_: {SHADE: np.ones(2, np.float32)})),
        ("after", AsyncStub(what={}, wait=never)),
    ]
    pool = build_endpoints(2)
    await run_producers(producers, build_request(), pool, 0.01, lambda *fault: faults.append(fault))
    assert pool[HEAT].tolist() == [1, 2]
    assert pool[SHADE].tolist() == [1, 1]
    assert faults == [("hung", "late"), ("after", "late")]


async def test_a_timeout_of_its_own_is_a_failure_like_any_other(faults: Faults) -> None:
    await run_producers(
        [("a", Broken())], build_request(), build_endpoints(2), 5.0, lambda *fault: faults.append(fault)
    )
    assert faults == [("a", "raised")]
