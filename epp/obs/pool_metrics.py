"""The pool as it is now: gauges for `/metrics`, rows for `/debug/state`.

Both are taken from the table and the ledger at the moment they are asked for. llm-d computes its gauges every
`--refresh-prometheus-metrics-interval` from endpoints scraped within `--metrics-staleness-threshold`; here the former
flag has nothing to do (a page is never older than the newest scrape), the latter decides when a column turns NaN.
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

_SPECS = {spec.name.removeprefix("llm_d_epp_"): spec for spec in POOL_METRICS}
_MEANS = {"kv_cache_utilization": KV_CACHE_USAGE, "queue_size": WAITING_REQUESTS, "running_requests": RUNNING_REQUESTS}
_LOADS = (INFLIGHT_REQUESTS, INFLIGHT_TOKENS, DECODING_REQUESTS)


class PoolCollector(Collector):
    """Reads the pool named `name`; `producer` labels the in-flight gauges.

    The ledger counts by endpoint only, so the labels `fairness_id` and `priority` of the in-flight gauges are empty:
    sums over them, which is what dashboards draw, are the same.
    """

    def __init__(
        self, name: str, table: EndpointStore, ledger: Ledger, clock: Clock, producer: str = "inflight-load-producer"
    ) -> None:
        self.name = name
        self._table = table
        self._ledger = ledger
        self._clock = clock
        self._producer = producer

    def collect(self) -> Iterator[Metric]:
        """All gauges of the pool; an endpoint whose numbers are stale is left out of those."""
        snapshot = self._table.snapshot()
        at = (self.name,)
        for name, column in _MEANS.items():
            spread = self._table.summarize_column(column)
            known = spread.endpoints > 0
            yield from collect_values(_SPECS[f"average_{name}"], [(at, round(spread.mean, 2))] if known else [])
            yield from collect_values(
                _SPECS[f"std_dev_{name}"], [(at, round(spread.standard_deviation, 2))] if known else []
            )
        yield from collect_values(_SPECS["ready_endpoints"], [(at, len(_fresh_slots(snapshot)))])
        members = [member for _, member in _live_endpoints(snapshot)]
        waiting = _values_at(snapshot.columns, WAITING_REQUESTS, snapshot.live_slots)
        queues = zip(members, waiting, strict=True)
        yield from collect_values(
            _SPECS["per_endpoint_queue_size"],
            [((self.name, _endpoint_label(member)), queue) for member, queue in queues if queue is not None],
        )
        counts = self._ledger.columns(len(snapshot.endpoints))
        for column in (INFLIGHT_REQUESTS, INFLIGHT_TOKENS):
            loads = zip(members, _values_at(counts, column, snapshot.live_slots), strict=True)
            rows = [((_endpoint_label(one), one.namespace, self._producer, "", ""), load or 0.0) for one, load in loads]
            yield from collect_values(_SPECS[column.name], rows)

    def list_endpoint_rows(self) -> list[dict[str, Any]]:
        """One dictionary an endpoint; None is unknown or stale, `age_seconds` that of the newest scrape."""
        snapshot, now = self._table.snapshot(), self._clock.now()
        counts = self._ledger.columns(len(snapshot.endpoints))
        shown = {
            column.name: _values_at(source, column, snapshot.live_slots)
            for source, columns in (
                (snapshot.columns, (WAITING_REQUESTS, RUNNING_REQUESTS, KV_CACHE_USAGE)),
                (counts, _LOADS),
            )
            for column in columns
        }
        return [
            {
                "name": member.name,
                "address": member.target,
                **{name: values[i] for name, values in shown.items()},
                "age_seconds": _round_finite(now - self._table.last_scraped_at(slot), 3),
                "labels": dict(member.labels),
            }
            for i, (slot, member) in enumerate(_live_endpoints(snapshot))
        ]


def track_endpoints(metrics: Metrics, table: EndpointStore, clock: Clock) -> None:
    """Counts scrapes as they come, and lets go of the series of pods that left. Call it before the table is filled."""
    pods: dict[int, str] = {}

    def put(slot: int) -> None:
        endpoint = table.get_endpoint(slot)
        if endpoint is not None:
            pods[slot] = endpoint.pod or endpoint.name

    def removed(slot: int) -> None:
        pod = pods.pop(slot, "")
        if pod not in pods.values():  # another port of the pod may still be in the pool
            metrics.remove_endpoint(pod)

    table.on_upsert(put)
    table.on_removed(removed)
    table.on_scraped(lambda slot, started: metrics.record_scrape(clock.now() - started))


def sum_rows(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Sums over the endpoints; unknown counts as nothing."""
    names = (WAITING_REQUESTS, RUNNING_REQUESTS, *_LOADS)
    summed = {column.name: sum(row[column.name] or 0 for row in rows) for column in names}
    return {"endpoints": len(rows), "fresh": sum(row["waiting"] is not None for row in rows), **summed}


def _values_at(columns: Mapping[Column, NDArray[Any]], column: Column, slots: NDArray[np.intp]) -> list[float | None]:
    """The values at `slots`; None where unknown."""
    values = columns.get(column)
    return [None] * len(slots) if values is None else [_round_finite(value) for value in values[slots].tolist()]


def _live_endpoints(snapshot: Snapshot) -> Iterator[tuple[int, Endpoint]]:
    for slot in snapshot.live_slots.tolist():
        endpoint = snapshot.endpoints[slot]
        assert endpoint is not None, "a live slot has an endpoint"
        yield slot, endpoint


def _fresh_slots(snapshot: Snapshot) -> set[int]:
    """Slots with any fresh value: an engine need not export all of them."""
    return {
        slot
        for column in _MEANS.values()
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
