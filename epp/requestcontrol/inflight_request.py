"""A request from its routing decision to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from epp.api import Request, RequestHooks, RequestOutcome, TokenUsage, UsageReader
from epp.clock import Clock
from epp.datastore.ledger import Ledger, Reservation
from epp.requestcontrol.request_metrics import RequestMetrics

NO_USAGE = TokenUsage()
TOUCH_EVERY_CHUNKS = 16  # response chunks between two renewals of the reservation's expiry


class InflightDependencies(msgspec.Struct, frozen=True):
    """What all in-flight requests of one director share; built once.

    `response_hooks` are the plugins that override `RequestHooks.response_complete`; `report_hook_error` is called while
    the exception of one of them is being handled. `find_slot` maps `ip:port` to a slot.
    """

    clock: Clock
    ledger: Ledger
    response_hooks: tuple[RequestHooks, ...]
    find_slot: Callable[[str], int | None]
    untrack: Callable[[InflightRequest], None]
    report_hook_error: Callable[[RequestHooks], None]


class InflightRequest:
    """One routed request; the `RoutedRequest` of the protocol side.

    Its end may be reported by the stream, the access log, a scrape or the expiry of its reservation: `finalize` is
    idempotent and the first call decides. It releases the reservation, records the metrics and notifies the hooks.
    `tracked`: the stream is closed after the request phase, so a `Completion` reports the end.
    `prompt_tokens` is the load that was reserved, `routed_at` monotonic seconds.
    """

    __slots__ = (
        "_chunks",
        "_dependencies",
        "_finalized",
        "_first_byte_at",
        "_last_chunk_at",
        "_metrics",
        "_record_latency",
        "_response_bytes",
        "_status",
        "_usage_reader",
        "prompt_tokens",
        "request",
        "reservation",
        "routed_at",
        "tracked",
    )

    def __init__(
        self,
        dependencies: InflightDependencies,
        request: Request,
        reservation: Reservation,
        prompt_tokens: float,
        usage_reader: UsageReader | None,
        metrics: RequestMetrics,
    ) -> None:
        self._dependencies = dependencies
        self._metrics = metrics
        self._usage_reader = usage_reader
        self._status = 0
        self._first_byte_at: float | None = None
        self._record_latency: Callable[[float], None] | None = None
        self._last_chunk_at = 0.0
        self._finalized = False
        self._chunks = 0
        self._response_bytes = 0
        self.tracked = False
        self.request = request
        self.reservation = reservation
        self.prompt_tokens = prompt_tokens
        self.routed_at = reservation.reserved_at
        reservation.owner = self

    def on_served_by(self, target: str) -> None:
        """Moves the reservation to the endpoint that serves the request: Envoy may have fallen back to another one."""
        slot = self._dependencies.find_slot(target)
        if slot is not None and slot != self.reservation.slot:
            self._dependencies.ledger.move(self.reservation, slot)

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Streaming is recognised by the content type of the response, whatever the request asked for, as in llm-d."""
        self._status = status
        if "text/event-stream" in headers.get("content-type", ""):
            self.request.streaming = True
            self._record_latency = self._metrics.record_inter_token_latency

    def on_response_body(self, data: bytes) -> None:
        """The first chunk marks the first byte; llm-d too measures inter-token latency between chunks, not tokens."""
        if self._first_byte_at is None:
            self._first_byte_at = self._last_chunk_at = self._dependencies.clock.now()
            self.on_first_byte()
        elif self._record_latency is not None:
            before, self._last_chunk_at = self._last_chunk_at, self._dependencies.clock.now()
            self._record_latency(self._last_chunk_at - before)
        self._response_bytes += len(data)
        self._chunks += 1
        if not self._chunks % TOUCH_EVERY_CHUNKS:  # a response longer than --reservation-ttl must not expire
            self._dependencies.ledger.touch(self.reservation)
        if self._usage_reader is not None:
            self._usage_reader.feed(data)

    def on_first_byte(self) -> None:
        """The response has begun, as observed or as predicted: its prompt tokens no longer load the endpoint."""
        if not self._finalized:
            self._dependencies.ledger.record_first_byte(self.reservation)

    def record_response(self, status: int, response_bytes: int, ttfb_seconds: float | None) -> None:
        """A whole response, learnt after it ended. `ttfb_seconds` counts from the routing; None: no byte was sent."""
        self._status = status
        self._response_bytes = response_bytes
        if ttfb_seconds is not None:
            self._first_byte_at = self.routed_at + ttfb_seconds

    def finalize(self, cause: str) -> None:
        """Ends the request: releases the reservation, then records the outcome and notifies the hooks."""
        if self._finalized:
            return
        self._finalized = True
        dependencies, request = self._dependencies, self.request
        dependencies.ledger.release(self.reservation)
        self.reservation.owner = None  # breaks the reference cycle
        usage = self._usage_reader.usage() if self._usage_reader is not None else NO_USAGE
        outcome = RequestOutcome(
            cause=cause,
            status=self._status,
            duration_seconds=dependencies.clock.now() - self.routed_at,
            ttft_seconds=None if self._first_byte_at is None else self._first_byte_at - self.routed_at,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
        )
        self._metrics.record_end(request.streaming, self._response_bytes, outcome)
        for plugin in dependencies.response_hooks:
            try:
                plugin.response_complete(request, self.reservation.slot, outcome)
            except Exception:
                dependencies.report_hook_error(plugin)
        dependencies.untrack(self)
