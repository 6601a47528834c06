"""A routed request until its end: what it reserved, what its answer told, and who must hear of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from epp.api import Request, RequestHooks, RequestOutcome, TokenUsage, UsageReader
from epp.clock import Clock
from epp.datastore.ledger import Ledger, Reservation
from epp.requestcontrol.interfaces import AccessLogEntry, RequestMetrics

NO_USAGE = TokenUsage()
TOUCH_EVERY_CHUNKS = 16  # chunks between two signs of life to the ledger


class InflightDependencies(msgspec.Struct, frozen=True):
    """What all in-flight requests of one director share; built once.

    `report_hook_error` is called while the exception of a hook is being handled.
    """

    clock: Clock
    ledger: Ledger
    request_hooks: tuple[RequestHooks, ...]
    find_slot: Callable[[str], int | None]
    untrack: Callable[[InflightRequest], None]
    report_hook_error: Callable[[RequestHooks], None]


class InflightRequest:
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
        "prompt_tokens",
        "request",
        "reservation",
        "routed_at",
        "tracked",
    )

    def __init__(
        self,
        crew: InflightDependencies,
        request: Request,
        ticket: Reservation,
        prompt_tokens: float,
        reader: UsageReader | None,
        account: RequestMetrics,
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
        self.tracked = False
        self.request = request
        self.reservation = ticket
        self.prompt_tokens = prompt_tokens
        self.routed_at = ticket.reserved_at
        ticket.owner = self

    def on_served_by(self, target: str) -> None:
        """Envoy may have gone on to a fallback: the reservation follows."""
        slot = self._crew.find_slot(target)
        if slot is not None and slot != self.reservation.slot:
            self._crew.ledger.move(self.reservation, slot)

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Response headers; streaming answers are recognised by their content type whatever the request asked for."""
        self._status = status
        if "text/event-stream" in headers.get("content-type", ""):
            self.request.streaming = True
            self._gap = self._account.record_inter_token_latency

    def on_response_body(self, data: bytes) -> None:
        """A piece of the body; the first one marks the first byte."""
        if self._first_byte_at is None:
            self._first_byte_at = self._last_piece_at = self._crew.clock.now()
            self.on_first_byte()
        elif self._gap is not None:
            before, self._last_piece_at = self._last_piece_at, self._crew.clock.now()
            self._gap(self._last_piece_at - before)
        self._response_bytes += len(data)
        self._chunks += 1
        if not self._chunks % TOUCH_EVERY_CHUNKS:
            self._crew.ledger.touch(self.reservation)
        if self._reader is not None:
            self._reader.feed(data)

    def on_first_byte(self) -> None:
        """The answer has begun, seen or forecast."""
        if not self._over:
            self._crew.ledger.record_first_byte(self.reservation)

    def on_log_entry(self, entry: AccessLogEntry) -> None:
        """The access log's line about this request: all of the response phase at once."""
        if entry.upstream:
            self.on_served_by(entry.upstream)
        self._status = entry.status
        self._response_bytes = entry.response_bytes
        if entry.ttfb_seconds is not None:
            self._first_byte_at = self.routed_at + entry.ttfb_seconds
        self.finalize("disconnected" if entry.disconnected else "completed")

    def finalize(self, cause: str) -> None:
        """Over. The reservation is given back and everybody is told, once."""
        if self._over:
            return
        self._over = True
        crew, request = self._crew, self.request
        crew.ledger.release(self.reservation)
        self.reservation.owner = None
        usage = self._reader.usage() if self._reader is not None else NO_USAGE
        ttft = None if self._first_byte_at is None else self._first_byte_at - self.routed_at
        how = RequestOutcome(
            cause=cause,
            status=self._status,
            duration_seconds=crew.clock.now() - self.routed_at,
            ttft_seconds=ttft,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
        )
        self._account.record_end(request.streaming, self._response_bytes, how)
        for observer in crew.request_hooks:
            try:
                observer.response_complete(request, self.reservation.slot, how)
            except Exception:
                crew.report_hook_error(observer)
        crew.untrack(self)
