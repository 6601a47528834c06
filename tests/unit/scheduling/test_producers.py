"""Data producers: their outputs, failures, deadline and concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from epp.api import AsyncProducer, Column, DataKey, Endpoints, ProducedData, Producer, Request, RequestAttribute
from epp.scheduling.producers import Producers, has_async_producer, run_producers, run_sync_producers
from epp.testing import build_endpoints, build_request

HEAT = Column("heat", "degrees", "temperature of the endpoint")
SHADE = Column("shade", "fraction", "shade of the endpoint")
MOOD = RequestAttribute("mood", "", "an attribute of the request")


class SyncStub(Producer, type="now"):
    produces = (HEAT, MOOD)
    compute: Callable[[Request, Endpoints], ProducedData]

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return self.compute(request, endpoints)


class AsyncStub(AsyncProducer, type="later"):
    """Returns `output` once the event `wait` is set."""

    output: ProducedData
    consumed: tuple[DataKey, ...] = ()
    wait: asyncio.Event | None = None
    started: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.consumes = self.consumed

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        if self.started is not None:
            self.started.set()
        if self.wait is not None:
            await self.wait.wait()
        return self.output


class Broken(AsyncProducer, type="broken"):
    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        raise TimeoutError("raised by the tokenizer, not by our deadline")


Errors = list[tuple[str, str]]


@pytest.fixture
def errors() -> Errors:
    return []


def heat_column(*values: float) -> ProducedData:
    return {HEAT: np.array(values, np.float32)}


def fail(request: Request, endpoints: Endpoints) -> ProducedData:
    raise RuntimeError("no thermometer")


def test_columns_and_attributes_are_stored(errors: Errors) -> None:
    request, pool = build_request(), build_endpoints(2)
    producers = [("a", SyncStub(compute=lambda *_: {**heat_column(1, 2), MOOD: "fine"}))]
    run_sync_producers(producers, request, pool, lambda *error: errors.append(error))
    assert pool[HEAT].tolist() == [1, 2]
    assert request[MOOD] == "fine"
    assert errors == []


def test_later_producers_see_the_outputs_of_earlier_ones(errors: Errors) -> None:
    def double(request: Request, endpoints: Endpoints) -> ProducedData:
        return {HEAT: endpoints[HEAT] * 2}

    producers = [("a", SyncStub(compute=lambda *_: heat_column(1, 2))), ("b", SyncStub(compute=double))]
    pool = build_endpoints(2)
    run_sync_producers(producers, build_request(), pool, lambda *error: errors.append(error))
    assert pool[HEAT].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("compute", "kind"),
    [
        (fail, "raised"),
        (lambda *_: heat_column(1), "shape"),
        (lambda *_: None, "raised"),
        (lambda *_: {HEAT: "x"}, "raised"),
    ],
)
def test_a_failed_producer_leaves_nan_and_the_others_run(
    errors: Errors, compute: Callable[[Request, Endpoints], ProducedData], kind: str
) -> None:
    producers = [("bad", SyncStub(compute=compute)), ("good", SyncStub(compute=lambda *_: {SHADE: [0.5, 0.5]}))]
    pool = build_endpoints(2)
    run_sync_producers(producers, build_request(), pool, lambda *error: errors.append(error))
    assert np.isnan(pool[HEAT]).all()
    assert pool[SHADE].tolist() == [0.5, 0.5]
    assert errors == [("bad", kind)]


def test_has_async_producer() -> None:
    assert not has_async_producer([("a", SyncStub(compute=fail))])
    assert has_async_producer([("a", SyncStub(compute=fail)), ("b", Broken())])


async def test_independent_neighbours_run_concurrently(errors: Errors) -> None:
    """Each waits until the other has started, so run one after the other neither would end."""
    left, right = asyncio.Event(), asyncio.Event()
    producers: Producers = [
        ("a", AsyncStub(output=heat_column(1, 2), wait=right, started=left)),
        ("b", AsyncStub(output={MOOD: "fine"}, wait=left, started=right)),
    ]
    request = build_request()
    pool = build_endpoints(2)
    await run_producers(producers, request, pool, 5.0, lambda *error: errors.append(error))
    assert (pool[HEAT].tolist(), request[MOOD]) == ([1, 2], "fine")


async def test_a_consumer_runs_after_its_producer(errors: Errors) -> None:
    seen: list[object] = []

    class MoodConsumer(AsyncProducer, type="reads"):
        consumes = (MOOD,)

        async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
            seen.append(request[MOOD])
            return {}

    class MoodProducer(AsyncStub, type="gives"):
        produces = (MOOD,)

    producers: Producers = [("a", MoodProducer(output={MOOD: "fine"})), ("b", MoodConsumer())]
    await run_producers(producers, build_request(), build_endpoints(1), 5.0, lambda *error: errors.append(error))
    assert seen == ["fine"]


async def test_all_producers_share_one_deadline(errors: Errors) -> None:
    never = asyncio.Event()
    producers: Producers = [
        ("quick", AsyncStub(output=heat_column(1, 2))),
        ("hung", AsyncStub(output={}, wait=never)),
        ("sync", SyncStub(compute=lambda *_: {SHADE: np.ones(2, np.float32)})),
        ("after", AsyncStub(output={}, wait=never)),
    ]
    pool = build_endpoints(2)
    await run_producers(producers, build_request(), pool, 0.01, lambda *error: errors.append(error))
    assert pool[HEAT].tolist() == [1, 2]
    assert pool[SHADE].tolist() == [1, 1]
    assert errors == [("hung", "late"), ("after", "late")]


async def test_a_timeout_error_raised_by_a_producer_is_an_ordinary_failure(errors: Errors) -> None:
    await run_producers(
        [("a", Broken())], build_request(), build_endpoints(2), 5.0, lambda *error: errors.append(error)
    )
    assert errors == [("a", "raised")]
