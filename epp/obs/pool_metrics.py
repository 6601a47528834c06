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

from epp.api import DECODING, INFLIGHT_REQUESTS, INFLIGHT_TOKENS, KV_USAGE, RUNNING, WAITING, Column, Endpoint, Snapshot
from epp.clock import Clock
from epp.datastore.endpoint_store import Table
from epp.datastore.ledger import Ledger
from epp.obs.metric_cells import exposed
from epp.obs.metric_table import POOL
from epp.obs.metrics import Metrics

_SPECS = {spec.name.removeprefix("llm_d_epp_"): spec for spec in POOL}
_MEANS = {"kv_cache_utilization": KV_USAGE, "queue_size": WAITING, "running_requests": RUNNING}
_LOADS = (INFLIGHT_REQUESTS, INFLIGHT_TOKENS, DECODING)


class PoolView(Collector):
    """Reads the pool named `name`; `producer` labels the in-flight gauges.

    The ledger counts by endpoint only, so the labels `fairness_id` and `priority` of the in-flight gauges are empty:
    sums over them, which is what dashboards draw, are the same.
    """

    def __init__(
        self, name: str, table: Table, ledger: Ledger, clock: Clock, producer: str = "inflight-load-producer"
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
            spread = self._table.spread(column)
            known = spread.endpoints > 0
            yield from exposed(_SPECS[f"average_{name}"], [(at, round(spread.mean, 2))] if known else [])
            yield from exposed(_SPECS[f"std_dev_{name}"], [(at, round(spread.deviation, 2))] if known else [])
        yield from exposed(_SPECS["ready_endpoints"], [(at, len(_fresh(snapshot)))])
        members = [member for _, member in _members(snapshot)]
        waiting = _of(snapshot.columns, WAITING, snapshot.live)
        queues = zip(members, waiting, strict=True)
        yield from exposed(
            _SPECS["per_endpoint_queue_size"],
            [((self.name, _pod(member)), queue) for member, queue in queues if queue is not None],
        )
        counts = self._ledger.columns(len(snapshot.endpoints))
        for column in (INFLIGHT_REQUESTS, INFLIGHT_TOKENS):
            loads = zip(members, _of(counts, column, snapshot.live), strict=True)
            rows = [((_pod(one), one.namespace, self._producer, "", ""), load or 0.0) for one, load in loads]
            yield from exposed(_SPECS[column.name], rows)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary an endpoint; None is unknown or stale, `age_seconds` that of the newest scrape."""
        snapshot, now = self._table.snapshot(), self._clock.now()
        counts = self._ledger.columns(len(snapshot.endpoints))
        shown = {
            column.name: _of(source, column, snapshot.live)
            for source, columns in ((snapshot.columns, (WAITING, RUNNING, KV_USAGE)), (counts, _LOADS))
            for column in columns
        }
        return [
            {
                "name": member.name,
                "address": member.target,
                **{name: values[i] for name, values in shown.items()},
                "age_seconds": _finite(now - self._table.scraped_at(slot), 3),
                "labels": dict(member.labels),
            }
            for i, (slot, member) in enumerate(_members(snapshot))
        ]


def follow(metrics: Metrics, table: Table, clock: Clock) -> None:
    """Counts scrapes as they come, and lets go of the series of pods that left. Call it before the table is filled."""
    pods: dict[int, str] = {}

    def put(slot: int) -> None:
        endpoint = table.endpoint(slot)
        if endpoint is not None:
            pods[slot] = endpoint.pod or endpoint.name

    def removed(slot: int) -> None:
        pod = pods.pop(slot, "")
        if pod not in pods.values():  # another port of the pod may still be in the pool
            metrics.forget(pod)

    table.on_put(put)
    table.on_removed(removed)
    table.on_scraped(lambda slot, started: metrics.scraped(clock.now() - started))


def totals(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Sums over the endpoints; unknown counts as nothing."""
    names = (WAITING, RUNNING, *_LOADS)
    summed = {column.name: sum(row[column.name] or 0 for row in rows) for column in names}
    return {"endpoints": len(rows), "fresh": sum(row["waiting"] is not None for row in rows), **summed}


def _of(columns: Mapping[Column, NDArray[Any]], column: Column, slots: NDArray[np.intp]) -> list[float | None]:
    """The values at `slots`; None where unknown."""
    values = columns.get(column)
    return [None] * len(slots) if values is None else [_finite(value) for value in values[slots].tolist()]


def _members(snapshot: Snapshot) -> Iterator[tuple[int, Endpoint]]:
    for slot in snapshot.live.tolist():
        endpoint = snapshot.endpoints[slot]
        assert endpoint is not None, "a live slot has an endpoint"
        yield slot, endpoint


def _fresh(snapshot: Snapshot) -> set[int]:
    """Slots with any fresh value: an engine need not export all of them."""
    return {
        slot
        for column in _MEANS.values()
        for slot, value in zip(snapshot.live.tolist(), _of(snapshot.columns, column, snapshot.live), strict=True)
        if value is not None
    }


def _pod(endpoint: Endpoint) -> str:
    """`<pod>-rank-<n>`, as llm-d labels endpoints."""
    return endpoint.name.rpartition("/")[2]


def _finite(value: float, digits: int = 4) -> float | None:
    return round(value, digits) if abs(value) < float("inf") else None
