"""A pool of three endpoints: one with all values, one with some, one never scraped."""

from __future__ import annotations

import pytest

from epp.api import KV_CACHE_USAGE, RUNNING_REQUESTS, SCRAPED_COLUMNS, WAITING_REQUESTS, Endpoint
from epp.clock import ManualClock
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.obs.pool_metrics import PoolCollector


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def store(clock: ManualClock) -> EndpointStore:
    store = EndpointStore(clock)
    for i, pod in enumerate(("busy", "calm", "dark")):
        store.upsert(Endpoint(f"default/{pod}-rank-0", f"10.0.0.{i}", 8000, {"role": "both"}, pod=pod))
    writer = store.create_writer(SCRAPED_COLUMNS)
    writer.record(
        0, store.generation_of(0), 999.5, {WAITING_REQUESTS: 6, RUNNING_REQUESTS: 8, KV_CACHE_USAGE: 0.75}, None
    )
    writer.record(1, store.generation_of(1), 999.0, {WAITING_REQUESTS: 2, RUNNING_REQUESTS: 4}, None)
    return store


@pytest.fixture
def ledger(clock: ManualClock) -> Ledger:
    ledger = Ledger(clock)
    ledger.reserve(0, 4096)
    ledger.record_first_byte(ledger.reserve(0, 100))
    ledger.reserve(1, 10)
    return ledger


@pytest.fixture
def pool(store: EndpointStore, ledger: Ledger, clock: ManualClock) -> PoolCollector:
    return PoolCollector("pool-a", store, ledger, clock)
