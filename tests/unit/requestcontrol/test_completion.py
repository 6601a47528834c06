"""Three ways to learn that a request ended."""

from random import Random
from typing import Any

from epp.api import DECODING_REQUESTS, INFLIGHT_TOKENS
from epp.requestcontrol.completion import (
    AccessLogCompletion,
    AccessLogEntry,
    FirstBytePredictor,
    ObservedCompletion,
    ScrapeCompletion,
)
from tests.unit.requestcontrol.conftest import InflightHarness


def log_entry(request_id: str, **other: Any) -> AccessLogEntry:
    return AccessLogEntry(request_id, 200, "10.0.0.1:8000", started_at=0.0, duration_seconds=1.0, **other)


def test_observed_completion_keeps_the_stream_open() -> None:
    assert ObservedCompletion().should_observe()


def test_a_log_entry_ends_the_request_with_its_id(inflight: InflightHarness) -> None:
    completion = AccessLogCompletion(inflight.clock, Random(1))
    inflight.untrack = completion.untrack
    first, second = inflight.start_request("a"), inflight.start_request("b", slot=1)
    for request in (first, second):
        completion.track(request)
    completion.on_log_entry(log_entry("unknown"))
    completion.on_log_entry(log_entry("b"))
    assert inflight.inflight_counts() == [1, 0, 0]
    assert len(completion) == 1


def test_repeated_request_ids_end_one_request_for_each_log_entry(inflight: InflightHarness) -> None:
    completion = AccessLogCompletion(inflight.clock, Random(1))
    inflight.untrack = completion.untrack
    for _ in range(3):
        completion.track(inflight.start_request("same"))
    assert inflight.inflight_counts() == [3, 0, 0]
    for remaining in (2, 1, 0):
        completion.on_log_entry(log_entry("same"))
        assert inflight.inflight_counts() == [remaining, 0, 0]
    assert len(completion) == 0


def test_an_expired_request_is_no_longer_tracked(inflight: InflightHarness) -> None:
    completion = AccessLogCompletion(inflight.clock, Random(1))
    inflight.untrack = completion.untrack
    completion.track(inflight.start_request("a"))
    inflight.clock.advance(301)
    for reservation in inflight.ledger.expire():
        reservation.owner.finalize("expired")
    assert len(completion) == 0
    assert [outcome.cause for outcome in inflight.metrics.calls_of("end")] == ["expired"]


def test_a_log_entry_reports_the_whole_response(inflight: InflightHarness) -> None:
    completion = AccessLogCompletion(inflight.clock, Random(1))
    completion.track(inflight.start_request(slot=0))
    inflight.clock.advance(2)
    completion.on_log_entry(AccessLogEntry("r1", 503, "10.0.0.3:8000", 0.0, 2.0, ttfb_seconds=0.5, response_bytes=7))
    (outcome,) = inflight.metrics.calls_of("end")
    assert (outcome.cause, outcome.status, outcome.ttft_seconds) == ("completed", 503, 0.5)
    assert inflight.inflight_counts() == [0, 0, 0]


def test_a_share_of_requests_is_observed(inflight: InflightHarness) -> None:
    completion = AccessLogCompletion(inflight.clock, Random(7), 0.25)
    observed = sum(completion.should_observe() for _ in range(2000))
    assert 400 < observed < 600


def test_a_scrape_replaces_reservations_made_before_it_began(inflight: InflightHarness) -> None:
    completion = ScrapeCompletion(inflight.clock, Random(1), inflight.ledger)
    early, other = inflight.start_request("a"), inflight.start_request("b", slot=1)
    inflight.clock.advance(1)
    late, observed = inflight.start_request("c"), inflight.start_request("d")
    for request in (early, other, late):
        request.tracked = True
        completion.track(request)
    completion.on_scrape(0, inflight.clock.now())
    assert inflight.inflight_counts() == [2, 1, 0]
    assert [outcome.cause for outcome in inflight.metrics.calls_of("end")] == ["replaced"]
    inflight.clock.advance(1)
    completion.on_scrape(0, inflight.clock.now())
    assert inflight.inflight_counts() == [1, 1, 0]
    assert not observed.reservation.released


def test_prompt_tokens_are_uncounted_when_the_first_byte_is_due(inflight: InflightHarness) -> None:
    completion = AccessLogCompletion(inflight.clock, Random(1))
    completion.on_log_entry(log_entry("never tracked"))
    seen = inflight.start_request("seen", tokens=1000)
    completion.track(seen)
    completion.on_log_entry(log_entry("seen", ttfb_seconds=0.2))
    seen.finalize("completed")
    completion.track(inflight.start_request("now", tokens=1000))
    inflight.clock.advance(0.19)
    completion.tick()
    assert inflight.ledger.columns()[INFLIGHT_TOKENS][0] == 1000
    inflight.clock.advance(0.02)
    completion.tick()
    columns = inflight.ledger.columns()
    assert (columns[INFLIGHT_TOKENS][0], columns[DECODING_REQUESTS][0]) == (0, 1)


def test_the_predicted_first_byte_grows_with_the_prompt(inflight: InflightHarness) -> None:
    predictor = FirstBytePredictor(inflight.clock)
    predictor.record_first_byte(1000, 0.2)
    assert predictor.predict_seconds(0) == 0.1
    assert predictor.predict_seconds(1000) == 0.2
    assert predictor.predict_seconds(3000) == 0.4
