"""A request gives back its reservation once, at the endpoint that served, however it ends."""

from typing import Any

from epp.api import DECODING_REQUESTS, INFLIGHT_TOKENS
from epp.requestcontrol.interfaces import AccessLogEntry
from tests.unit.requestcontrol.conftest import InflightHarness


def test_the_end_releases_and_is_told_once(pool: InflightHarness) -> None:
    request = pool.start_request()
    assert pool.inflight_counts() == [1, 0, 0]
    request.finalize("completed")
    request.finalize("disconnected")
    assert pool.inflight_counts() == [0, 0, 0]
    assert [how.cause for how in pool.recorder.calls_of("ended")] == ["completed"]
    assert pool.done == [request]


def test_the_reservation_follows_a_fallback(pool: InflightHarness) -> None:
    request = pool.start_request(slot=0)
    request.on_served_by("10.0.0.2:8000")
    assert pool.inflight_counts() == [0, 1, 0]
    request.on_served_by("10.9.9.9:1")  # not one of ours
    assert pool.inflight_counts() == [0, 1, 0]
    request.finalize("completed")
    assert pool.inflight_counts() == [0, 0, 0]


def test_the_first_piece_of_the_answer_ends_the_prefill(pool: InflightHarness) -> None:
    request = pool.start_request(tokens=100)
    pool.clock.advance(0.25)
    request.on_response_headers(200, {"content-type": "text/event-stream"})
    request.on_response_body(b"data: 1\n\n")
    pool.clock.advance(0.75)
    request.on_response_body(b"data: 2\n\n")
    columns = pool.ledger.columns()
    assert (columns[INFLIGHT_TOKENS][0], columns[DECODING_REQUESTS][0]) == (0, 1)
    request.finalize("completed")
    (how,) = pool.recorder.calls_of("ended")
    assert (how.status, how.ttft_seconds, how.duration_seconds) == (200, 0.25, 1.0)
    assert request.request.streaming
    assert pool.recorder.calls_of("gap") == [0.75]


def test_a_line_of_the_access_log_is_the_whole_response_phase(pool: InflightHarness) -> None:
    request = pool.start_request(slot=0)
    pool.clock.advance(2)
    request.on_log_entry(
        AccessLogEntry("r1", 503, "10.0.0.3:8000", started_at=0.0, duration_seconds=2.0, ttfb_seconds=0.5)
    )
    (how,) = pool.recorder.calls_of("ended")
    assert (how.cause, how.status, how.ttft_seconds) == ("completed", 503, 0.5)
    assert pool.inflight_counts() == [0, 0, 0]


def test_an_observer_that_raises_does_not_keep_the_reservation(pool: InflightHarness) -> None:
    class Broken:
        def response_complete(self, request: Any, slot: int, how: Any) -> None:
            raise RuntimeError("broken")

    pool.request_hooks = (Broken(),)
    pool.start_request().finalize("completed")
    assert pool.inflight_counts() == [0, 0, 0]
    assert pool.failed == list(pool.request_hooks)


def test_a_forecast_first_byte_after_the_end_has_no_effect(pool: InflightHarness) -> None:
    request = pool.start_request()
    request.finalize("completed")
    request.on_first_byte()
    assert pool.ledger.columns()[DECODING_REQUESTS][0] == 0
