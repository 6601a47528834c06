"""Transcripts of ext_proc streams: what the gateway says, what the picker must do, line by line.

    (
        Playbook()
        .gets(request_headers(), request_body(b"{}", end=True))
        .does(asks(b"{}"))
        .gets(chooses("10.0.0.1:8000"))
        .does(sends_choice("10.0.0.1:8000"), sends_request_body(b"{}", end=True))
        .run()
    )

A transcript is the whole truth: what is not in it must not happen. A picker that does otherwise fails `run` with the
transcript as it should have been beside what it was; a playbook that was never run warns when it is thrown away.
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

LOOP_TURNS = 5  # of the event loop, for a decision to reach the stream


class Playbook:
    """One stream, written down with `gets` and `does`, then played with `run`."""

    def __init__(
        self, limits: RequestLimits | None = None, *, timeout: float = 60.0, decider: Router | None = None
    ) -> None:
        """`timeout` in seconds, for decisions that are not made at once.

        With a `decider`, the transcript holds neither its questions nor its answers, nor what its flights are told.
        """
        self._limits = limits or RequestLimits()
        self._router = decider
        self._timeout = timeout
        self._script: list[TranscriptLine] = []
        self._was_run = False
        self.request_headers: list[RequestHeaders] = []

    def receives(self, *events: TranscriptLine) -> Playbook:
        """The gateway, or the decider, says this."""
        assert all(event.is_event for event in events), "gets() takes events"
        self._script += events
        return self

    def expects(self, *effects: TranscriptLine) -> Playbook:
        """And this is all that the picker does about it. Nothing: `.does()`, or leave it out."""
        assert not any(effect.is_event for effect in effects), "does() takes effects"
        self._script += effects
        return self

    def run(self) -> Playbook:
        """Plays the transcript; AssertionError if it went otherwise. Where a loop runs already: `await played()`."""
        self._was_run = True
        with asyncio.Runner() as runner:
            return runner.run(self.run_async())

    async def run_async(self) -> Playbook:
        """As `run`, on the running loop."""
        self._was_run = True
        stage = _TranscriptPlayer([line for line in self._script if line.is_event])
        self.request_headers = stage.request_headers
        tasks = Tasks("playbook")
        try:
            await stage.play_events(handler.ext_proc_methods(self._router or stage, tasks, self._limits, self._timeout))
        finally:
            await tasks.close()
        expected, happened = self._script, stage.transcript
        if len(expected) != len(happened) or not all(map(TranscriptLine.matches, expected, happened)):
            raise AssertionError(
                f"the stream went otherwise (- expected, + happened):\n{_diff_transcripts(expected, happened)}"
            )
        return self

    def __del__(self) -> None:
        if not self._was_run and self._script:
            warnings.warn(f"a playbook was written and never run: {self._script[0]} …", ResourceWarning, stacklevel=2)


def _diff_transcripts(expected: list[TranscriptLine], happened: list[TranscriptLine]) -> str:
    """Both transcripts in one; lines that match apart from details left open are shown as they were expected."""
    told = [next((str(line) for line in expected if line.matches(each)), str(each)) for each in happened]
    rows = difflib.ndiff([str(line) for line in expected], told)
    return "\n".join(row for row in rows if not row.startswith("?"))


class _TranscriptPlayer:
    """Plays gateway, transport and decider, and writes down what happens."""

    def __init__(self, events: list[TranscriptLine]) -> None:
        self._events = events
        self._pending: asyncio.Future[RoutingDecision] | None = None
        self._finished = False
        self.transcript: list[TranscriptLine] = []
        self.request_headers: list[RequestHeaders] = []

    async def play_events(self, methods: RpcMethods) -> None:
        """All events, in order."""
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
            pass  # a transport hands on nothing more
        elif event.message is not None:
            stream.on_message(event.message)
        elif event.name == "half_closes":
            stream.on_half_close()
        elif event.name == "resets":
            self._finished = True
            stream.on_cancel()

    # The decider

    def route_request(self, head: RequestHeaders, body: bytes) -> RoutingDecision | Awaitable[RoutingDecision]:
        """See `Decider`: answers at once if the script does, else when it comes to it."""
        self.request_headers.append(head)
        self.transcript.append(
            requests_decision(body, subset=head.subset_hint, unseen=head.routed_before_body, end=head.end_of_stream)
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
        assert pending is not None, f"nobody waits for {event}"
        if not pending.done():
            try:
                pending.set_result(self._build_decision(event))
            except Exception as error:
                pending.set_exception(error)

    # The transport

    def send(self, message: bytes) -> None:
        """See `Call`."""
        if not self._finished:
            self.transcript.append(describe_reply(message))

    def finish(self, status: int = 0, message: str = "") -> None:
        """See `Call`."""
        if not self._finished:
            self._finished = True
            self.transcript.append(closes_stream(status))


class _RecordedRequest:
    """See `Flight`."""

    def __init__(self, happened: list[TranscriptLine]) -> None:
        self._transcript = happened

    def on_served_by(self, target: str) -> None:
        self._transcript.append(delivers_event(served=target))

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        self._transcript.append(delivers_event(status=status))

    def on_response_body(self, data: bytes) -> None:
        self._transcript.append(delivers_event(data=data))

    def finalize(self, cause: str) -> None:
        self._transcript.append(delivers_event(ended=cause))
