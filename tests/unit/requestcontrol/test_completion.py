"""Three ways to learn that a request is over."""

from random import Random
from typing import Any

from epp.api import DECODING_REQUESTS, INFLIGHT_TOKENS
from epp.requestcontrol.completion import AccessLogCompletion, FirstBytePredictor, ObservedCompletion, ScrapeCompletion
from epp.requestcontrol.interfaces import AccessLogEntry
from tests.unit.requestcontrol.conftest import InflightHarness


def log_entry(request_id: str, **other: Any) -> AccessLogEntry:
    return AccessLogEntry(request_id, 200, "10.0.0.1:8000", started_at=0.0, duration_seconds=1.0, **other)


def test_observed_requests_keep_their_stream() -> None:
    assert ObservedCompletion().should_observe()


def test_the_access_log_ends_the_request_with_its_id(pool: InflightHarness) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    pool.untrack = completion.untrack
    first, second = pool.start_request("a"), pool.start_request("b", slot=1)
    for request in (first, second):
        completion.track(request)
    completion.on_log_entry(log_entry("unknown"))
    completion.on_log_entry(log_entry("b"))
    assert pool.inflight_counts() == [1, 0, 0]
    assert len(completion) == 1


def test_a_repeated_request_id_ends_one_request_a_line(pool: InflightHarness) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    pool.untrack = completion.untrack
    for _ in range(3):
        completion.track(pool.start_request("same"))
    assert pool.inflight_counts() == [3, 0, 0]
    for left in (2, 1, 0):
        completion.on_log_entry(log_entry("same"))
        assert pool.inflight_counts() == [left, 0, 0]
    assert len(completion) == 0


def test_a_flight_that_expired_is_no_longer_waited_for(pool: InflightHarness) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    pool.untrack = completion.untrack
    completion.track(pool.start_request("a"))
    pool.clock.advance(301)
    for reservation in pool.ledger.expire():
        reservation.owner.finalize("expired")
    assert len(completion) == 0
    assert [how.cause for how in pool.recorder.calls_of("ended")] == ["expired"]


def test_a_share_of_requests_is_observed(pool: InflightHarness) -> None:
    completion = AccessLogCompletion(pool.clock, Random(7), 0.25)
    observed = sum(completion.should_observe() for _ in range(2000))
    assert 400 < observed < 600


def test_a_scrape_replaces_what_was_reserved_well_before_it(pool: InflightHarness) -> None:
    completion = ScrapeCompletion(pool.clock, Random(1), pool.ledger)
    early, other = pool.start_request("a"), pool.start_request("b", slot=1)
    pool.clock.advance(1)
    late, observed = pool.start_request("c"), pool.start_request("d")
    for request in (early, other, late):
        request.tracked = True
        completion.track(request)
    completion.on_scrape(0, pool.clock.now())
    assert pool.inflight_counts() == [2, 1, 0]
    assert [how.cause for how in pool.recorder.calls_of("ended")] == ["replaced"]
    pool.clock.advance(1)
    completion.on_scrape(0, pool.clock.now())
    assert pool.inflight_counts() == [1, 1, 0]
    assert not observed.reservation.released


def test_prompt_tokens_stop_weighing_when_the_first_byte_is_due(pool: InflightHarness) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    completion.on_log_entry(log_entry("never followed"))
    seen = pool.start_request("seen", tokens=1000)
    completion.track(seen)
    completion.on_log_entry(log_entry("seen", ttfb_seconds=0.2))
    seen.finalize("completed")
    completion.track(pool.start_request("now", tokens=1000))
    pool.clock.advance(0.19)
    completion.tick()
    assert pool.ledger.columns()[INFLIGHT_TOKENS][0] == 1000
    pool.clock.advance(0.02)
    completion.tick()
    columns = pool.ledger.columns()
    assert (columns[INFLIGHT_TOKENS][0], columns[DECODING_REQUESTS][0]) == (0, 1)


def test_the_forecast_grows_with_the_prompt(pool: InflightHarness) -> None:
    forecast = FirstBytePredictor(pool.clock)
    forecast.record_first_byte(1000, 0.2)
    assert forecast.predict_seconds(0) == 0.1
    assert forecast.predict_seconds(1000) == 0.2
    assert forecast.predict_seconds(3000) == 0.4
