"""Producers: what is learned about a request and its candidates before anyone judges them.

In the order of the plan, which is the order in which they need each other. A producer that fails or is late leaves its
columns NaN and its facts None; the others still run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from epp.api import AsyncProducer, Endpoints, Fact, Need, Produced, Producer, Request, Values
from epp.scheduling.profile_run import Faults, Timer

Producers = Sequence[tuple[str, Producer | AsyncProducer]]


def needs_await(producers: Producers) -> bool:
    """Whether some producer does I/O, so that the decision cannot be made in one call."""
    return any(isinstance(producer, AsyncProducer) for _, producer in producers)


def run_now(
    producers: Producers, request: Request, endpoints: Endpoints, faults: Faults, timer: Timer | None = None
) -> None:
    """Adds columns to the endpoints and facts to the request. Synchronous producers only."""
    for name, producer in producers:
        assert isinstance(producer, Producer), "see needs_await"
        _produce(name, producer, request, endpoints, faults, timer)


async def run(
    producers: Producers,
    request: Request,
    endpoints: Endpoints,
    deadline_seconds: float,
    faults: Faults,
    timer: Timer | None = None,
) -> None:
    """As `run_now`, waiting for I/O until one deadline; neighbours that do not need each other run at once."""
    until = asyncio.get_running_loop().time() + deadline_seconds
    for batch in _batches(producers):
        name, producer = batch[0]
        if isinstance(producer, Producer):
            _produce(name, producer, request, endpoints, faults, timer)
            continue
        waits = [_awaited(name, waiting, request, endpoints, until, faults, timer) for name, waiting in batch]
        results = [await waits[0]] if len(waits) == 1 else await asyncio.gather(*waits)
        for (name, _), produced in zip(batch, results, strict=True):
            _take(name, produced, request, endpoints, faults)


def _batches(producers: Producers) -> list[list[tuple[str, Any]]]:
    batches: list[list[tuple[str, Any]]] = []
    given: set[Need] = set()
    waited = False
    for name, producer in producers:
        waits = isinstance(producer, AsyncProducer)
        if waits and waited and not given.intersection(producer.wants()):
            batches[-1].append((name, producer))
        else:
            batches.append([(name, producer)])
            given.clear()
        given.update(producer.gives)
        waited = waits
    return batches


def _produce(
    name: str, producer: Producer, request: Request, endpoints: Endpoints, faults: Faults, timer: Timer | None
) -> None:
    started = timer.now() if timer else 0.0
    try:
        produced = producer.produce(request, endpoints)
    except Exception:
        faults(name, "raised")
        return
    if timer:
        timer.took("DataProducer", producer.type, name, timer.now() - started)
    _take(name, produced, request, endpoints, faults)


async def _awaited(
    name: str,
    producer: AsyncProducer,
    request: Request,
    endpoints: Endpoints,
    until: float,
    faults: Faults,
    timer: Timer | None,
) -> Produced:
    started = timer.now() if timer else 0.0
    try:
        async with asyncio.timeout_at(until) as limit:
            produced = await producer.produce(request, endpoints)
    except Exception:
        faults(name, "late" if limit.expired() else "raised")
        return {}
    if timer:
        timer.took("DataProducer", producer.type, name, timer.now() - started)
    return produced


def _take(name: str, produced: Produced, request: Request, endpoints: Endpoints, faults: Faults) -> None:
    try:
        for key, value in produced.items():
            if isinstance(key, Fact):
                request.facts[key] = value
                continue
            values: Values = np.asarray(value, np.float32)
            if values.shape == endpoints.slots.shape:
                endpoints.add(key, values)
            else:
                faults(name, "shape")
    except Exception:
        faults(name, "raised")
