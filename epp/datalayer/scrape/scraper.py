"""Fetches the metrics page of many endpoints at a steady interval.

One timer serves all endpoints: a heap holds the time at which each is due, and endpoints that are due within a few
milliseconds of each other are polled in one wake-up. A poll of a connected endpoint is one write; the page arrives in
a callback of the connection. Only connecting takes a task, the one that `DataSource.run_endpoint` runs in. TLS is the
event loop's own.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import ssl
from random import Random

from epp.address import join_host_port
from epp.api import EndpointReceiver, MetricsPage
from epp.clock import Clock
from epp.datalayer.scrape.http1 import BufferPool, ScrapeConnection, build_request
from epp.errors import DataSourceError

log = logging.getLogger("epp.scrape")

MAX_PAGE_BYTES = 8 * 1024 * 1024
JITTER_SHARE = 0.1
"""Polls are moved by up to this share of the interval to either side, so that endpoints do not fall into step."""
COALESCE_SHARE = 0.1
"""Polls due within this share of the interval are made in one wake-up, which disturbs the interval less than jitter."""


class Scraper:
    """Schedules the polls of all endpoints of one data source.

    An endpoint has at most one request in flight, and `timeout` seconds for it. After a failure it is not polled for
    a time that doubles from the interval up to `max_backoff` seconds.
    """

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        interval: float,
        *,
        request_target: str = "/metrics",
        tls_context: ssl.SSLContext | None = None,
        timeout: float = 1.0,
        max_backoff: float = 2.0,
        max_page: int = MAX_PAGE_BYTES,
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.interval = interval
        self.request_target = request_target
        self.tls_context = tls_context
        self.timeout = timeout
        self.max_backoff = max_backoff
        self.buffers = BufferPool(max_page)
        self._queue: list[tuple[float, int, _ScrapeTarget]] = []
        self._sequence = itertools.count()  # of two entries due at one time, the older first: targets do not compare
        self._timer: asyncio.TimerHandle | None = None

    async def scrape_until_cancelled(self, receiver: EndpointReceiver, port: int) -> None:
        """Polls one endpoint at `port` and delivers its pages; the first poll at a random time within the interval."""
        target = _ScrapeTarget(self, receiver, port)
        due = self.clock.now() + self.rng.random() * self.interval
        heapq.heappush(self._queue, (due, next(self._sequence), target))
        if self._queue[0][2] is target:
            self._schedule_wakeup(due)
        try:
            await target.connect_on_demand()
        finally:
            target.close()

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()

    def _schedule_wakeup(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self.clock.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self.clock.now()
        queue, horizon, spread = self._queue, now + COALESCE_SHARE * self.interval, JITTER_SHARE * self.interval
        while queue and queue[0][0] <= horizon:
            due, sequence, target = heapq.heappop(queue)
            if target.closed:
                continue
            try:
                target.poll(now)
            except Exception:
                log.exception("endpoint %s: a poll failed", target.receiver.endpoint.name)
            # If the loop was busy, missed polls are not made up for.
            due = max(due + self.interval, now + self.interval / 2, target.backoff_until)
            due += spread * (2.0 * self.rng.random() - 1.0)
            heapq.heappush(queue, (due, sequence, target))
        if queue:
            self._schedule_wakeup(queue[0][0])


class _ScrapeTarget:
    """One endpoint: its connection, and the request in flight."""

    def __init__(self, scraper: Scraper, receiver: EndpointReceiver, port: int) -> None:
        self.receiver = receiver
        self.backoff_until = 0.0
        """Not polled before this time, in monotonic seconds."""
        self.closed = False
        self._scraper = scraper
        self._address = receiver.endpoint.address
        self._port = port
        self._request = build_request(join_host_port(self._address, port), scraper.request_target)
        self._connection: ScrapeConnection | None = None
        self._connect_wanted = asyncio.Event()
        self._in_flight = False
        self._started_at = 0.0

    def poll(self, now: float) -> None:
        """Sends a request, unless one is in flight or backoff lasts; gives up the one in flight when it is overdue."""
        if self._in_flight:
            if now - self._started_at >= self._scraper.timeout and self._connection is not None:
                self._connection.close()
                self._record_failure(f"no answer within {self._scraper.timeout:g} s")
        elif now >= self.backoff_until:
            self._start_scrape(now)

    async def connect_on_demand(self) -> None:
        """Connects whenever a poll finds no usable connection; never returns."""
        while True:
            await self._connect_wanted.wait()
            self._connect_wanted.clear()
            await self._connect()

    def close(self) -> None:
        """Closes the connection; nothing is delivered or reported afterwards."""
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
            self._connect_wanted.set()

    async def _connect(self) -> None:
        scraper = self._scraper
        try:
            async with asyncio.timeout(scraper.timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: ScrapeConnection(
                        self._request, scraper.buffers, self._on_page, self._on_connection_failure
                    ),
                    self._address,
                    self._port,
                    ssl=scraper.tls_context,
                )
        except (OSError, TimeoutError) as error:
            self._record_failure(f"cannot connect: {error or 'timed out'}")
            return
        self._connection = connection
        self._started_at = scraper.clock.now()
        if connection.is_idle:
            connection.send_request()
        else:
            self._record_failure("the connection was closed at once")

    def _on_page(self, buffer: bytearray, start: int, end: int) -> None:
        self._in_flight = False
        if not self.receiver.deliver(MetricsPage(buffer, start, end), self._started_at):
            self._back_off()

    def _on_connection_failure(self, error: DataSourceError) -> None:
        if self._connection is not None and self._connection.closed_while_idle:
            # RFC 9112 section 9.5: a server may close an idle connection at any time, also as a request is on its way;
            # section 9.3.1: a client may then repeat an idempotent request on a new connection.
            self._start_scrape(self._scraper.clock.now())
        else:
            self._record_failure(str(error))

    def _record_failure(self, reason: str) -> None:
        if self.closed:
            return
        self._in_flight = False
        scheme = "http" if self._scraper.tls_context is None else "https"
        url = f"{scheme}://{join_host_port(self._address, self._port)}{self._scraper.request_target}"
        self.receiver.record_failure(f"no metrics from {url}: {reason}")
        self._back_off()

    def _back_off(self) -> None:
        scraper = self._scraper
        pause = min(scraper.max_backoff, scraper.interval * 2.0 ** min(self.receiver.failures, 20))
        self.backoff_until = scraper.clock.now() + pause * (1 - JITTER_SHARE * scraper.rng.random())
