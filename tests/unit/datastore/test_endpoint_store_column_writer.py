"""Several sources write columns of one store: each column has one writer, and ages by that writer's records."""

import numpy as np
import pytest

from epp.api import KV_CACHE_USAGE, RUNNING_REQUESTS, WAITING_REQUESTS, Column, LoraAdapters
from epp.clock import ManualClock
from epp.datastore.endpoint_store import EndpointStore
from tests.unit.datastore.conftest import BuildEndpoint

POWER = Column("power", "watts", "power draw")


@pytest.fixture
def store(clock: ManualClock) -> EndpointStore:
    return EndpointStore(clock, staleness=2.0)


def value(store: EndpointStore, column: Column, slot: int) -> float:
    return float(store.snapshot().columns[column][slot])


def test_each_writer_sets_its_own_columns_only(store: EndpointStore, clock: ManualClock, pod: BuildEndpoint) -> None:
    load, power = store.create_writer([WAITING_REQUESTS, RUNNING_REQUESTS]), store.create_writer([POWER])
    slot = store.upsert(pod("a"))
    load.record(slot, 0, clock.now(), {WAITING_REQUESTS: 4.0, RUNNING_REQUESTS: 1.0, POWER: 7.0}, None)
    power.record(slot, 0, clock.now(), {POWER: 300.0, WAITING_REQUESTS: 9.0}, None)
    assert (value(store, WAITING_REQUESTS, slot), value(store, POWER, slot)) == (4.0, 300.0)
    power.record(slot, 0, clock.now(), {}, None)
    assert value(store, WAITING_REQUESTS, slot) == 4.0
    assert np.isnan(value(store, POWER, slot))


def test_values_age_by_the_records_of_their_own_writer(
    store: EndpointStore, clock: ManualClock, pod: BuildEndpoint
) -> None:
    load, power = store.create_writer([WAITING_REQUESTS, RUNNING_REQUESTS]), store.create_writer([POWER])
    slot = store.upsert(pod("a"))
    adapters = LoraAdapters(running=frozenset({"l1"}))
    load.record(slot, 0, clock.now(), {WAITING_REQUESTS: 4.0}, adapters)
    clock.advance(1.5)
    power.record(slot, 0, clock.now(), {POWER: 300.0}, None)
    clock.advance(1.0)
    assert np.isnan(value(store, WAITING_REQUESTS, slot))
    assert value(store, POWER, slot) == 300.0
    assert store.snapshot().adapters[slot] != adapters
    clock.advance(1.0)
    assert np.isnan(value(store, POWER, slot))


def test_adapters_stay_when_a_record_does_not_report_them(
    store: EndpointStore, clock: ManualClock, pod: BuildEndpoint
) -> None:
    load, power = store.create_writer([WAITING_REQUESTS, RUNNING_REQUESTS]), store.create_writer([POWER])
    slot = store.upsert(pod("a"))
    adapters = LoraAdapters(running=frozenset({"l1"}))
    load.record(slot, 0, clock.now(), {}, adapters)
    power.record(slot, 0, clock.now(), {}, None)
    load.record(slot, 0, clock.now(), {}, None)
    assert store.snapshot().adapters[slot] == adapters


def test_a_column_stays_with_the_writer_created_first(
    store: EndpointStore, clock: ManualClock, pod: BuildEndpoint
) -> None:
    first = store.create_writer([WAITING_REQUESTS])
    second = store.create_writer([WAITING_REQUESTS, KV_CACHE_USAGE])
    slot = store.upsert(pod("a"))
    first.record(slot, 0, clock.now(), {WAITING_REQUESTS: 4.0}, None)
    second.record(slot, 0, clock.now(), {WAITING_REQUESTS: 9.0, KV_CACHE_USAGE: 0.5}, None)
    assert (value(store, WAITING_REQUESTS, slot), value(store, KV_CACHE_USAGE, slot)) == (4.0, 0.5)


def test_scrape_listeners_hear_of_records_of_the_running_requests_only(
    store: EndpointStore, clock: ManualClock, pod: BuildEndpoint
) -> None:
    load, power = store.create_writer([WAITING_REQUESTS, RUNNING_REQUESTS]), store.create_writer([POWER])
    slot = store.upsert(pod("a"))
    heard: list[tuple[int, float]] = []
    store.on_scraped(lambda slot, observed_at: heard.append((slot, observed_at)))
    power.record(slot, 0, clock.now(), {POWER: 1.0}, None)
    assert heard == []
    assert store.last_scraped_at(slot) == -np.inf
    load.record(slot, 0, clock.now() - 0.5, {RUNNING_REQUESTS: 1.0}, None)
    assert heard == [(slot, clock.now() - 0.5)]
    assert store.last_scraped_at(slot) == clock.now() - 0.5


def test_a_record_of_an_endpoint_that_has_left_is_dropped(
    store: EndpointStore, clock: ManualClock, pod: BuildEndpoint
) -> None:
    power = store.create_writer([POWER])
    slot = store.upsert(pod("a"))
    generation = store.generation_of(slot)
    power.record(slot, generation, clock.now(), {POWER: 1.0}, None)
    store.remove("a")
    assert store.upsert(pod("b")) == slot
    power.record(slot, generation, clock.now(), {POWER: 2.0}, None)
    assert np.isnan(value(store, POWER, slot))
    power.record(slot, store.generation_of(slot), clock.now() - 5, {POWER: 3.0}, None)
    assert np.isnan(value(store, POWER, slot)), "older than the staleness threshold"


def test_writers_keep_their_columns_when_the_store_grows(
    store: EndpointStore, clock: ManualClock, pod: BuildEndpoint
) -> None:
    load, power = store.create_writer([RUNNING_REQUESTS]), store.create_writer([POWER])
    first = store.upsert(pod("a"))
    load.record(first, 0, clock.now(), {RUNNING_REQUESTS: 2.0}, None)
    power.record(first, 0, clock.now(), {POWER: 1.0}, None)
    for i in range(200):
        store.upsert(pod("b", address=f"10.1.0.{i}", port=9000 + i))
        store.upsert(pod(f"c{i}"))
    late = store.upsert(pod("z"))
    power.record(late, store.generation_of(late), clock.now(), {POWER: 5.0}, None)
    assert (value(store, RUNNING_REQUESTS, first), value(store, POWER, first), value(store, POWER, late)) == (2, 1, 5)
    assert store.last_scraped_at(late) == -np.inf
