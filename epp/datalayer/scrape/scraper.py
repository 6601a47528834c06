"""Reads the metrics page of every endpoint at a steady beat.

One timer for all: a heap of the next turn of each endpoint; turns due within a few milliseconds are taken together.
Nothing is spawned for a scrape; only connecting is a task. https is the same connection over the loop's own TLS.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import ssl
from collections.abc import Callable
from random import Random
from typing import Literal

from epp.address import join_host_port
from epp.api import Endpoint
from epp.clock import Clock
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor, MetricsDataSource
from epp.datalayer.scrape.http1 import BufferPool, ScrapeConnection, build_request
from epp.datastore.endpoint_store import EndpointStore
from epp.errors import ConfigError, DataSourceError, Problem
from epp.tasks import Tasks

log = logging.getLogger("epp.scrape")

MAX_PAGE_BYTES = 8 * 1024 * 1024
# Turns are spread by this share of the interval to either side, so that endpoints do not fall into step.
JITTER_SHARE = 0.1
# Turns due within this share of the interval are taken together: fewer wake-ups, a beat no less steady than the jitter.
COALESCE_SHARE = 0.1

ScrapeFailureKind = Literal["poll", "extract"]


class Scraper:
    """Scrapes every member of the table into it; follows its membership.

    An endpoint has one scrape in flight at most, and `timeout` seconds for it. After a failure its next turn comes
    after a pause that doubles from the interval up to `longest_pause`; its values meanwhile grow stale in the table.
    `on_fault` hears of every failed scrape: "poll" if there was no page, "extract" if nothing on it could be read.
    """

    def __init__(
        self,
        table: EndpointStore,
        source: MetricsDataSource,
        extractor: CoreMetricsExtractor,
        clock: Clock,
        tasks: Tasks,
        rng: Random,
        interval: float = 0.05,
        *,
        timeout: float = 1.0,
        longest_pause: float = 2.0,
        max_page: int = MAX_PAGE_BYTES,
        on_fault: Callable[[ScrapeFailureKind], None] = lambda fault: None,
    ) -> None:
        self.store = table
        self.source = source
        self.extractor = extractor
        self.clock = clock
        self.tasks = tasks
        self.rng = rng
        self.interval = interval if source.interval_seconds is None else source.interval_seconds
        self.timeout = timeout
        self.max_backoff = longest_pause
        self.buffers = BufferPool(max_page)
        self.on_failure = on_fault
        self.tls_context = create_tls_context(source) if source.scheme == "https" else None
        self._targets: dict[int, _ScrapeTarget] = {}
        self._queue: list[tuple[float, int, _ScrapeTarget]] = []
        self._sequence = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._running = False

    def start(self) -> None:
        """Begins with the present members and follows the table from now on. Needs a running loop."""
        self._running = True
        self.store.on_upsert(self._on_upsert)
        self.store.on_removed(self._on_removed)
        for slot in self.store.snapshot().live_slots.tolist():
            self._on_upsert(slot)

    def close(self) -> None:
        """Stops and closes every connection."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for slot in list(self._targets):
            self._on_removed(slot)
        self._queue.clear()

    def _on_upsert(self, slot: int) -> None:
        endpoint = self.store.get_endpoint(slot)
        if not self._running or endpoint is None:
            return
        self._on_removed(slot)  # changed labels may name another engine
        target = self._targets[slot] = _ScrapeTarget(self, slot, endpoint)
        self._enqueue(self.clock.now() + self.rng.random() * self.interval, target)

    def _on_removed(self, slot: int) -> None:
        target = self._targets.pop(slot, None)
        if target is not None:
            target.close()

    def _enqueue(self, due: float, target: _ScrapeTarget) -> None:
        heapq.heappush(self._queue, (due, next(self._sequence), target))
        if self._queue[0][2] is target:
            self._schedule_wakeup(due)

    def _schedule_wakeup(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self.clock.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self.clock.now()
        turns, horizon, spread = self._queue, now + COALESCE_SHARE * self.interval, JITTER_SHARE * self.interval
        while turns and turns[0][0] <= horizon:
            due, order, target = heapq.heappop(turns)
            if target.closed:
                continue
            try:
                target.poll(now)
            except Exception:
                log.exception("endpoint at slot %d: a turn failed", target.slot)
            # Late is late: a loop that was busy does not make up for the turns it missed.
            due = max(due + self.interval, now + self.interval / 2, target.backoff_until)
            due += spread * (2.0 * self.rng.random() - 1.0)
            heapq.heappush(turns, (due, order, target))
        if turns:
            self._schedule_wakeup(turns[0][0])


class _ScrapeTarget:
    """One endpoint: its connection, the scrape in flight, the failures so far."""

    def __init__(self, scraper: Scraper, slot: int, endpoint: Endpoint) -> None:
        self._scraper = scraper
        self.slot = slot
        self._endpoint = endpoint
        self._generation = scraper.store.generation_of(slot)
        self._reader = scraper.extractor.create_reader(endpoint)
        self._port = scraper.source.metrics_port(endpoint)
        self._request = build_request(join_host_port(endpoint.address, self._port), scraper.source.request_target)
        self._connection: ScrapeConnection | None = None
        self._in_flight = False
        self._started_at = 0.0
        self._failures = 0
        self.backoff_until = 0.0
        """No turn is of use before this moment."""
        self.closed = False

    def poll(self, now: float) -> None:
        """Begins a scrape, unless one is in flight; gives that one up when its time is over."""
        if self._in_flight:
            if now - self._started_at >= self._scraper.timeout and self._connection is not None:
                self._connection.close()
                self._record_failure(DataSourceError(f"no answer within {self._scraper.timeout:g} s"))
        elif now >= self.backoff_until:
            self._start_scrape(now)

    def close(self) -> None:
        """Lets go of the connection; nothing is reported any more."""
        self.closed = True
        if self._connection is not None:
            self._connection.close()

    def _start_scrape(self, now: float) -> None:
        self._in_flight = True
        self._started_at = now
        if self._connection is not None and self._connection.is_idle:
            self._connection.send_request()
        else:
            self._connection = None
            self._scraper.tasks.spawn(f"connect {self._endpoint.name}", self._connect())

    async def _connect(self) -> None:
        scraper = self._scraper
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(scraper.timeout):
                _, connection = await loop.create_connection(
                    lambda: ScrapeConnection(
                        self._request, scraper.buffers, self._on_page, self._on_connection_failure
                    ),
                    self._endpoint.address,
                    self._port,
                    ssl=scraper.tls_context,
                )
        except (OSError, TimeoutError) as error:
            self._record_failure(DataSourceError(f"cannot connect: {error or 'timed out'}"))
            return
        if self.closed:
            connection.close()
            return
        self._connection = connection
        self._started_at = scraper.clock.now()
        if connection.is_idle:
            connection.send_request()
        else:
            self._record_failure(DataSourceError("the connection was closed at once"))

    def _on_page(self, buffer: bytearray, start: int, end: int) -> None:
        self._in_flight = False
        try:
            values, adapters = self._reader.read(buffer, start, end)
        except DataSourceError as error:
            self._record_failure(error, "extract")
            return
        if self._failures:
            log.info("endpoint %s: metrics are back after %d failures", self._endpoint.name, self._failures)
            self._failures = 0
        self._scraper.store.record_scrape(self.slot, self._generation, self._started_at, values, adapters)

    def _on_connection_failure(self, error: DataSourceError) -> None:
        if self._connection is not None and self._connection.closed_while_idle:
            self._start_scrape(self._scraper.clock.now())  # no fault of the server: it closes what was idle
        else:
            self._record_failure(error)

    def _record_failure(self, error: DataSourceError, fault: ScrapeFailureKind = "poll") -> None:
        if self.closed:
            return
        scraper = self._scraper
        self._in_flight = False
        self._failures += 1
        pause = min(scraper.max_backoff, scraper.interval * 2.0 ** min(self._failures, 20))
        self.backoff_until = scraper.clock.now() + pause * (1 - JITTER_SHARE * scraper.rng.random())
        # The first of a row: the rest would say the same.
        if self._failures == 1:
            page = f"{scraper.source.scheme}://{self._endpoint.address}:{self._port}{scraper.source.request_target}"
            log.warning("endpoint %s: no metrics from %s: %s", self._endpoint.name, page, error)
        scraper.store.record_failure(self.slot, self._generation)
        scraper.on_failure(fault)


def create_tls_context(source: MetricsDataSource) -> ssl.SSLContext:
    """What the source's certificate parameters mean; ConfigError if a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=source.ca_cert_path or None)
        if source.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if source.client_cert_path:
            context.load_cert_chain(source.client_cert_path, source.client_key_path)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (source.ca_cert_path, source.client_cert_path, source.client_key_path)))
        raise ConfigError([Problem("metrics-data-source", f"cannot use {files}: {error}")]) from error
    return context
