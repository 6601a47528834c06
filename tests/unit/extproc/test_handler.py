"""What the handler adds to the session: routers that fail or wait, events that fail, streams that are cancelled."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Mapping

import pytest

from epp.errors import Overloaded
from epp.extproc import handler
from epp.extproc.session import RequestLimits
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from epp.testing.actions import (
    closes_stream,
    describe_reply,
    marks_response,
    sends_immediate_response,
    sends_response_body,
    sends_route,
)
from epp.testing.events import raw_message, request_headers, response_body, response_headers

POD = "10.0.0.1:8000"
GET = request_headers("/v1/models", method="GET", end=True).message
HEADERS = response_headers(200).message
FAILED = "inference error: Internal - the endpoint picker failed; its log says why"


class RecordedRequest:
    """Implements `RoutedRequest`: records its events, and fails on the method `fails_on`."""

    def __init__(self, fails_on: str = "") -> None:
        self.events: list[object] = []
        self._fails_on = fails_on

    def _record(self, method: str, event: object) -> None:
        self.events.append(event)
        if method == self._fails_on:
            raise ZeroDivisionError(method)

    def on_served_by(self, target: str) -> None:
        self._record("on_served_by", target)

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        self._record("on_response_headers", status)

    def on_response_body(self, data: bytes) -> None:
        self._record("on_response_body", data)

    def finalize(self, cause: str) -> None:
        self._record("finalize", cause)


class FixedRouter:
    """Implements `Router` with one result: a decision, an error, or an awaitable."""

    def __init__(self, result: RoutingDecision | BaseException | Awaitable[RoutingDecision]) -> None:
        self.result = result
        self.calls = 0

    def route_request(self, headers: RequestHeaders, body: bytes) -> RoutingDecision | Awaitable[RoutingDecision]:
        self.calls += 1
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def open_stream(dial, tasks):
    """open_stream(result, timeout): an open Process call whose router has this result."""

    def opened(result, timeout=60.0):
        methods = handler.ext_proc_methods(FixedRouter(result), tasks, RequestLimits(), timeout)
        return dial(methods[handler.PROCESS_METHOD])

    return opened


def transcript(call):
    return [*map(describe_reply, call.sent), *([] if call.status is None else [closes_stream(call.status)])]


def matches(call, *expected):
    found = transcript(call)
    return len(found) == len(expected) and all(each.matches(other) for each, other in zip(expected, found, strict=True))


async def test_an_immediate_decision_needs_no_task(open_stream, tasks):
    assert matches(open_stream(RoutingDecision(POD, RecordedRequest()))(GET), sends_route(POD))
    assert not len(tasks)


async def test_an_awaited_decision_is_sent_once_it_is_made(open_stream, run_ready_tasks):
    pending = asyncio.get_running_loop().create_future()
    request = RecordedRequest()
    call = open_stream(pending)(GET)
    await run_ready_tasks()
    assert transcript(call) == []
    pending.set_result(RoutingDecision(POD, request))
    await run_ready_tasks()
    assert matches(call, sends_route(POD))


async def test_a_decision_after_the_timeout_is_a_503(open_stream, run_ready_tasks, tasks):
    pending = asyncio.get_running_loop().create_future()
    call = open_stream(pending, timeout=0.0)(GET)
    await run_ready_tasks()
    text = "inference error: ServiceUnavailable - no decision within 0 s"
    assert matches(call, sends_immediate_response(503, text=text), closes_stream())
    assert pending.cancelled()
    assert not len(tasks)


async def test_cancelling_the_stream_cancels_its_decision(open_stream, run_ready_tasks, tasks):
    pending = asyncio.get_running_loop().create_future()
    dialled = open_stream(pending)
    call = dialled(GET)
    await run_ready_tasks()
    dialled.handler.on_cancel()
    await run_ready_tasks()
    assert pending.cancelled()
    assert transcript(call) == []
    assert not len(tasks)


@pytest.mark.parametrize("waiting", ["coroutine", "future"])
async def test_cancelling_the_stream_before_the_task_starts_releases_the_awaitable(
    open_stream, run_ready_tasks, waiting
):
    async def never():
        raise AssertionError("the stream was cancelled, no decision is needed")

    pending = never() if waiting == "coroutine" else asyncio.get_running_loop().create_future()
    dialled = open_stream(pending)
    call = dialled(GET)
    dialled.handler.on_cancel()
    await run_ready_tasks()
    assert transcript(call) == []
    assert inspect.getcoroutinestate(pending) == inspect.CORO_CLOSED if waiting == "coroutine" else pending.cancelled()


async def test_a_decision_made_in_spite_of_the_cancellation_is_finalized(open_stream, run_ready_tasks):
    """A router that suppresses CancelledError still returns a request, which holds a reservation."""
    request = RecordedRequest()

    async def route_after_cancellation():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return RoutingDecision(POD, request)

    dialled = open_stream(route_after_cancellation())
    dialled(GET)
    await run_ready_tasks()
    dialled.handler.on_cancel()
    await run_ready_tasks()
    assert request.events == ["disconnected"]


async def test_a_decision_cancelled_from_outside_is_answered(open_stream, run_ready_tasks):
    pending = asyncio.get_running_loop().create_future()
    call = open_stream(pending)(GET)
    await run_ready_tasks()
    pending.cancel()
    await run_ready_tasks()
    assert transcript(call)[-1] == closes_stream()
    assert transcript(call)[0].name == "sends_immediate_response"


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), RecursionError("deep"), MemoryError()])
async def test_an_exception_in_a_decision_is_a_500_and_is_logged(open_stream, error, caplog):
    with caplog.at_level(logging.ERROR, logger="epp.extproc.handler"):
        assert matches(open_stream(error)(GET), sends_immediate_response(500, text=FAILED), closes_stream())
    assert type(error).__name__ in caplog.text


@pytest.mark.parametrize("later", [False, True])
async def test_the_log_record_of_an_exception_has_the_request_id(open_stream, run_ready_tasks, caplog, later):
    async def fails():
        raise ZeroDivisionError("a bug")

    identified = request_headers(headers={"x-request-id": "r-7"}, method="GET", end=True).message
    with caplog.at_level(logging.ERROR, logger="epp.extproc.handler"):
        open_stream(fails() if later else ZeroDivisionError("a bug"))(identified)
        await run_ready_tasks()
    assert [getattr(record, "x-request-id") for record in caplog.records] == ["r-7"]


async def test_a_rejection_is_not_logged(open_stream, caplog):
    call = open_stream(Overloaded("full"))(GET)
    assert matches(call, sends_immediate_response(429, dropped="rejected-saturated"), closes_stream())
    assert not caplog.records


async def test_a_decision_that_cannot_be_encoded_finalizes_its_request(open_stream):
    request = RecordedRequest()
    broken = RoutingDecision(POD, request, set_headers={"x": 7})
    assert matches(open_stream(broken)(GET), sends_immediate_response(500, text=FAILED), closes_stream())
    assert request.events == ["error"]


@pytest.mark.parametrize("method", ["on_served_by", "on_response_headers", "on_response_body", "finalize"])
async def test_a_failing_event_does_not_stop_the_response(open_stream, method, caplog):
    request = RecordedRequest(method)
    events = [GET, response_headers(200, served=POD).message]
    events += [response_body(b"y").message, response_body(b"", end=True).message]
    call = open_stream(RoutingDecision(POD, request))(*events)
    assert matches(
        call, sends_route(POD), marks_response(), sends_response_body(b"y"), sends_response_body(b"", end=True)
    )
    assert request.events == [POD, 200, b"y", "completed"]
    assert "ZeroDivisionError" in caplog.text


async def test_a_request_is_finalized_once(open_stream):
    request = RecordedRequest()
    dialled = open_stream(RoutingDecision(POD, request))
    dialled(GET, HEADERS, response_body(b"", end=True).message)
    dialled.handler.on_half_close()
    dialled.handler.on_cancel()
    assert request.events == [200, "completed"]


async def test_an_unobserved_request_is_not_finalized_by_its_stream(open_stream):
    request = RecordedRequest()
    dialled = open_stream(RoutingDecision(POD, request, observe_response=False))
    assert matches(dialled(GET), sends_route(POD), closes_stream())
    assert request.events == []


async def test_a_long_stream_in_observability_mode_sends_nothing_and_ends(open_stream):
    """Envoy marks every message of such a stream."""
    first = request_headers(mode="STREAMED", observability=True).message
    dialled = open_stream(RoutingDecision(POD, RecordedRequest()))
    call = dialled(first, *[observed(response_body(b"y"))] * 2000)
    dialled.handler.on_half_close()
    assert transcript(call) == [closes_stream()]


def observed(line) -> bytes:
    """The event with `observability_mode` set: field 10, a varint."""
    return line.message + b"\x50\x01"


async def test_the_router_is_called_once(dial, tasks):
    router = FixedRouter(RoutingDecision(POD, RecordedRequest()))
    process = handler.ext_proc_methods(router, tasks, RequestLimits(), 60.0)[handler.PROCESS_METHOD]
    dial(process)(GET, GET, raw_message(b"\xff").message)
    assert router.calls == 1
