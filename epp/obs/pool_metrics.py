"""The state of the pool: gauges for `/metrics`, rows for `/debug/state`.

Both are computed from the endpoint store and the ledger when they are read. llm-d computes its gauges every
`--refresh-prometheus-metrics-interval` from endpoints scraped within `--metrics-staleness-threshold`; here the first
flag has no effect (a page is never older than the newest scrape), and the second decides when values become NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from epp.api import (
    DECODING_REQUESTS,
    INFLIGHT_REQUESTS,
    INFLIGHT_TOKENS,
    KV_CACHE_USAGE,
    RUNNING_REQUESTS,
    WAITING_REQUESTS,
    Column,
    Endpoint,
    Snapshot,
)
from epp.clock import Clock
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.obs.metric_cells import collect_values
from epp.obs.metric_table import POOL_METRICS
from epp.obs.metrics import Metrics

_DEFINITIONS = {definition.name.removeprefix("llm_d_epp_"): definition for definition in POOL_METRICS}
_AVERAGED_COLUMNS = {
    "kv_cache_utilization": KV_CACHE_USAGE,
    "queue_size": WAITING_REQUESTS,
    "running_requests": RUNNING_REQUESTS,
}
_INFLIGHT_COLUMNS = (INFLIGHT_REQUESTS, INFLIGHT_TOKENS, DECODING_REQUESTS)


class PoolCollector(Collector):
    """The gauges of the pool named `name` (llm-d's collector of the inference pool).

    `producer` labels the in-flight gauges, which llm-d's inflight-load-producer exposes. The ledger counts by endpoint
    only, so their labels `fairness_id` and `priority` are empty; sums over them, which dashboards draw, are the same.
    """

    def __init__(
        self, name: str, store: EndpointStore, ledger: Ledger, clock: Clock, producer: str = "inflight-load-producer"
    ) -> None:
        self.name = name
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._producer = producer

    def collect(self) -> Iterator[Metric]:
        """All gauges; endpoints whose value is stale are left out of those that show it."""
        snapshot = self._store.snapshot()
        pool_labels = (self.name,)
        for name, column in _AVERAGED_COLUMNS.items():
            summary = self._store.summarize_column(column)
            has_values = summary.endpoints > 0
            yield from collect_values(
                _DEFINITIONS[f"average_{name}"], [(pool_labels, round(summary.mean, 2))] if has_values else []
            )
            yield from collect_values(
                _DEFINITIONS[f"std_dev_{name}"],
                [(pool_labels, round(summary.standard_deviation, 2))] if has_values else [],
            )
        yield from collect_values(_DEFINITIONS["ready_endpoints"], [(pool_labels, len(_fresh_slots(snapshot)))])
        endpoints = [endpoint for _, endpoint in _live_endpoints(snapshot)]
        waiting = _values_at(snapshot.columns, WAITING_REQUESTS, snapshot.live_slots)
        queues = zip(endpoints, waiting, strict=True)
        yield from collect_values(
            _DEFINITIONS["per_endpoint_queue_size"],
            [((self.name, _endpoint_label(endpoint)), queue) for endpoint, queue in queues if queue is not None],
        )
        counts = self._ledger.columns(len(snapshot.endpoints))
        for column in (INFLIGHT_REQUESTS, INFLIGHT_TOKENS):
            samples = [
                ((_endpoint_label(endpoint), endpoint.namespace, self._producer, "", ""), load or 0.0)
                for endpoint, load in zip(endpoints, _values_at(counts, column, snapshot.live_slots), strict=True)
            ]
            yield from collect_values(_DEFINITIONS[column.name], samples)

    def list_endpoint_rows(self) -> list[dict[str, Any]]:
        """One dictionary an endpoint. None is unknown or stale; `age_seconds` is the age of the newest scrape."""
        snapshot, now = self._store.snapshot(), self._clock.now()
        counts = self._ledger.columns(len(snapshot.endpoints))
        values_by_name = {
            column.name: _values_at(source, column, snapshot.live_slots)
            for source, columns in (
                (snapshot.columns, (WAITING_REQUESTS, RUNNING_REQUESTS, KV_CACHE_USAGE)),
                (counts, _INFLIGHT_COLUMNS),
            )
            for column in columns
        }
        return [
            {
                "name": endpoint.name,
                "address": endpoint.target,
                **{name: values[i] for name, values in values_by_name.items()},
                "age_seconds": _round_finite(now - self._store.last_scraped_at(slot), 3),
                "labels": dict(endpoint.labels),
            }
            for i, (slot, endpoint) in enumerate(_live_endpoints(snapshot))
        ]


def track_endpoints(metrics: Metrics, store: EndpointStore, clock: Clock) -> None:
    """Records scrapes, and removes the series of pods that left. Must be called before the store has endpoints."""
    pods: dict[int, str] = {}

    def on_upsert(slot: int) -> None:
        endpoint = store.get_endpoint(slot)
        if endpoint is not None:
            pods[slot] = endpoint.pod or endpoint.name

    def on_removed(slot: int) -> None:
        pod = pods.pop(slot, "")
        if pod not in pods.values():  # another port of the pod may still be in the pool
            metrics.remove_endpoint(pod)

    store.on_upsert(on_upsert)
    store.on_removed(on_removed)
    store.on_scraped(lambda slot, started_at: metrics.record_scrape(clock.now() - started_at))


def sum_rows(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Sums over the rows of all endpoints; unknown values count as 0. `fresh`: endpoints with a known queue."""
    columns = (WAITING_REQUESTS, RUNNING_REQUESTS, *_INFLIGHT_COLUMNS)
    sums = {column.name: sum(row[column.name] or 0 for row in rows) for column in columns}
    return {"endpoints": len(rows), "fresh": sum(row["waiting"] is not None for row in rows), **sums}


def _values_at(columns: Mapping[Column, NDArray[Any]], column: Column, slots: NDArray[np.intp]) -> list[float | None]:
    """The values at `slots`; None where they are unknown."""
    values = columns.get(column)
    return [None] * len(slots) if values is None else [_round_finite(value) for value in values[slots].tolist()]


def _live_endpoints(snapshot: Snapshot) -> Iterator[tuple[int, Endpoint]]:
    for slot in snapshot.live_slots.tolist():
        endpoint = snapshot.endpoints[slot]
        assert endpoint is not None, "a live slot has an endpoint"
        yield slot, endpoint


def _fresh_slots(snapshot: Snapshot) -> set[int]:
    """Slots with a fresh value in any averaged column, because an engine may not export all of them."""
    return {
        slot
        for column in _AVERAGED_COLUMNS.values()
        for slot, value in zip(
            snapshot.live_slots.tolist(), _values_at(snapshot.columns, column, snapshot.live_slots), strict=True
        )
        if value is not None
    }


def _endpoint_label(endpoint: Endpoint) -> str:
    """`<pod>-rank-<n>`, as llm-d labels endpoints."""
    return endpoint.name.rpartition("/")[2]


def _round_finite(value: float, digits: int = 4) -> float | None:
    return round(value, digits) if abs(value) < float("inf") else None
