"""What table and ledger cost. `python -m bench.micro.state`"""

from __future__ import annotations

from collections.abc import Callable
from timeit import repeat

from epp.api import BLOCK_COUNT, BLOCK_SIZE, KV_USAGE, MAX_LORA, RUNNING, WAITING, Endpoint, Endpoints
from epp.clock import SystemClock
from epp.datastore.endpoint_store import Table
from epp.datastore.ledger import Ledger

ROUNDS = 20_000
VALUES = {WAITING: 3.0, RUNNING: 16.0, KV_USAGE: 0.5, BLOCK_SIZE: 16.0, BLOCK_COUNT: 27_000.0, MAX_LORA: 4.0}


def show(name: str, work: Callable[[], object]) -> None:
    """Microseconds a call, best of five rounds."""
    print(f"{name:<48} {min(repeat(work, number=ROUNDS, repeat=5)) / ROUNDS * 1e6:6.2f} us")


def filled(endpoints: int) -> Table:
    """A table of so many endpoints, all scraped."""
    clock = SystemClock()
    table = Table(clock)
    for i in range(endpoints):
        slot = table.put(Endpoint(name=f"e{i}", address=f"10.0.{i // 250}.{i % 250}", port=8000))
        table.scraped(slot, 0, clock.now(), VALUES, None)
    return table


def show_table(endpoints: int) -> None:
    clock, table = SystemClock(), filled(endpoints)
    ledger = Ledger(clock)

    def write() -> None:
        table.scraped(3, 0, clock.now(), VALUES, None)

    def write_and_snapshot() -> None:
        write()
        table.snapshot()

    def view() -> None:
        snapshot = table.snapshot()
        columns = ledger.columns(len(snapshot.endpoints))
        assert columns
        seen = Endpoints(snapshot, snapshot.live)
        seen[WAITING], seen[KV_USAGE]

    show(f"{endpoints} endpoints: take in a scrape", write)
    show(f"{endpoints} endpoints: snapshot, nothing new", table.snapshot)
    show(f"{endpoints} endpoints: take in a scrape, snapshot", write_and_snapshot)
    show(f"{endpoints} endpoints: snapshot and two columns", view)
    show(f"{endpoints} endpoints: slot of a target", lambda: table.slot_of_target("10.0.0.3:8000"))


def show_ledger() -> None:
    ledger = Ledger(SystemClock())
    others = [ledger.reserve(slot % 100, 1000.0) for slot in range(10_000)]
    ticket = others[0]

    def request() -> None:
        ticket = ledger.reserve(3, 1000.0)
        ledger.first_byte(ticket)
        ledger.release(ticket)

    def there_and_back() -> None:
        ledger.move(ticket, 1)
        ledger.move(ticket, 0)

    show("ledger: reserve, first byte, release", request)
    show("ledger: touch", lambda: ledger.touch(ticket))
    show("ledger: move, twice", there_and_back)
    show("ledger: expire, nothing due", ledger.expire)


def main() -> None:
    for endpoints in (10, 100, 1000):
        show_table(endpoints)
    show_ledger()


if __name__ == "__main__":
    main()
