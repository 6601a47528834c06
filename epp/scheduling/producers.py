"""Runs the data producers: what they learn about the request and its candidates before filters and scorers run.

Producers run in the order of the plan, in which each comes after those whose data it consumes. One that fails or misses
the deadline leaves its columns NaN and its request attributes None, and the others still run; in llm-d's
`executePluginsAsDAG` a failure stops the producers after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from epp.api import AsyncProducer, DataKey, Endpoints, ProducedData, Producer, Request, RequestAttribute, Values
from epp.scheduling.plugin_metrics import PluginTimer, ReportPluginError

Producers = Sequence[tuple[str, Producer | AsyncProducer]]
"""(name, plugin) in the order of the plan."""


def has_async_producer(producers: Producers) -> bool:
    """Whether some producer does I/O, so that the decision has to be awaited."""
    return any(isinstance(producer, AsyncProducer) for _, producer in producers)


def run_sync_producers(
    producers: Producers,
    request: Request,
    endpoints: Endpoints,
    report_error: ReportPluginError,
    timer: PluginTimer | None = None,
) -> None:
    """Adds columns to the endpoints and attributes to the request. Synchronous producers only."""
    for name, producer in producers:
        assert isinstance(producer, Producer), "the caller checks has_async_producer"
        _run_producer(name, producer, request, endpoints, report_error, timer)


async def run_producers(
    producers: Producers,
    request: Request,
    endpoints: Endpoints,
    timeout_seconds: float,
    report_error: ReportPluginError,
    timer: PluginTimer | None = None,
) -> None:
    """As `run_sync_producers`, with one deadline for all that do I/O; independent neighbours run concurrently."""
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    for batch in _batch_independent(producers):
        name, producer = batch[0]
        if isinstance(producer, Producer):
            _run_producer(name, producer, request, endpoints, report_error, timer)
            continue
        waits = [
            _await_producer(name, waiting, request, endpoints, deadline, report_error, timer) for name, waiting in batch
        ]
        results = [await waits[0]] if len(waits) == 1 else await asyncio.gather(*waits)
        for (name, _), produced in zip(batch, results, strict=True):
            _store_outputs(name, produced, request, endpoints, report_error)


def _batch_independent(producers: Producers) -> list[list[tuple[str, Any]]]:
    """Consecutive async producers that consume nothing of each other are one batch; all others are alone."""
    batches: list[list[tuple[str, Any]]] = []
    produced: set[DataKey] = set()
    previous_is_async = False
    for name, producer in producers:
        is_async = isinstance(producer, AsyncProducer)
        if is_async and previous_is_async and not produced.intersection(producer.consumes):
            batches[-1].append((name, producer))
        else:
            batches.append([(name, producer)])
            produced.clear()
        produced.update(producer.produces)
        previous_is_async = is_async
    return batches


def _run_producer(
    name: str,
    producer: Producer,
    request: Request,
    endpoints: Endpoints,
    report_error: ReportPluginError,
    timer: PluginTimer | None,
) -> None:
    started_at = timer.now() if timer else 0.0
    try:
        produced = producer.produce(request, endpoints)
    except Exception:
        report_error(name, "raised")
        return
    if timer:
        timer.record("DataProducer", producer.type, name, timer.now() - started_at)
    _store_outputs(name, produced, request, endpoints, report_error)


async def _await_producer(
    name: str,
    producer: AsyncProducer,
    request: Request,
    endpoints: Endpoints,
    deadline: float,
    report_error: ReportPluginError,
    timer: PluginTimer | None,
) -> ProducedData:
    started_at = timer.now() if timer else 0.0
    try:
        async with asyncio.timeout_at(deadline) as timeout:
            produced = await producer.produce(request, endpoints)
    except Exception:
        report_error(name, "late" if timeout.expired() else "raised")
        return {}
    if timer:
        timer.record("DataProducer", producer.type, name, timer.now() - started_at)
    return produced


def _store_outputs(
    name: str, produced: ProducedData, request: Request, endpoints: Endpoints, report_error: ReportPluginError
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
                report_error(name, "shape")
    except Exception:
        report_error(name, "raised")
