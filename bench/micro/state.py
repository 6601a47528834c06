"""The cost of the endpoint store and the ledger. `python -m bench.micro.state`"""

from __future__ import annotations

from bench.micro.timing import print_time
from epp.api import (
    KV_BLOCK_COUNT,
    KV_BLOCK_SIZE,
    KV_CACHE_USAGE,
    MAX_LORAS,
    RUNNING_REQUESTS,
    WAITING_REQUESTS,
    Endpoint,
    Endpoints,
)
from epp.clock import SystemClock
from epp.datastore.endpoint_store import ColumnWriter, EndpointStore
from epp.datastore.ledger import Ledger

CALLS = 20_000
VALUES = {
    WAITING_REQUESTS: 3.0,
    RUNNING_REQUESTS: 16.0,
    KV_CACHE_USAGE: 0.5,
    KV_BLOCK_SIZE: 16.0,
    KV_BLOCK_COUNT: 27_000.0,
    MAX_LORAS: 4.0,
}


def create_filled_store(endpoints: int) -> tuple[EndpointStore, ColumnWriter]:
    """A store of so many endpoints, all scraped, and the writer of its columns."""
    clock = SystemClock()
    store = EndpointStore(clock)
    writer = store.create_writer(VALUES)
    for i in range(endpoints):
        slot = store.upsert(Endpoint(name=f"e{i}", address=f"10.0.{i // 250}.{i % 250}", port=8000))
        writer.record(slot, 0, clock.now(), VALUES, None)
    return store, writer


def measure_store(endpoints: int) -> None:
    """Writes, snapshots and lookups of a store with this number of endpoints."""
    clock = SystemClock()
    store, writer = create_filled_store(endpoints)
    ledger = Ledger(clock)

    def write() -> None:
        writer.record(3, 0, clock.now(), VALUES, None)

    def write_and_snapshot() -> None:
        write()
        store.snapshot()

    def read_columns() -> None:
        snapshot = store.snapshot()
        columns = ledger.columns(len(snapshot.endpoints))
        assert columns
        candidates = Endpoints(snapshot, snapshot.live_slots)
        candidates[WAITING_REQUESTS], candidates[KV_CACHE_USAGE]

    print_time(f"{endpoints} endpoints: store a scrape", write, CALLS)
    print_time(f"{endpoints} endpoints: snapshot, nothing changed", store.snapshot, CALLS)
    print_time(f"{endpoints} endpoints: store a scrape, snapshot", write_and_snapshot, CALLS)
    print_time(f"{endpoints} endpoints: snapshot and two columns", read_columns, CALLS)
    print_time(f"{endpoints} endpoints: slot of a target", lambda: store.find_slot("10.0.0.3:8000"), CALLS)


def measure_ledger() -> None:
    """Operations on one reservation among 10,000 at 100 slots."""
    ledger = Ledger(SystemClock())
    others = [ledger.reserve(slot % 100, 1000.0) for slot in range(10_000)]
    reservation = others[0]

    def count_request() -> None:
        reservation = ledger.reserve(3, 1000.0)
        ledger.record_first_byte(reservation)
        ledger.release(reservation)

    def move_twice() -> None:
        ledger.move(reservation, 1)
        ledger.move(reservation, 0)

    print_time("ledger: reserve, first byte, release", count_request, CALLS)
    print_time("ledger: touch", lambda: ledger.touch(reservation), CALLS)
    print_time("ledger: move, twice", move_twice, CALLS)
    print_time("ledger: expire, nothing due", ledger.expire, CALLS)


def main() -> None:
    for endpoints in (10, 100, 1000):
        measure_store(endpoints)
    measure_ledger()


if __name__ == "__main__":
    main()
