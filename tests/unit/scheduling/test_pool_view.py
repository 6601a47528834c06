"""The pool as a decision sees it."""

from __future__ import annotations

import numpy as np
import pytest

from epp.api import INFLIGHT_REQUESTS, RUNNING_REQUESTS, WAITING_REQUESTS, Endpoint, Endpoints
from epp.clock import ManualClock
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.scheduling.pool_view import PoolView


@pytest.fixture
def store() -> EndpointStore:
    store = EndpointStore(ManualClock())
    for i in range(3):
        store.upsert(Endpoint(f"e{i}", "10.0.0.1" if i < 2 else "10.0.0.2", 8000 + i))
    writer = store.create_writer([WAITING_REQUESTS, RUNNING_REQUESTS])
    writer.record(0, 0, 1000.0, {WAITING_REQUESTS: 2, RUNNING_REQUESTS: 3}, None)
    writer.record(1, 0, 1000.0, {RUNNING_REQUESTS: 4}, None)
    return store


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(ManualClock())


def inflight_requests(pool: PoolView) -> list[float]:
    snapshot = pool.snapshot()
    counts: list[float] = Endpoints(snapshot, snapshot.live_slots)[INFLIGHT_REQUESTS].tolist()
    return counts


def test_a_snapshot_has_scraped_columns_and_live_counts(store: EndpointStore, ledger: Ledger) -> None:
    pool = PoolView(store, ledger, use_scraped_load=False)
    snapshot = pool.snapshot()
    assert snapshot.columns[WAITING_REQUESTS][0] == 2
    assert inflight_requests(pool) == [0, 0, 0]
    ledger.reserve(1, 10.0)
    assert pool.snapshot() is snapshot, "counts are live, so nothing was rebuilt"
    assert inflight_requests(pool) == [0, 1, 0]


def test_a_snapshot_is_rebuilt_when_the_ledger_grows(store: EndpointStore, ledger: Ledger) -> None:
    pool = PoolView(store, ledger, use_scraped_load=False)
    pool.snapshot()
    ledger.reserve(5000, 10.0)
    ledger.reserve(2, 10.0)
    assert inflight_requests(pool) == [0, 0, 1]


def test_scraped_load_is_added_to_the_reservations(store: EndpointStore, ledger: Ledger) -> None:
    ledger.reserve(1, 10.0)
    assert inflight_requests(PoolView(store, ledger, use_scraped_load=True)) == [5, 5, 0]


def test_a_subset_hint_names_ports_or_addresses(store: EndpointStore, ledger: Ledger) -> None:
    pool = PoolView(store, ledger, use_scraped_load=False)
    assert pool.slots_in_subset(("10.0.0.2:8002", "10.0.0.1:8000")).tolist() == [0, 2]
    assert pool.slots_in_subset(("10.0.0.1", "10.0.0.1:8001", "10.9.9.9")).tolist() == [0, 1]
    assert pool.slots_in_subset(()).dtype == np.intp
