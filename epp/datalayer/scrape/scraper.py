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

from epp.address import join_address
from epp.api import Endpoint
from epp.clock import Clock
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor, MetricsDataSource
from epp.datalayer.scrape.http1 import Buffers, PageConnection, request_bytes
from epp.datastore.endpoint_store import Table
from epp.errors import ConfigError, Problem, SourceError
from epp.tasks import Tasks

log = logging.getLogger("epp.scrape")

MAX_PAGE = 8 * 1024 * 1024
# Turns are spread by this share of the interval to either side, so that endpoints do not fall into step.
JITTER = 0.1
# Turns due within this share of the interval are taken together: fewer wake-ups, a beat no less steady than the jitter.
TOGETHER = 0.1

Fault = Literal["poll", "extract"]


class Scraper:
    """Scrapes every member of the table into it; follows its membership.

    An endpoint has one scrape in flight at most, and `timeout` seconds for it. After a failure its next turn comes
    after a pause that doubles from the interval up to `longest_pause`; its values meanwhile grow stale in the table.
    `on_fault` hears of every failed scrape: "poll" if there was no page, "extract" if nothing on it could be read.
    """

    def __init__(
        self,
        table: Table,
        source: MetricsDataSource,
        extractor: CoreMetricsExtractor,
        clock: Clock,
        tasks: Tasks,
        rng: Random,
        interval: float = 0.05,
        *,
        timeout: float = 1.0,
        longest_pause: float = 2.0,
        max_page: int = MAX_PAGE,
        on_fault: Callable[[Fault], None] = lambda fault: None,
    ) -> None:
        self.table = table
        self.source = source
        self.extractor = extractor
        self.clock = clock
        self.tasks = tasks
        self.rng = rng
        self.interval = interval if source.seconds is None else source.seconds
        self.timeout = timeout
        self.longest_pause = longest_pause
        self.buffers = Buffers(max_page)
        self.on_fault = on_fault
        self.tls = tls_context(source) if source.scheme == "https" else None
        self._targets: dict[int, _Target] = {}
        self._turns: list[tuple[float, int, _Target]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._running = False

    def start(self) -> None:
        """Begins with the present members and follows the table from now on. Needs a running loop."""
        self._running = True
        self.table.on_put(self._put)
        self.table.on_removed(self._removed)
        for slot in self.table.snapshot().live.tolist():
            self._put(slot)

    def close(self) -> None:
        """Stops and closes every connection."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for slot in list(self._targets):
            self._removed(slot)
        self._turns.clear()

    def _put(self, slot: int) -> None:
        endpoint = self.table.endpoint(slot)
        if not self._running or endpoint is None:
            return
        self._removed(slot)  # changed labels may name another engine
        target = self._targets[slot] = _Target(self, slot, endpoint)
        self._push(self.clock.now() + self.rng.random() * self.interval, target)

    def _removed(self, slot: int) -> None:
        target = self._targets.pop(slot, None)
        if target is not None:
            target.close()

    def _push(self, due: float, target: _Target) -> None:
        heapq.heappush(self._turns, (due, next(self._order), target))
        if self._turns[0][2] is target:
            self._schedule(due)

    def _schedule(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self.clock.now()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self.clock.now()
        turns, horizon, spread = self._turns, now + TOGETHER * self.interval, JITTER * self.interval
        while turns and turns[0][0] <= horizon:
            due, order, target = heapq.heappop(turns)
            if target.closed:
                continue
            try:
                target.turn(now)
            except Exception:
                log.exception("endpoint at slot %d: a turn failed", target.slot)
            # Late is late: a loop that was busy does not make up for the turns it missed.
            due = max(due + self.interval, now + self.interval / 2, target.not_before)
            due += spread * (2.0 * self.rng.random() - 1.0)
            heapq.heappush(turns, (due, order, target))
        if turns:
            self._schedule(turns[0][0])


class _Target:
    """One endpoint: its connection, the scrape in flight, the failures so far."""

    def __init__(self, scraper: Scraper, slot: int, endpoint: Endpoint) -> None:
        self._scraper = scraper
        self.slot = slot
        self._endpoint = endpoint
        self._generation = scraper.table.generation(slot)
        self._reader = scraper.extractor.reader(endpoint)
        self._port = scraper.source.port_of(endpoint)
        self._request = request_bytes(join_address(endpoint.address, self._port), scraper.source.target)
        self._connection: PageConnection | None = None
        self._busy = False
        self._started = 0.0
        self._failures = 0
        self.not_before = 0.0
        """No turn is of use before this moment."""
        self.closed = False

    def turn(self, now: float) -> None:
        """Begins a scrape, unless one is in flight; gives that one up when its time is over."""
        if self._busy:
            if now - self._started >= self._scraper.timeout and self._connection is not None:
                self._connection.close()
                self._failed(SourceError(f"no answer within {self._scraper.timeout:g} s"))
        elif now >= self.not_before:
            self._begin(now)

    def close(self) -> None:
        """Lets go of the connection; nothing is reported any more."""
        self.closed = True
        if self._connection is not None:
            self._connection.close()

    def _begin(self, now: float) -> None:
        self._busy = True
        self._started = now
        if self._connection is not None and self._connection.usable:
            self._connection.ask()
        else:
            self._connection = None
            self._scraper.tasks.spawn(f"connect {self._endpoint.name}", self._connect())

    async def _connect(self) -> None:
        scraper = self._scraper
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(scraper.timeout):
                _, connection = await loop.create_connection(
                    lambda: PageConnection(self._request, scraper.buffers, self._took, self._lost),
                    self._endpoint.address,
                    self._port,
                    ssl=scraper.tls,
                )
        except (OSError, TimeoutError) as error:
            self._failed(SourceError(f"cannot connect: {error or 'timed out'}"))
            return
        if self.closed:
            connection.close()
            return
        self._connection = connection
        self._started = scraper.clock.now()
        if connection.usable:
            connection.ask()
        else:
            self._failed(SourceError("the connection was closed at once"))

    def _took(self, buffer: bytearray, start: int, end: int) -> None:
        self._busy = False
        try:
            values, adapters = self._reader.read(buffer, start, end)
        except SourceError as error:
            self._failed(error, "extract")
            return
        if self._failures:
            log.info("endpoint %s: metrics are back after %d failures", self._endpoint.name, self._failures)
            self._failures = 0
        self._scraper.table.scraped(self.slot, self._generation, self._started, values, adapters)

    def _lost(self, error: SourceError) -> None:
        if self._connection is not None and self._connection.was_idle:
            self._begin(self._scraper.clock.now())  # no fault of the server: it closes what was idle
        else:
            self._failed(error)

    def _failed(self, error: SourceError, fault: Fault = "poll") -> None:
        if self.closed:
            return
        scraper = self._scraper
        self._busy = False
        self._failures += 1
        pause = min(scraper.longest_pause, scraper.interval * 2.0 ** min(self._failures, 20))
        self.not_before = scraper.clock.now() + pause * (1 - JITTER * scraper.rng.random())
        # The first of a row: the rest would say the same.
        if self._failures == 1:
            page = f"{scraper.source.scheme}://{self._endpoint.address}:{self._port}{scraper.source.target}"
            log.warning("endpoint %s: no metrics from %s: %s", self._endpoint.name, page, error)
        scraper.table.failed(self.slot, self._generation)
        scraper.on_fault(fault)


def tls_context(source: MetricsDataSource) -> ssl.SSLContext:
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
