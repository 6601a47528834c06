"""Transcripts of ext_proc streams: what the picker receives, and what it must do about it, line by line.

    (
        Playbook()
        .receives(request_headers(), request_body(b"{}", end=True))
        .expects(requests_decision(b"{}"))
        .receives(routes("10.0.0.1:8000"))
        .expects(sends_route("10.0.0.1:8000"), sends_request_body(b"{}", end=True))
        .run()
    )

A transcript is complete: an action that it does not contain is a failure, which shows the expected and the actual
transcript as a diff. A playbook that is never run warns when it is garbage-collected.
"""

from __future__ import annotations

import asyncio
import difflib
import warnings
from collections.abc import Awaitable, Mapping

from epp.extproc import handler
from epp.extproc.session import RequestLimits
from epp.grpc.rpc import RpcHandler, RpcMethods
from epp.requestcontrol.interfaces import RequestHeaders, Router, RoutingDecision
from epp.tasks import Tasks
from epp.testing.actions import (
    TranscriptLine,
    cancels_decision,
    closes_stream,
    delivers_event,
    describe_reply,
    requests_decision,
)

LOOP_TURNS = 5  # of the event loop, until an awaited decision has reached the stream


class Playbook:
    """One stream: its transcript is written with `receives` and `expects`, then checked with `run`."""

    def __init__(
        self, limits: RequestLimits | None = None, *, timeout: float = 60.0, router: Router | None = None
    ) -> None:
        """`timeout` in seconds bounds decisions that are not made at once.

        With a `router` of your own the transcript has no `requests_decision`, `routes`, `rejects` or `delivers_event`.
        """
        self._limits = limits or RequestLimits()
        self._router = router
        self._timeout = timeout
        self._script: list[TranscriptLine] = []
        self._was_run = False
        self.request_headers: list[RequestHeaders] = []

    def receives(self, *events: TranscriptLine) -> Playbook:
        """The next events, from the gateway or the router."""
        assert all(event.is_event for event in events), "receives() takes events"
        self._script += events
        return self

    def expects(self, *actions: TranscriptLine) -> Playbook:
        """All actions that follow the events so far, in order. For none, leave the call out."""
        assert not any(action.is_event for action in actions), "expects() takes actions"
        self._script += actions
        return self

    def run(self) -> Playbook:
        """Plays the stream on an event loop of its own. Raises AssertionError if the transcript differs."""
        self._was_run = True
        with asyncio.Runner() as runner:
            return runner.run(self.run_async())

    async def run_async(self) -> Playbook:
        """As `run`, on the running event loop."""
        self._was_run = True
        player = _TranscriptPlayer([line for line in self._script if line.is_event])
        self.request_headers = player.request_headers
        tasks = Tasks("playbook")
        try:
            methods = handler.ext_proc_methods(self._router or player, tasks, self._limits, self._timeout)
            await player.play_events(methods)
        finally:
            await tasks.close()
        expected, actual = self._script, player.transcript
        if len(expected) != len(actual) or not all(map(TranscriptLine.matches, expected, actual)):
            diff = _diff_transcripts(expected, actual)
            raise AssertionError(f"the transcripts differ (- expected, + actual):\n{diff}")
        return self

    def __del__(self) -> None:
        if not self._was_run and self._script:
            warnings.warn(f"this playbook was never run: {self._script[0]} …", ResourceWarning, stacklevel=2)


def _diff_transcripts(expected: list[TranscriptLine], actual: list[TranscriptLine]) -> str:
    """A diff of the transcripts. An actual line that matches an expected one with details `ANY` is shown like that."""
    shown = [next((str(line) for line in expected if line.matches(each)), str(each)) for each in actual]
    rows = difflib.ndiff([str(line) for line in expected], shown)
    return "\n".join(row for row in rows if not row.startswith("?"))


class _TranscriptPlayer:
    """Acts as gateway, transport and router of one stream, and records its transcript.

    Implements `ServerCall` and `Router`.
    """

    def __init__(self, events: list[TranscriptLine]) -> None:
        self._events = events
        self._pending: asyncio.Future[RoutingDecision] | None = None
        self._finished = False
        self.transcript: list[TranscriptLine] = []
        self.request_headers: list[RequestHeaders] = []

    async def play_events(self, methods: RpcMethods) -> None:
        """Plays all events in order, and records them and what the stream does in `transcript`."""
        stream = methods[handler.PROCESS_METHOD](self)
        while self._events:
            event = self._next_event()
            self._play_event(event, stream)
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
            if self._pending is not None and self._pending.cancelled():
                self._pending = None
                self.transcript.append(cancels_decision())

    def _next_event(self) -> TranscriptLine:
        event = self._events.pop(0)
        self.transcript.append(event)
        return event

    def _play_event(self, event: TranscriptLine, stream: RpcHandler) -> None:
        if event.name in {"routes", "rejects"}:
            self._resolve_pending_decision(event)
        elif self._finished:
            pass  # a transport delivers nothing after the end
        elif event.message is not None:
            stream.on_message(event.message)
        elif event.name == "half_closes":
            stream.on_half_close()
        elif event.name == "resets":
            self._finished = True
            stream.on_cancel()

    def route_request(self, headers: RequestHeaders, body: bytes) -> RoutingDecision | Awaitable[RoutingDecision]:
        """Decides at once if the next event is the decision, otherwise when the transcript comes to it."""
        self.request_headers.append(headers)
        self.transcript.append(
            requests_decision(
                body, subset=headers.subset_hint, before_body=headers.routed_before_body, end=headers.end_of_stream
            )
        )
        if self._events and self._events[0].name in {"routes", "rejects"}:
            return self._build_decision(self._next_event())
        self._pending = asyncio.get_running_loop().create_future()
        return self._pending

    def _build_decision(self, event: TranscriptLine) -> RoutingDecision:
        if event.name == "rejects":
            raise event.details["error"]
        return RoutingDecision(request=_RecordedRequest(self.transcript), **event.details)

    def _resolve_pending_decision(self, event: TranscriptLine) -> None:
        pending, self._pending = self._pending, None
        assert pending is not None, f"no decision has been requested: {event}"
        if not pending.done():
            try:
                pending.set_result(self._build_decision(event))
            except Exception as error:
                pending.set_exception(error)

    def send(self, message: bytes) -> None:
        if not self._finished:
            self.transcript.append(describe_reply(message))

    def finish(self, status: int = 0, message: str = "") -> None:
        if not self._finished:
            self._finished = True
            self.transcript.append(closes_stream(status))


class _RecordedRequest:
    """Implements `RoutedRequest`: adds its events to the transcript."""

    def __init__(self, transcript: list[TranscriptLine]) -> None:
        self._transcript = transcript

    def on_served_by(self, target: str) -> None:
        self._transcript.append(delivers_event(served=target))

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        self._transcript.append(delivers_event(status=status))

    def on_response_body(self, data: bytes) -> None:
        self._transcript.append(delivers_event(data=data))

    def finalize(self, cause: str) -> None:
        self._transcript.append(delivers_event(ended=cause))
