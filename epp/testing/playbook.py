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
from epp.extproc.session import Limits
from epp.grpc.rpc import Handler, Methods
from epp.requestcontrol.interfaces import Decider, Head, Route
from epp.tasks import Tasks
from epp.testing.actions import Line, asks, closes, gives_up, seen, tells

TURNS = 5  # of the event loop, for a decision to reach the stream


class Playbook:
    """One stream, written down with `gets` and `does`, then played with `run`."""

    def __init__(self, limits: Limits | None = None, *, timeout: float = 60.0, decider: Decider | None = None) -> None:
        """`timeout` in seconds, for decisions that are not made at once.

        With a `decider`, the transcript holds neither its questions nor its answers, nor what its flights are told.
        """
        self._limits = limits or Limits()
        self._decider = decider
        self._timeout = timeout
        self._script: list[Line] = []
        self._played = False
        self.heads: list[Head] = []

    def gets(self, *events: Line) -> Playbook:
        """The gateway, or the decider, says this."""
        assert all(event.into for event in events), "gets() takes events"
        self._script += events
        return self

    def does(self, *effects: Line) -> Playbook:
        """And this is all that the picker does about it. Nothing: `.does()`, or leave it out."""
        assert not any(effect.into for effect in effects), "does() takes effects"
        self._script += effects
        return self

    def run(self) -> Playbook:
        """Plays the transcript; AssertionError if it went otherwise. Where a loop runs already: `await played()`."""
        self._played = True
        with asyncio.Runner() as runner:
            return runner.run(self.played())

    async def played(self) -> Playbook:
        """As `run`, on the running loop."""
        self._played = True
        stage = _Stage([line for line in self._script if line.into])
        self.heads = stage.heads
        tasks = Tasks("playbook")
        try:
            await stage.play(handler.methods(self._decider or stage, tasks, self._limits, self._timeout))
        finally:
            await tasks.close()
        expected, happened = self._script, stage.happened
        if len(expected) != len(happened) or not all(map(Line.matches, expected, happened)):
            raise AssertionError(f"the stream went otherwise (- expected, + happened):\n{_diff(expected, happened)}")
        return self

    def __del__(self) -> None:
        if not self._played and self._script:
            warnings.warn(f"a playbook was written and never run: {self._script[0]} …", ResourceWarning, stacklevel=2)


def _diff(expected: list[Line], happened: list[Line]) -> str:
    """Both transcripts in one; lines that match apart from details left open are shown as they were expected."""
    told = [next((str(line) for line in expected if line.matches(each)), str(each)) for each in happened]
    rows = difflib.ndiff([str(line) for line in expected], told)
    return "\n".join(row for row in rows if not row.startswith("?"))


class _Stage:
    """Plays gateway, transport and decider, and writes down what happens."""

    def __init__(self, events: list[Line]) -> None:
        self._events = events
        self._pending: asyncio.Future[Route] | None = None
        self._finished = False
        self.happened: list[Line] = []
        self.heads: list[Head] = []

    async def play(self, methods: Methods) -> None:
        """All events, in order."""
        stream = methods[handler.PROCESS](self)
        while self._events:
            event = self._next()
            self._say(event, stream)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if self._pending is not None and self._pending.cancelled():
                self._pending = None
                self.happened.append(gives_up())

    def _next(self) -> Line:
        event = self._events.pop(0)
        self.happened.append(event)
        return event

    def _say(self, event: Line, stream: Handler) -> None:
        if event.name in {"chooses", "refuses"}:
            self._settle(event)
        elif self._finished:
            pass  # a transport hands on nothing more
        elif event.message is not None:
            stream.message(event.message)
        elif event.name == "half_closes":
            stream.half_closed()
        elif event.name == "breaks":
            self._finished = True
            stream.lost()

    # The decider

    def decide(self, head: Head, body: bytes) -> Route | Awaitable[Route]:
        """See `Decider`: answers at once if the script does, else when it comes to it."""
        self.heads.append(head)
        self.happened.append(asks(body, subset=head.subset, unseen=head.body_unseen, end=head.end_of_stream))
        if self._events and self._events[0].name in {"chooses", "refuses"}:
            return self._answer(self._next())
        self._pending = asyncio.get_running_loop().create_future()
        return self._pending

    def _answer(self, event: Line) -> Route:
        if event.name == "refuses":
            raise event.details["error"]
        return Route(flight=_Flight(self.happened), **event.details)

    def _settle(self, event: Line) -> None:
        pending, self._pending = self._pending, None
        assert pending is not None, f"nobody waits for {event}"
        if not pending.done():
            try:
                pending.set_result(self._answer(event))
            except Exception as error:
                pending.set_exception(error)

    # The transport

    def send(self, message: bytes) -> None:
        """See `Call`."""
        if not self._finished:
            self.happened.append(seen(message))

    def finish(self, status: int = 0, message: str = "") -> None:
        """See `Call`."""
        if not self._finished:
            self._finished = True
            self.happened.append(closes(status))


class _Flight:
    """See `Flight`."""

    def __init__(self, happened: list[Line]) -> None:
        self._happened = happened

    def served(self, target: str) -> None:
        self._happened.append(tells(served=target))

    def response_started(self, status: int, headers: Mapping[str, str]) -> None:
        self._happened.append(tells(status=status))

    def response_data(self, data: bytes) -> None:
        self._happened.append(tells(data=data))

    def ended(self, cause: str) -> None:
        self._happened.append(tells(ended=cause))
