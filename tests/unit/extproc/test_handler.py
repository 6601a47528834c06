"""What the session cannot see: deciders with bugs, decisions that wait, flights that fail."""

from __future__ import annotations

import asyncio
import inspect
import logging

import pytest

from epp.errors import Overloaded
from epp.extproc import handler
from epp.extproc.session import RequestLimits
from epp.requestcontrol.interfaces import RoutingDecision
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


class Flight:
    """Keeps what it is told; fails on what it is told to fail on."""

    def __init__(self, fails_on: str = "") -> None:
        self.told: list[object] = []
        self._fails_on = fails_on

    def _tell(self, name: str, what: object) -> None:
        self.told.append(what)
        if name == self._fails_on:
            raise ZeroDivisionError(name)

    def on_served_by(self, target):
        self._tell("served", target)

    def on_response_headers(self, status, headers):
        self._tell("response_started", status)

    def on_response_body(self, data):
        self._tell("response_data", data)

    def finalize(self, cause):
        self._tell("ended", cause)


class Decides:
    """Answers with what it was given: a route, an error, or an awaitable."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.asked = 0

    def route_request(self, head, body):
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def stream(dial, tasks):
    """stream(decider, timeout): an open Process call."""

    def opened(answer, timeout=60.0):
        return dial(handler.ext_proc_methods(Decides(answer), tasks, RequestLimits(), timeout)[handler.PROCESS_METHOD])

    return opened


def words(call):
    return [*map(describe_reply, call.sent), *([] if call.status is None else [closes_stream(call.status)])]


def matches(call, *expected):
    found = words(call)
    return len(found) == len(expected) and all(each.matches(other) for each, other in zip(expected, found, strict=True))


async def test_a_decision_that_is_ready_needs_no_task(stream, tasks):
    assert matches(stream(RoutingDecision(POD, Flight()))(GET), sends_route(POD))
    assert not len(tasks)


async def test_a_decision_that_waits(stream, settled):
    pending = asyncio.get_running_loop().create_future()
    flight = Flight()
    call = stream(pending)(GET)
    await settled()
    assert words(call) == []
    pending.set_result(RoutingDecision(POD, flight))
    await settled()
    assert matches(call, sends_route(POD))


async def test_a_decision_later_than_its_deadline(stream, settled, tasks):
    pending = asyncio.get_running_loop().create_future()
    call = stream(pending, timeout=0.0)(GET)
    await settled()
    assert matches(
        call,
        sends_immediate_response(503, text="inference error: ServiceUnavailable - no decision within 0 s"),
        closes_stream(),
    )
    assert pending.cancelled()
    assert not len(tasks)


async def test_a_decision_for_a_stream_that_is_lost_is_cancelled(stream, settled, tasks):
    pending = asyncio.get_running_loop().create_future()
    dialled = stream(pending)
    call = dialled(GET)
    await settled()
    dialled.handler.on_cancel()
    await settled()
    assert pending.cancelled()
    assert words(call) == []
    assert not len(tasks)


@pytest.mark.parametrize("waiting", ["coroutine", "future"])
async def test_a_stream_that_is_lost_before_its_decision_began_leaves_nothing_behind(stream, settled, waiting):
    async def never():
        raise AssertionError("there is nobody to decide for")

    pending = never() if waiting == "coroutine" else asyncio.get_running_loop().create_future()
    dialled = stream(pending)
    call = dialled(GET)
    dialled.handler.on_cancel()
    await settled()
    assert words(call) == []
    assert inspect.getcoroutinestate(pending) == inspect.CORO_CLOSED if waiting == "coroutine" else pending.cancelled()


async def test_a_route_that_is_made_in_the_tick_in_which_the_stream_is_lost_ends(stream, settled):
    """Cancelling comes too late for a decider that does not listen: its flight must still end."""
    flight = Flight()

    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return RoutingDecision(POD, flight)

    dialled = stream(stubborn())
    dialled(GET)
    await settled()
    dialled.handler.on_cancel()
    await settled()
    assert flight.told == ["disconnected"]


async def test_a_decision_that_is_cancelled_by_somebody_else_is_answered(stream, settled):
    pending = asyncio.get_running_loop().create_future()
    call = stream(pending)(GET)
    await settled()
    pending.cancel()
    await settled()
    assert words(call)[-1] == closes_stream()
    assert words(call)[0].name == "sends_immediate_response"


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), RecursionError("deep"), MemoryError()])
async def test_a_bug_in_a_decision_is_a_500_and_a_log_line(stream, error, caplog):
    with caplog.at_level(logging.ERROR, logger="epp.extproc.handler"):
        assert matches(stream(error)(GET), sends_immediate_response(500, text=FAILED), closes_stream())
    assert type(error).__name__ in caplog.text


@pytest.mark.parametrize("later", [False, True])
async def test_the_log_line_of_a_bug_names_its_request(stream, settled, caplog, later):
    async def fails():
        raise ZeroDivisionError("a bug")

    identified = request_headers(headers={"x-request-id": "r-7"}, method="GET", end=True).message
    with caplog.at_level(logging.ERROR, logger="epp.extproc.handler"):
        stream(fails() if later else ZeroDivisionError("a bug"))(identified)
        await settled()
    assert [getattr(record, "x-request-id") for record in caplog.records] == ["r-7"]


async def test_a_refusal_is_no_log_line(stream, caplog):
    assert matches(
        stream(Overloaded("full"))(GET), sends_immediate_response(429, dropped="rejected-saturated"), closes_stream()
    )
    assert not caplog.records


async def test_a_route_that_cannot_be_written_ends_its_flight(stream):
    flight = Flight()
    broken = RoutingDecision(POD, flight, set_headers={"x": 7})
    assert matches(stream(broken)(GET), sends_immediate_response(500, text=FAILED), closes_stream())
    assert flight.told == ["error"]


@pytest.mark.parametrize("method", ["served", "response_started", "response_data", "ended"])
async def test_a_flight_that_fails_holds_up_no_answer(stream, method, caplog):
    flight = Flight(method)
    events = [GET, response_headers(200, served=POD).message]
    events += [response_body(b"y").message, response_body(b"", end=True).message]
    call = stream(RoutingDecision(POD, flight))(*events)
    assert matches(
        call, sends_route(POD), marks_response(), sends_response_body(b"y"), sends_response_body(b"", end=True)
    )
    assert flight.told == [POD, 200, b"y", "completed"]
    assert "ZeroDivisionError" in caplog.text


async def test_a_flight_ends_once_whatever_ends_it(stream):
    flight = Flight()
    dialled = stream(RoutingDecision(POD, flight))
    dialled(GET, HEADERS, response_body(b"", end=True).message)
    dialled.handler.on_half_close()
    dialled.handler.on_cancel()
    assert flight.told == [200, "completed"]


async def test_a_flight_that_is_not_observed_is_not_ended_by_its_stream(stream):
    flight = Flight()
    dialled = stream(RoutingDecision(POD, flight, observe_response=False))
    assert matches(dialled(GET), sends_route(POD), closes_stream())
    assert flight.told == []


async def test_the_decider_is_asked_once(dial, tasks):
    decider = Decides(RoutingDecision(POD, Flight()))
    process = handler.ext_proc_methods(decider, tasks, RequestLimits(), 60.0)[handler.PROCESS_METHOD]
    dial(process)(GET, GET, raw_message(b"\xff").message)
    assert decider.asked == 1
