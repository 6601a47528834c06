"""Producers: what is learned about a request and its candidates before anyone judges them.

In the order of the plan, which is the order in which they need each other. A producer that fails or is late leaves its
columns NaN and its facts None; the others still run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from epp.api import AsyncProducer, DataKey, Endpoints, ProducedData, Producer, Request, RequestAttribute, Values
from epp.scheduling.profile_run import PluginTimer, ReportPluginError

Producers = Sequence[tuple[str, Producer | AsyncProducer]]


def has_async_producer(producers: Producers) -> bool:
    """Whether some producer does I/O, so that the decision cannot be made in one call."""
    return any(isinstance(producer, AsyncProducer) for _, producer in producers)


def run_sync_producers(
    producers: Producers,
    request: Request,
    endpoints: Endpoints,
    faults: ReportPluginError,
    timer: PluginTimer | None = None,
) -> None:
    """Adds columns to the endpoints and facts to the request. Synchronous producers only."""
    for name, producer in producers:
        assert isinstance(producer, Producer), "see needs_await"
        _run_producer(name, producer, request, endpoints, faults, timer)


async def run_producers(
    producers: Producers,
    request: Request,
    endpoints: Endpoints,
    deadline_seconds: float,
    faults: ReportPluginError,
    timer: PluginTimer | None = None,
) -> None:
    """As `run_now`, waiting for I/O until one deadline; neighbours that do not need each other run at once."""
    until = asyncio.get_running_loop().time() + deadline_seconds
    for batch in _batch_independent(producers):
        name, producer = batch[0]
        if isinstance(producer, Producer):
            _run_producer(name, producer, request, endpoints, faults, timer)
            continue
        waits = [_await_producer(name, waiting, request, endpoints, until, faults, timer) for name, waiting in batch]
        results = [await waits[0]] if len(waits) == 1 else await asyncio.gather(*waits)
        for (name, _), produced in zip(batch, results, strict=True):
            _store_outputs(name, produced, request, endpoints, faults)


def _batch_independent(producers: Producers) -> list[list[tuple[str, Any]]]:
    batches: list[list[tuple[str, Any]]] = []
    given: set[DataKey] = set()
    waited = False
    for name, producer in producers:
        waits = isinstance(producer, AsyncProducer)
        if waits and waited and not given.intersection(producer.wants()):
            batches[-1].append((name, producer))
        else:
            batches.append([(name, producer)])
            given.clear()
        given.update(producer.produces)
        waited = waits
    return batches


def _run_producer(
    name: str,
    producer: Producer,
    request: Request,
    endpoints: Endpoints,
    faults: ReportPluginError,
    timer: PluginTimer | None,
) -> None:
    started = timer.now() if timer else 0.0
    try:
        produced = producer.produce(request, endpoints)
    except Exception:
        faults(name, "raised")
        return
    if timer:
        timer.record("DataProducer", producer.type, name, timer.now() - started)
    _store_outputs(name, produced, request, endpoints, faults)


async def _await_producer(
    name: str,
    producer: AsyncProducer,
    request: Request,
    endpoints: Endpoints,
    until: float,
    faults: ReportPluginError,
    timer: PluginTimer | None,
) -> ProducedData:
    started = timer.now() if timer else 0.0
    try:
        async with asyncio.timeout_at(until) as limit:
            produced = await producer.produce(request, endpoints)
    except Exception:
        faults(name, "late" if limit.expired() else "raised")
        return {}
    if timer:
        timer.record("DataProducer", producer.type, name, timer.now() - started)
    return produced


def _store_outputs(
    name: str, produced: ProducedData, request: Request, endpoints: Endpoints, faults: ReportPluginError
) -> None:
    try:
        for key, value in produced.items():
            if isinstance(key, RequestAttribute):
                request.attributes[key] = value
                continue
            values: Values = np.asarray(value, np.float32)
            if values.shape == endpoints.slots.shape:
                endpoints.add_column(key, values)
            else:
                faults(name, "shape")
    except Exception:
        faults(name, "raised")
