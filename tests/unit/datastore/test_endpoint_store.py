import numpy as np
import pytest

from epp.api import KV_USAGE, MAX_LORA, NO_ADAPTERS, WAITING, Adapters, Column
from epp.clock import ManualClock
from epp.datastore.endpoint_store import Table


@pytest.fixture
def table(clock: ManualClock) -> Table:
    return Table(clock, staleness=2.0)


def waiting(table: Table) -> list[float | None]:
    """The queue of every member, None where unknown."""
    snapshot = table.snapshot()
    return [None if np.isnan(value) else float(value) for value in snapshot.columns[WAITING][snapshot.live]]


def names(table: Table) -> list[str]:
    snapshot = table.snapshot()
    return [snapshot.endpoints[slot].name for slot in snapshot.live]


def test_members_come_and_go(table, pod):
    table.sync([pod("a"), pod("b"), pod("c")])
    table.sync([pod("c"), pod("d"), pod("a")])
    assert names(table) == ["a", "d", "c"]
    assert len(table) == 3
    table.remove("nobody")
    table.sync([])
    assert names(table) == []


def test_an_endpoint_is_unknown_until_scraped(table, pod, clock):
    a, b = table.put(pod("a")), table.put(pod("b"))
    assert waiting(table) == [None, None]
    table.scraped(b, 0, clock.now(), {WAITING: 4.0, KV_USAGE: 0.5}, None)
    assert waiting(table) == [None, 4]
    assert (table.scraped_at(a), table.scraped_at(b)) == (-np.inf, clock.now())


def test_a_series_that_vanished_is_unknown_again(table, pod, clock):
    slot = table.put(pod("a"))
    table.scraped(slot, 0, clock.now(), {WAITING: 4.0}, None)
    table.scraped(slot, 0, clock.now(), {KV_USAGE: 0.1}, None)
    assert waiting(table) == [None]


def test_values_age_without_a_write(table, pod, clock):
    a, b = table.put(pod("a")), table.put(pod("b"))
    table.scraped(a, 0, clock.now(), {WAITING: 1.0}, Adapters(running=frozenset({"l1"})))
    clock.advance(1.0)
    table.scraped(b, 0, clock.now(), {WAITING: 2.0}, None)
    assert waiting(table) == [1, 2]
    clock.advance(1.0)
    assert waiting(table) == [None, 2]
    assert table.snapshot().adapters[a] == NO_ADAPTERS
    clock.advance(1.0)
    assert waiting(table) == [None, None]
    table.scraped(a, 0, clock.now(), {WAITING: 7.0}, None)
    assert waiting(table) == [7, None]


def test_age_counts_from_the_start_of_the_scrape(table, pod, clock):
    slot = table.put(pod("a"))
    started = clock.now()
    clock.advance(1.5)
    table.scraped(slot, 0, started, {WAITING: 1.0}, None)
    clock.advance(0.5)
    assert waiting(table) == [None]


def test_an_older_scrape_does_not_overwrite_a_newer_one(table, pod, clock):
    slot = table.put(pod("a"))
    table.scraped(slot, 0, clock.now(), {WAITING: 1.0}, None)
    table.scraped(slot, 0, clock.now() - 0.1, {WAITING: 9.0}, None)
    assert waiting(table) == [1]


def test_a_reused_slot_knows_nothing_of_its_last_owner(table, pod, clock):
    slot, generation = table.put(pod("a")), 0
    table.scraped(slot, generation, clock.now(), {WAITING: 1.0, MAX_LORA: 2.0}, Adapters(running=frozenset({"l1"})))
    table.failed(slot, generation)
    table.remove("a")
    assert table.put(pod("b")) == slot
    table.scraped(slot, generation, clock.now(), {WAITING: 9.0}, None)  # begun for a
    table.failed(slot, generation)
    assert waiting(table) == [None]
    assert table.failures(slot) == 0
    assert table.scraped_at(slot) == -np.inf
    assert table.snapshot().adapters[slot] == NO_ADAPTERS
    table.scraped(slot, table.generation(slot), clock.now(), {WAITING: 3.0}, None)
    assert waiting(table) == [3]


def test_the_same_name_at_another_address_is_another_server(table, pod, clock):
    removed: list[int] = []
    table.on_removed(removed.append)
    slot = table.put(pod("a", address="10.0.0.1"))
    table.scraped(slot, 0, clock.now(), {WAITING: 1.0}, None)
    table.sync([pod("a", address="10.0.0.9")])
    assert removed == [slot]
    assert waiting(table) == [None]
    assert table.slot_of_target("10.0.0.1:8000") is None
    assert table.slot_of_target("10.0.0.9:8000") == slot


def test_changed_labels_keep_the_values(table, pod, clock):
    slot = table.put(pod("a", role="decode"))
    table.scraped(slot, 0, clock.now(), {WAITING: 1.0}, None)
    table.sync([pod("a", role="prefill")])
    assert waiting(table) == [1]
    assert table.snapshot().endpoints[slot].labels == {"role": "prefill"}


def test_listeners_hear_of_changes_and_only_of_changes(table, pod, clock):
    heard: list[tuple[str, int]] = []
    table.on_put(lambda slot: heard.append(("put", slot)))
    table.on_removed(lambda slot: heard.append(("removed", slot)))
    table.on_scraped(lambda slot, started: heard.append((f"scraped at {started:g}", slot)))
    table.sync([pod("a"), pod("b")])
    table.sync([pod("b")])
    table.sync([pod("b")])
    table.scraped(1, 0, clock.now(), {}, None)
    table.scraped(0, 0, clock.now(), {}, None)  # a has left
    assert heard == [("put", 0), ("put", 1), ("removed", 0), ("scraped at 1000", 1)]


def test_a_snapshot_is_kept_while_nothing_changes_and_never_changes_itself(table, pod, clock):
    slot = table.put(pod("a"))
    table.scraped(slot, 0, clock.now(), {WAITING: 1.0}, None)
    before = table.snapshot()
    assert table.snapshot() is before
    table.scraped(slot, 0, clock.now(), {WAITING: 2.0}, None)
    after = table.snapshot()
    assert (before.columns[WAITING][slot], after.columns[WAITING][slot]) == (1, 2)
    assert after.endpoints is before.endpoints
    with pytest.raises(ValueError, match="read-only"):
        after.columns[WAITING][slot] = 3
    with pytest.raises(ValueError, match="read-only"):
        after.live[0] = 3


def test_the_table_grows_in_both_directions(table, pod, clock):
    speed = Column("speed", "tokens/s", "somebody's own metric")
    first = table.put(pod("a"))
    table.scraped(first, 0, clock.now(), {WAITING: 1.0}, None)
    table.sync([pod("a"), *(pod(f"n{i}", address=f"10.1.{i // 200}.{i % 200}") for i in range(300))])
    table.scraped(200, 0, clock.now(), {WAITING: 2.0, speed: 3.0}, None)
    snapshot = table.snapshot()
    assert len(snapshot.live) == len(snapshot.adapters) == 301
    assert (snapshot.columns[WAITING][first], snapshot.columns[WAITING][200]) == (1, 2)
    assert snapshot.columns[speed][200] == 3
    assert np.isnan(snapshot.columns[speed][first])


def test_spread_over_fresh_endpoints(table, pod, clock):
    a, b, c = (table.put(pod(name)) for name in "abc")
    assert table.spread(WAITING).endpoints == 0
    table.scraped(a, 0, clock.now() - 1, {WAITING: 100.0}, None)
    table.scraped(b, 0, clock.now(), {WAITING: 2.0}, None)
    table.scraped(c, 0, clock.now(), {WAITING: 6.0}, None)
    assert table.spread(WAITING, max_age=0.5) == (2, 4.0, 2.0)
    assert table.spread(WAITING).mean == 36.0
    assert table.spread(KV_USAGE).endpoints == 0
    assert table.spread(Column("x", "", "")).endpoints == 0


def test_consecutive_failures_are_counted(table, pod, clock):
    slot = table.put(pod("a"))
    table.failed(slot, 0)
    table.failed(slot, 0)
    assert table.failures(slot) == 2
    table.scraped(slot, 0, clock.now(), {}, None)
    assert table.failures(slot) == 0


def test_lookups_follow_the_membership(table, pod):
    table.put(pod("a", address="10.0.0.1"))
    assert table.slots_of_hint("10.0.0.1") == (0,)
    table.put(pod("b", address="10.0.0.1", port=8001))
    assert table.slots_of_hint("10.0.0.1") == (0, 1)
    table.remove("a")
    assert table.slots_of_hint("10.0.0.1") == (1,)
    assert [endpoint.name for endpoint in table.endpoints()] == ["b"]
    assert (table.endpoint(0), table.endpoint(99)) == (None, None)
