"""Membership, scraped values, staleness and snapshots of the endpoint store."""

import numpy as np
import pytest

from epp.api import KV_CACHE_USAGE, MAX_LORAS, NO_LORA_ADAPTERS, SCRAPED_COLUMNS, WAITING_REQUESTS, Column, LoraAdapters
from epp.clock import ManualClock
from epp.datastore.endpoint_store import ColumnWriter, EndpointStore
from tests.unit.datastore.conftest import BuildEndpoint


@pytest.fixture
def store(clock: ManualClock) -> EndpointStore:
    return EndpointStore(clock, staleness=2.0)


@pytest.fixture
def writer(store: EndpointStore) -> ColumnWriter:
    return store.create_writer(SCRAPED_COLUMNS)


def waiting_column(store: EndpointStore) -> list[float | None]:
    """WAITING_REQUESTS of every endpoint by slot, None where it is NaN."""
    snapshot = store.snapshot()
    return [
        None if np.isnan(value) else float(value) for value in snapshot.columns[WAITING_REQUESTS][snapshot.live_slots]
    ]


def endpoint_names(store: EndpointStore) -> list[str]:
    snapshot = store.snapshot()
    return [snapshot.endpoints[slot].name for slot in snapshot.live_slots]


def test_replace_all_adds_and_removes_endpoints(store: EndpointStore, pod: BuildEndpoint) -> None:
    store.replace_all([pod("a"), pod("b"), pod("c")])
    store.replace_all([pod("c"), pod("d"), pod("a")])
    assert endpoint_names(store) == ["a", "d", "c"]
    assert len(store) == 3
    store.remove("unknown")
    store.replace_all([])
    assert endpoint_names(store) == []


def test_values_are_nan_until_the_first_scrape(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    a, b = store.upsert(pod("a")), store.upsert(pod("b"))
    assert waiting_column(store) == [None, None]
    writer.record(b, 0, clock.now(), {WAITING_REQUESTS: 4.0, KV_CACHE_USAGE: 0.5}, None)
    assert waiting_column(store) == [None, 4]
    assert (store.last_scraped_at(a), store.last_scraped_at(b)) == (-np.inf, clock.now())


def test_a_column_missing_from_a_scrape_becomes_nan(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    slot = store.upsert(pod("a"))
    writer.record(slot, 0, clock.now(), {WAITING_REQUESTS: 4.0}, None)
    writer.record(slot, 0, clock.now(), {KV_CACHE_USAGE: 0.1}, None)
    assert waiting_column(store) == [None]


def test_stale_values_become_nan_without_a_write(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    a, b = store.upsert(pod("a")), store.upsert(pod("b"))
    writer.record(a, 0, clock.now(), {WAITING_REQUESTS: 1.0}, LoraAdapters(running=frozenset({"l1"})))
    clock.advance(1.0)
    writer.record(b, 0, clock.now(), {WAITING_REQUESTS: 2.0}, None)
    assert waiting_column(store) == [1, 2]
    clock.advance(1.0)
    assert waiting_column(store) == [None, 2]
    assert store.snapshot().adapters[a] == NO_LORA_ADAPTERS
    clock.advance(1.0)
    assert waiting_column(store) == [None, None]
    writer.record(a, 0, clock.now(), {WAITING_REQUESTS: 7.0}, None)
    assert waiting_column(store) == [7, None]


def test_staleness_counts_from_the_start_of_the_scrape(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    slot = store.upsert(pod("a"))
    started = clock.now()
    clock.advance(1.5)
    writer.record(slot, 0, started, {WAITING_REQUESTS: 1.0}, None)
    clock.advance(0.5)
    assert waiting_column(store) == [None]


def test_an_older_scrape_does_not_overwrite_a_newer_one(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    slot = store.upsert(pod("a"))
    writer.record(slot, 0, clock.now(), {WAITING_REQUESTS: 1.0}, None)
    writer.record(slot, 0, clock.now() - 0.1, {WAITING_REQUESTS: 9.0}, None)
    assert waiting_column(store) == [1]


def test_a_reused_slot_keeps_nothing_of_the_endpoint_before(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    slot, generation = store.upsert(pod("a")), 0
    writer.record(
        slot, generation, clock.now(), {WAITING_REQUESTS: 1.0, MAX_LORAS: 2.0}, LoraAdapters(running=frozenset({"l1"}))
    )
    store.remove("a")
    assert store.upsert(pod("b")) == slot
    writer.record(slot, generation, clock.now(), {WAITING_REQUESTS: 9.0}, None)  # begun for a
    assert waiting_column(store) == [None]
    assert store.last_scraped_at(slot) == -np.inf
    assert store.snapshot().adapters[slot] == NO_LORA_ADAPTERS
    writer.record(slot, store.generation_of(slot), clock.now(), {WAITING_REQUESTS: 3.0}, None)
    assert waiting_column(store) == [3]


def test_the_same_name_at_another_address_replaces_the_endpoint(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    removed: list[int] = []
    store.on_removed(removed.append)
    slot = store.upsert(pod("a", address="10.0.0.1"))
    writer.record(slot, 0, clock.now(), {WAITING_REQUESTS: 1.0}, None)
    store.replace_all([pod("a", address="10.0.0.9")])
    assert removed == [slot]
    assert waiting_column(store) == [None]
    assert store.find_slot("10.0.0.1:8000") is None
    assert store.find_slot("10.0.0.9:8000") == slot


def test_changed_labels_keep_the_values(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    slot = store.upsert(pod("a", role="decode"))
    writer.record(slot, 0, clock.now(), {WAITING_REQUESTS: 1.0}, None)
    store.replace_all([pod("a", role="prefill")])
    assert waiting_column(store) == [1]
    assert store.snapshot().endpoints[slot].labels == {"role": "prefill"}


def test_listeners_are_called_for_changes_only(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    events: list[tuple[str, int]] = []
    store.on_upsert(lambda slot: events.append(("upsert", slot)))
    store.on_removed(lambda slot: events.append(("removed", slot)))
    store.on_scraped(lambda slot, started: events.append((f"scraped at {started:g}", slot)))
    store.replace_all([pod("a"), pod("b")])
    store.replace_all([pod("b")])
    store.replace_all([pod("b")])
    writer.record(1, 0, clock.now(), {}, None)
    writer.record(0, 0, clock.now(), {}, None)  # a has left
    assert events == [("upsert", 0), ("upsert", 1), ("removed", 0), ("scraped at 1000", 1)]


def test_snapshots_are_immutable_and_reused_while_nothing_changes(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    slot = store.upsert(pod("a"))
    writer.record(slot, 0, clock.now(), {WAITING_REQUESTS: 1.0}, None)
    before = store.snapshot()
    assert store.snapshot() is before
    writer.record(slot, 0, clock.now(), {WAITING_REQUESTS: 2.0}, None)
    after = store.snapshot()
    assert (before.columns[WAITING_REQUESTS][slot], after.columns[WAITING_REQUESTS][slot]) == (1, 2)
    assert after.endpoints is before.endpoints
    with pytest.raises(ValueError, match="read-only"):
        after.columns[WAITING_REQUESTS][slot] = 3
    with pytest.raises(ValueError, match="read-only"):
        after.live_slots[0] = 3


def test_the_store_grows_by_slots_and_by_columns(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    speed = Column("speed", "tokens/s", "a custom metric")
    first = store.upsert(pod("a"))
    writer.record(first, 0, clock.now(), {WAITING_REQUESTS: 1.0}, None)
    store.replace_all([pod("a"), *(pod(f"n{i}", address=f"10.1.{i // 200}.{i % 200}") for i in range(300))])
    writer.record(200, 0, clock.now(), {WAITING_REQUESTS: 2.0}, None)
    store.create_writer([speed]).record(200, 0, clock.now(), {speed: 3.0}, None)
    snapshot = store.snapshot()
    assert len(snapshot.live_slots) == len(snapshot.adapters) == 301
    assert (snapshot.columns[WAITING_REQUESTS][first], snapshot.columns[WAITING_REQUESTS][200]) == (1, 2)
    assert snapshot.columns[speed][200] == 3
    assert np.isnan(snapshot.columns[speed][first])


def test_summarize_column_uses_fresh_endpoints_only(
    store: EndpointStore, writer: ColumnWriter, pod: BuildEndpoint, clock: ManualClock
) -> None:
    a, b, c = (store.upsert(pod(name)) for name in "abc")
    assert store.summarize_column(WAITING_REQUESTS).endpoints == 0
    writer.record(a, 0, clock.now() - 1, {WAITING_REQUESTS: 100.0}, None)
    writer.record(b, 0, clock.now(), {WAITING_REQUESTS: 2.0}, None)
    writer.record(c, 0, clock.now(), {WAITING_REQUESTS: 6.0}, None)
    assert store.summarize_column(WAITING_REQUESTS, max_age=0.5) == (2, 4.0, 2.0)
    assert store.summarize_column(WAITING_REQUESTS).mean == 36.0
    assert store.summarize_column(KV_CACHE_USAGE).endpoints == 0
    assert store.summarize_column(Column("x", "", "")).endpoints == 0


def test_address_lookups_follow_upserts_and_removals(store: EndpointStore, pod: BuildEndpoint) -> None:
    store.upsert(pod("a", address="10.0.0.1"))
    assert store.find_subset_slots("10.0.0.1") == (0,)
    store.upsert(pod("b", address="10.0.0.1", port=8001))
    assert store.find_subset_slots("10.0.0.1") == (0, 1)
    store.remove("a")
    assert store.find_subset_slots("10.0.0.1") == (1,)
    assert [endpoint.name for endpoint in store.list_endpoints()] == ["b"]
    assert (store.get_endpoint(0), store.get_endpoint(99)) == (None, None)
