"""A pool of three endpoints: one fresh, one partly known, one silent."""

from __future__ import annotations

import pytest

from epp.api import KV_USAGE, RUNNING, WAITING, Endpoint
from epp.clock import ManualClock
from epp.datastore.endpoint_store import Table
from epp.datastore.ledger import Ledger
from epp.obs.pool_metrics import PoolView


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def table(clock: ManualClock) -> Table:
    table = Table(clock)
    for i, pod in enumerate(("busy", "calm", "dark")):
        table.put(Endpoint(f"default/{pod}-rank-0", f"10.0.0.{i}", 8000, {"role": "both"}, pod=pod))
    table.scraped(0, table.generation(0), 999.5, {WAITING: 6, RUNNING: 8, KV_USAGE: 0.75}, None)
    table.scraped(1, table.generation(1), 999.0, {WAITING: 2, RUNNING: 4}, None)
    return table


@pytest.fixture
def ledger(clock: ManualClock) -> Ledger:
    ledger = Ledger(clock)
    ledger.reserve(0, 4096)
    ledger.first_byte(ledger.reserve(0, 100))
    ledger.reserve(1, 10)
    return ledger


@pytest.fixture
def pool(table: Table, ledger: Ledger, clock: ManualClock) -> PoolView:
    return PoolView("pool-a", table, ledger, clock)
