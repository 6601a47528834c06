"""Three ways to learn that a request is over."""

from random import Random
from typing import Any

from epp.api import DECODING, INFLIGHT_TOKENS
from epp.requestcontrol.completion import AccessLogCompletion, FirstByteForecast, ObservedCompletion, ScrapeCompletion
from epp.requestcontrol.interfaces import LogEntry


def line(request_id: str, **other: Any) -> LogEntry:
    return LogEntry(request_id, 200, "10.0.0.1:8000", started=0.0, seconds=1.0, **other)


def test_observed_requests_keep_their_stream() -> None:
    assert ObservedCompletion().observe()


def test_the_access_log_ends_the_request_with_its_id(pool: Any) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    pool.on_done = completion.done
    first, second = pool.fly("a"), pool.fly("b", slot=1)
    for flight in (first, second):
        completion.follow(flight)
    completion.entry(line("unknown"))
    completion.entry(line("b"))
    assert pool.load() == [1, 0, 0]
    assert len(completion) == 1


def test_a_repeated_request_id_ends_one_request_a_line(pool: Any) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    pool.on_done = completion.done
    for _ in range(3):
        completion.follow(pool.fly("same"))
    assert pool.load() == [3, 0, 0]
    for left in (2, 1, 0):
        completion.entry(line("same"))
        assert pool.load() == [left, 0, 0]
    assert len(completion) == 0


def test_a_flight_that_expired_is_no_longer_waited_for(pool: Any) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    pool.on_done = completion.done
    completion.follow(pool.fly("a"))
    pool.clock.advance(301)
    for ticket in pool.ledger.expire():
        ticket.owner.ended("expired")
    assert len(completion) == 0
    assert [how.cause for how in pool.recorder.of("ended")] == ["expired"]


def test_a_share_of_requests_is_observed(pool: Any) -> None:
    completion = AccessLogCompletion(pool.clock, Random(7), 0.25)
    observed = sum(completion.observe() for _ in range(2000))
    assert 400 < observed < 600


def test_a_scrape_replaces_what_was_reserved_well_before_it(pool: Any) -> None:
    completion = ScrapeCompletion(pool.clock, Random(1), pool.ledger)
    early, other = pool.fly("a"), pool.fly("b", slot=1)
    pool.clock.advance(1)
    late, observed = pool.fly("c"), pool.fly("d")
    for flight in (early, other, late):
        flight.followed = True
        completion.follow(flight)
    completion.scraped(0, pool.clock.now())
    assert pool.load() == [2, 1, 0]
    assert [how.cause for how in pool.recorder.of("ended")] == ["replaced"]
    pool.clock.advance(1)
    completion.scraped(0, pool.clock.now())
    assert pool.load() == [1, 1, 0]
    assert not observed.ticket.released


def test_prompt_tokens_stop_weighing_when_the_first_byte_is_due(pool: Any) -> None:
    completion = AccessLogCompletion(pool.clock, Random(1))
    completion.entry(line("never followed"))
    seen = pool.fly("seen", tokens=1000)
    completion.follow(seen)
    completion.entry(line("seen", ttfb_seconds=0.2))
    seen.ended("completed")
    completion.follow(pool.fly("now", tokens=1000))
    pool.clock.advance(0.19)
    completion.tick()
    assert pool.ledger.columns()[INFLIGHT_TOKENS][0] == 1000
    pool.clock.advance(0.02)
    completion.tick()
    columns = pool.ledger.columns()
    assert (columns[INFLIGHT_TOKENS][0], columns[DECODING][0]) == (0, 1)


def test_the_forecast_grows_with_the_prompt(pool: Any) -> None:
    forecast = FirstByteForecast(pool.clock)
    forecast.learn(1000, 0.2)
    assert forecast.seconds(0) == 0.1
    assert forecast.seconds(1000) == 0.2
    assert forecast.seconds(3000) == 0.4
