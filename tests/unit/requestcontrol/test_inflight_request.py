"""A flight gives back its reservation once, at the endpoint that served, however it ends."""

from typing import Any

from epp.api import DECODING, INFLIGHT_TOKENS
from epp.requestcontrol.interfaces import LogEntry


def test_the_end_releases_and_is_told_once(pool: Any) -> None:
    flight = pool.fly()
    assert pool.load() == [1, 0, 0]
    flight.ended("completed")
    flight.ended("disconnected")
    assert pool.load() == [0, 0, 0]
    assert [how.cause for how in pool.recorder.of("ended")] == ["completed"]
    assert pool.done == [flight]


def test_the_reservation_follows_a_fallback(pool: Any) -> None:
    flight = pool.fly(slot=0)
    flight.served("10.0.0.2:8000")
    assert pool.load() == [0, 1, 0]
    flight.served("10.9.9.9:1")  # not one of ours
    assert pool.load() == [0, 1, 0]
    flight.ended("completed")
    assert pool.load() == [0, 0, 0]


def test_the_first_piece_of_the_answer_ends_the_prefill(pool: Any) -> None:
    flight = pool.fly(tokens=100)
    pool.clock.advance(0.25)
    flight.response_started(200, {"content-type": "text/event-stream"})
    flight.response_data(b"data: 1\n\n")
    pool.clock.advance(0.75)
    flight.response_data(b"data: 2\n\n")
    columns = pool.ledger.columns()
    assert (columns[INFLIGHT_TOKENS][0], columns[DECODING][0]) == (0, 1)
    flight.ended("completed")
    (how,) = pool.recorder.of("ended")
    assert (how.status, how.ttft_seconds, how.seconds) == (200, 0.25, 1.0)
    assert flight.request.streaming
    assert pool.recorder.of("gap") == [0.75]


def test_a_line_of_the_access_log_is_the_whole_response_phase(pool: Any) -> None:
    flight = pool.fly(slot=0)
    pool.clock.advance(2)
    flight.logged(LogEntry("r1", 503, "10.0.0.3:8000", started=0.0, seconds=2.0, ttfb_seconds=0.5))
    (how,) = pool.recorder.of("ended")
    assert (how.cause, how.status, how.ttft_seconds) == ("completed", 503, 0.5)
    assert pool.load() == [0, 0, 0]


def test_an_observer_that_raises_does_not_keep_the_reservation(pool: Any) -> None:
    class Broken:
        def ended(self, request: Any, slot: int, how: Any) -> None:
            raise RuntimeError("broken")

    pool.observers = (Broken(),)
    pool.fly().ended("completed")
    assert pool.load() == [0, 0, 0]
    assert pool.failed == list(pool.observers)


def test_a_forecast_first_byte_after_the_end_has_no_effect(pool: Any) -> None:
    flight = pool.fly()
    flight.ended("completed")
    flight.first_byte()
    assert pool.ledger.columns()[DECODING][0] == 0
