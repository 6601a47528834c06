"""An in-flight request releases its reservation once, at the endpoint that served it, however it ends."""

from typing import Any

from epp.api import DECODING_REQUESTS, INFLIGHT_TOKENS
from tests.unit.requestcontrol.conftest import InflightHarness


def test_finalize_releases_and_records_once(inflight: InflightHarness) -> None:
    request = inflight.start_request()
    assert inflight.inflight_counts() == [1, 0, 0]
    request.finalize("completed")
    request.finalize("disconnected")
    assert inflight.inflight_counts() == [0, 0, 0]
    assert [outcome.cause for outcome in inflight.metrics.calls_of("end")] == ["completed"]
    assert inflight.untracked == [request]


def test_the_reservation_moves_to_the_serving_endpoint(inflight: InflightHarness) -> None:
    request = inflight.start_request(slot=0)
    request.on_served_by("10.0.0.2:8000")
    assert inflight.inflight_counts() == [0, 1, 0]
    request.on_served_by("10.9.9.9:1")  # not in the pool
    assert inflight.inflight_counts() == [0, 1, 0]
    request.finalize("completed")
    assert inflight.inflight_counts() == [0, 0, 0]


def test_the_first_chunk_marks_the_first_byte(inflight: InflightHarness) -> None:
    request = inflight.start_request(tokens=100)
    inflight.clock.advance(0.25)
    request.on_response_headers(200, {"content-type": "text/event-stream"})
    request.on_response_body(b"data: 1\n\n")
    inflight.clock.advance(0.75)
    request.on_response_body(b"data: 2\n\n")
    columns = inflight.ledger.columns()
    assert (columns[INFLIGHT_TOKENS][0], columns[DECODING_REQUESTS][0]) == (0, 1)
    request.finalize("completed")
    (outcome,) = inflight.metrics.calls_of("end")
    assert (outcome.status, outcome.ttft_seconds, outcome.duration_seconds) == (200, 0.25, 1.0)
    assert request.request.streaming
    assert inflight.metrics.calls_of("latency") == [0.75]


def test_a_hook_that_raises_does_not_keep_the_reservation(inflight: InflightHarness) -> None:
    class Broken:
        def response_complete(self, request: Any, slot: int, outcome: Any) -> None:
            raise RuntimeError("broken")

    inflight.response_hooks = (Broken(),)
    inflight.start_request().finalize("completed")
    assert inflight.inflight_counts() == [0, 0, 0]
    assert inflight.failed_hooks == list(inflight.response_hooks)


def test_a_first_byte_after_the_end_has_no_effect(inflight: InflightHarness) -> None:
    request = inflight.start_request()
    request.finalize("completed")
    request.on_first_byte()
    assert inflight.ledger.columns()[DECODING_REQUESTS][0] == 0
