"""A routed request until its end: what it reserved, what its answer told, and who must hear of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from epp.api import Ended, Observer, Request, Usage, UsageReader
from epp.clock import Clock
from epp.datastore.ledger import Ledger, Ticket
from epp.requestcontrol.interfaces import Account, LogEntry

NO_USAGE = Usage()
TOUCH_EVERY = 16  # chunks between two signs of life to the ledger


class Crew(Protocol):
    """What all flights of one pool share."""

    clock: Clock
    ledger: Ledger
    observers: tuple[Observer, ...]
    slot_of_target: Callable[[str], int | None]
    on_done: Callable[[InFlight], None]

    def observer_failed(self, observer: Observer) -> None:
        """An observer raised."""


class InFlight:
    """One routed request. Whoever learns of its end calls `ended`; only the first call counts.

    `followed`: its stream is closed, a completion source will learn of the end.
    """

    __slots__ = (
        "_account",
        "_chunks",
        "_crew",
        "_first_byte_at",
        "_gap",
        "_last_piece_at",
        "_over",
        "_reader",
        "_response_bytes",
        "_status",
        "followed",
        "prompt_tokens",
        "request",
        "routed_at",
        "ticket",
    )

    def __init__(
        self,
        crew: Crew,
        request: Request,
        ticket: Ticket,
        prompt_tokens: float,
        reader: UsageReader | None,
        account: Account,
    ) -> None:
        self._crew = crew
        self._account = account
        self._reader = reader
        self._status = 0
        self._first_byte_at: float | None = None
        self._gap: Callable[[float], None] | None = None
        self._last_piece_at = 0.0
        self._over = False
        self._chunks = 0
        self._response_bytes = 0
        self.followed = False
        self.request = request
        self.ticket = ticket
        self.prompt_tokens = prompt_tokens
        self.routed_at = ticket.reserved_at
        ticket.owner = self

    def served(self, target: str) -> None:
        """Envoy may have gone on to a fallback: the reservation follows."""
        slot = self._crew.slot_of_target(target)
        if slot is not None and slot != self.ticket.slot:
            self._crew.ledger.move(self.ticket, slot)

    def response_started(self, status: int, headers: Mapping[str, str]) -> None:
        """Response headers; streaming answers are recognised by their content type whatever the request asked for."""
        self._status = status
        if "text/event-stream" in headers.get("content-type", ""):
            self.request.streaming = True
            self._gap = self._account.gap

    def response_data(self, data: bytes) -> None:
        """A piece of the body; the first one marks the first byte."""
        if self._first_byte_at is None:
            self._first_byte_at = self._last_piece_at = self._crew.clock.now()
            self.first_byte()
        elif self._gap is not None:
            before, self._last_piece_at = self._last_piece_at, self._crew.clock.now()
            self._gap(self._last_piece_at - before)
        self._response_bytes += len(data)
        self._chunks += 1
        if not self._chunks % TOUCH_EVERY:
            self._crew.ledger.touch(self.ticket)
        if self._reader is not None:
            self._reader.feed(data)

    def first_byte(self) -> None:
        """The answer has begun, seen or forecast."""
        if not self._over:
            self._crew.ledger.first_byte(self.ticket)

    def logged(self, entry: LogEntry) -> None:
        """The access log's line about this request: all of the response phase at once."""
        if entry.upstream:
            self.served(entry.upstream)
        self._status = entry.status
        self._response_bytes = entry.response_bytes
        if entry.ttfb_seconds is not None:
            self._first_byte_at = self.routed_at + entry.ttfb_seconds
        self.ended("disconnected" if entry.disconnected else "completed")

    def ended(self, cause: str) -> None:
        """Over. The reservation is given back and everybody is told, once."""
        if self._over:
            return
        self._over = True
        crew, request = self._crew, self.request
        crew.ledger.release(self.ticket)
        self.ticket.owner = None
        usage = self._reader.usage() if self._reader is not None else NO_USAGE
        ttft = None if self._first_byte_at is None else self._first_byte_at - self.routed_at
        how = Ended(
            cause=cause,
            status=self._status,
            seconds=crew.clock.now() - self.routed_at,
            ttft_seconds=ttft,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
        )
        self._account.ended(request.streaming, self._response_bytes, how)
        for observer in crew.observers:
            try:
                observer.ended(request, self.ticket.slot, how)
            except Exception:
                crew.observer_failed(observer)
        crew.on_done(self)
