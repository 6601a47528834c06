"""Requests whose end is never reported are finalized as expired."""

from __future__ import annotations

import pytest

from epp.api import RUNNING_REQUESTS, WAITING_REQUESTS, Endpoint
from epp.datastore.endpoint_store import ColumnWriter, EndpointStore
from epp.requestcontrol.reservation_expiry import ORPHAN_GRACE_SECONDS, ReservationExpiry
from tests.unit.requestcontrol.conftest import InflightHarness


class Pool:
    """Three endpoints, a writer of their load, and the expiry under test."""

    def __init__(self, inflight: InflightHarness) -> None:
        self.clock = inflight.clock
        self.store = EndpointStore(inflight.clock, staleness=2.0)
        self.writer: ColumnWriter = self.store.create_writer([RUNNING_REQUESTS, WAITING_REQUESTS])
        for i in range(3):
            self.store.upsert(Endpoint(name=f"e{i}", address=f"10.0.0.{i + 1}", port=8000))
        self.expiry = ReservationExpiry(self.store, inflight.ledger)

    def report(self, slot: int, running: float, waiting: float = 0.0) -> None:
        values = {RUNNING_REQUESTS: running, WAITING_REQUESTS: waiting}
        self.writer.record(slot, self.store.generation_of(slot), self.clock.now(), values, None)


@pytest.fixture
def pool(inflight: InflightHarness) -> Pool:
    return Pool(inflight)


def test_reservations_older_than_their_time_to_live_expire(inflight: InflightHarness, pool: Pool) -> None:
    inflight.start_request()
    pool.expiry.run_once()
    assert inflight.inflight_counts() == [1, 0, 0]
    inflight.clock.advance(301)
    pool.expiry.run_once()
    assert inflight.inflight_counts() == [0, 0, 0]
    assert [outcome.cause for outcome in inflight.metrics.calls_of("end")] == ["expired"]


def test_tracked_requests_at_an_idle_server_expire_after_the_grace_period(
    inflight: InflightHarness, pool: Pool
) -> None:
    request = inflight.start_request(slot=1)
    request.tracked = True
    for _ in range(2):
        pool.report(1, running=0)
        pool.expiry.run_once()
        assert inflight.inflight_counts() == [0, 1, 0]
        inflight.clock.advance(ORPHAN_GRACE_SECONDS / 2 + 0.1)
    pool.expiry.run_once()
    assert inflight.inflight_counts() == [0, 1, 0], "the report must be later than the reservation, not the present"
    pool.report(1, running=0)
    pool.expiry.run_once()
    assert inflight.inflight_counts() == [0, 0, 0]
    assert [outcome.cause for outcome in inflight.metrics.calls_of("end")] == ["expired"]


def test_requests_at_a_busy_or_unknown_server_stay(inflight: InflightHarness, pool: Pool) -> None:
    for slot in range(3):
        inflight.start_request(slot=slot).tracked = True
    inflight.clock.advance(60)
    pool.report(0, running=1)
    pool.report(1, running=0, waiting=1)
    pool.expiry.run_once()
    assert inflight.inflight_counts() == [1, 1, 1]


def test_requests_observed_by_their_stream_stay(inflight: InflightHarness, pool: Pool) -> None:
    inflight.start_request()
    inflight.clock.advance(60)
    pool.report(0, running=0)
    pool.expiry.run_once()
    assert inflight.inflight_counts() == [1, 0, 0]
