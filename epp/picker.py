"""The composition root: builds every object of one picker by hand, starts and drains them."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Awaitable
from random import Random

from epp import __version__
from epp.api import PREFIX_BLOCKS, RUNNING, WAITING
from epp.clock import Clock, SystemClock
from epp.config.plan import Plan
from epp.datalayer.discovery import dns, file, static
from epp.datalayer.discovery.file import FileDiscovery
from epp.datalayer.endpoint_union import Membership
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor, MetricsDataSource
from epp.datalayer.scrape.scraper import Scraper
from epp.datastore.endpoint_store import Table
from epp.datastore.ledger import Ledger
from epp.errors import ConfigError, Problem
from epp.extproc import handler, session
from epp.grpc import tls
from epp.grpc.limits import Limits
from epp.grpc.long_lived import Standing
from epp.grpc.rpc import Methods
from epp.grpc.rpc_stats import Server
from epp.grpc.server import NativeServer
from epp.obs import pool_metrics
from epp.obs.admin import Admin, Facts
from epp.obs.decision_log import Decisions
from epp.obs.metrics import Metrics
from epp.obs.prefix_metrics import PrefixView
from epp.requestcontrol.completion import AccessLogCompletion, Completion, ObservedCompletion, ScrapeCompletion
from epp.requestcontrol.director import Decided, Director, Settings
from epp.requestcontrol.interfaces import LogSink
from epp.services import access_log, health
from epp.tasks import Tasks

log = logging.getLogger("epp.picker")

TICK_SECONDS = 0.02
EXPIRY_TICKS = 250
OVERDUE_SECONDS = 5.0
SMALLEST_MESSAGE = 4 << 20
FRAMING = 64 << 10  # of a message around the body it carries
QUIET_SECONDS = 2.5  # without a stream for this long, gateways have noticed that we are not ready


class Service:
    """One picker: everything built, nothing started."""

    def __init__(self, arguments: argparse.Namespace, plan: Plan, source: str) -> None:
        self.arguments = arguments
        self.plan = plan
        self.clock: Clock = SystemClock()
        self.rng = Random(arguments.seed)
        self.tasks = Tasks("epp")
        self.synced = self.draining = False
        self.table = Table(self.clock, arguments.metrics_staleness_threshold)
        self.ledger = Ledger(self.clock, arguments.reservation_ttl)
        self.metrics = Metrics(stream_metrics=arguments.enable_grpc_stream_metrics)
        self.decisions = Decisions()
        self.completion, sink = self._completion()
        self.director = Director(
            plan, self.table, self.ledger, self.completion, self.metrics, self.clock, self.rng, self._settings(),
            self._decided,
        )  # fmt: skip
        self.scraper = self._scraper()
        self.standing = Standing()
        self.server = self._server(self._methods(sink))
        self.health = NativeServer(health.methods(self.ready, self.tasks), self.clock)
        self.admin = self._admin(source)
        pool_metrics.follow(self.metrics, self.table, self.clock)
        self.table.on_removed(self.ledger.forget)

    def ready(self) -> bool:
        """Whether gateways should send requests here; also to an empty pool: we answer 503 and say why."""
        return self.synced and not self.draining

    def open_streams(self) -> int:
        """Requests that are being served. Access logs and health watches stay open as long as a gateway lives."""
        return self.server.streams.open - len(self.standing)

    async def start(self) -> None:
        """Finds endpoints, begins to scrape, listens."""
        flags = self.arguments
        await self._discover()
        self.synced = True
        self.scraper.start()
        certificate = tls.server_context(flags, self.tasks, self.clock) if flags.secure_serving else None
        if isinstance(self.server, NativeServer):
            starting = self.server.start(flags.host, flags.grpc_port, certificate, flags.grpc_fd)
        else:
            starting = self.server.start(flags.host, flags.grpc_port, certificate)
        await _listen("--grpc-port", flags.grpc_port, starting)
        await _listen(
            "--grpc-health-port", flags.grpc_health_port, self.health.start(flags.host, flags.grpc_health_port)
        )
        starting = self.admin.start(flags.metrics_host, flags.metrics_port, tls.metrics_context(flags))
        await _listen("--metrics-port", flags.metrics_port, starting)
        self.tasks.keep("tick", self._tick)
        log.info(
            "serving",
            extra={
                "grpc-port": self.server.port,
                "metrics-port": self.admin.port,
                "endpoints": len(self.table),
                "completion": flags.completion,
                "transport": flags.transport,
            },
        )

    async def drain(self) -> None:
        """Not ready at once; serves on until gateways have gone elsewhere, then ends what is left."""
        self.draining = True
        deadline = self.clock.now() + self.arguments.drain_timeout
        quiet = self.clock.now()
        log.info("draining", extra={"open-streams": self.open_streams()})
        while (now := self.clock.now()) < deadline and now - quiet < QUIET_SECONDS:
            if self.open_streams():
                quiet = now
            await asyncio.sleep(0.05)
        self.standing.end()
        await self.server.drain(max(0.0, deadline - self.clock.now()))

    async def close(self) -> None:
        """Ends everything."""
        await self.admin.close()
        await self.health.close()
        await self.server.close()
        self.scraper.close()
        await self.tasks.close()

    async def _discover(self) -> None:
        """Fills the table and keeps it filled; at least one way to find endpoints must be given."""
        flags = self.arguments
        discovery = None if self.plan.discovery is None else self.plan.discovery[1]
        if not (flags.endpoint or flags.dns or discovery):
            advice = "give --endpoint HOST:PORT, --dns NAME:PORT or a configuration with dataLayer.discovery"
            if flags.pool_name or flags.endpoint_selector:
                advice = f"finding pods through the Kubernetes API is not supported yet; {advice}"
            raise ConfigError([Problem("endpoints", advice)])
        members = Membership(self.table)
        members.set("--endpoint", static.endpoints(flags.endpoint))
        if isinstance(discovery, FileDiscovery):
            await file.watch(discovery, members, self.tasks)
        elif discovery is not None:
            raise ConfigError([Problem("dataLayer.discovery", f"{type(discovery).type} cannot be run here")])
        for name in flags.dns:
            await dns.watch(name, members, self.tasks)

    def _decided(self, decided: Decided) -> None:
        self.metrics.request_processed(decided.seconds)
        self.decisions.add(decided)

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.completion.tick()
            ticks += 1
            if not ticks % EXPIRY_TICKS:
                self._expire()

    def _expire(self) -> None:
        for ticket in self.ledger.expire():
            if ticket.owner is not None:
                ticket.owner.ended("expired")
        self._retire_overdue()

    def _retire_overdue(self) -> None:
        """A server that reports no request has none of ours: their ends were lost, with a log entry or a gateway."""
        snapshot = self.table.snapshot()
        idle = (snapshot.columns[RUNNING] == 0) & (snapshot.columns[WAITING] == 0) if snapshot.columns else []
        for slot in [slot for slot in snapshot.live.tolist() if idle[slot]]:
            for ticket in self.ledger.reserved_before(slot, self.table.scraped_at(slot) - OVERDUE_SECONDS):
                if ticket.owner is not None and ticket.owner.followed:
                    ticket.owner.ended("expired")

    def _completion(self) -> tuple[Completion, LogSink | None]:
        flags = self.arguments
        if flags.completion == "access-log":
            by_log = AccessLogCompletion(self.clock, self.rng, flags.observe_responses)
            return by_log, by_log.entry
        if flags.completion == "scrape":
            by_scrape = ScrapeCompletion(self.clock, self.rng, self.ledger, flags.observe_responses)
            self.table.on_scraped(by_scrape.scraped)
            return by_scrape, None
        return ObservedCompletion(), None

    def _settings(self) -> Settings:
        flags = self.arguments
        return Settings(
            use_subset=not flags.disable_endpoint_subset_filter,
            emit_scores=flags.emit_endpoint_scores,
            timeout=flags.decision_timeout,
            scraped_load=flags.completion == "scrape",
        )

    def _methods(self, sink: LogSink | None) -> Methods:
        flags = self.arguments
        limits = session.Limits(body=flags.max_request_body, headers=flags.max_request_headers)
        rpcs = handler.methods(self.director, self.tasks, limits, flags.decision_timeout)
        checks = health.methods(self.ready, self.tasks, self.standing)
        logged = {} if sink is None else access_log.methods(sink, self.standing)
        return {**rpcs, **checks, **logged}

    def _server(self, rpcs: Methods) -> Server:
        flags = self.arguments
        # Envoy sends a BUFFERED body as one message: the limit of bodies must be met first, it answers 413.
        limits = Limits(message=flags.grpc_max_recv_msg_size or max(SMALLEST_MESSAGE, flags.max_request_body + FRAMING))
        on_end = self._stream_ended if flags.enable_grpc_stream_metrics else None
        if flags.transport == "native":
            return NativeServer(rpcs, self.clock, limits, on_end)
        from epp.grpc.grpcio_server import GrpcioServer  # an extra that need not be installed

        return GrpcioServer(rpcs, self.clock, limits, on_end)

    def _stream_ended(self, name: str, status: int, started: float) -> None:
        if name == handler.PROCESS:
            self.metrics.stream_ended(self.clock.now() - started, str(status))

    def _scraper(self) -> Scraper:
        source, extractor = MetricsDataSource(), CoreMetricsExtractor()
        for item in self.plan.sources:
            if isinstance(item.source, MetricsDataSource):
                source = item.source
                extractor = next((e for _, e in item.extractors if isinstance(e, CoreMetricsExtractor)), extractor)
        return Scraper(
            self.table,
            source,
            extractor,
            self.clock,
            self.tasks,
            self.rng,
            self.arguments.refresh_metrics_interval,
            on_fault=lambda fault: self.metrics.scrape_failed(
                source.type, extractor.type if fault == "extract" else ""
            ),
        )

    def _admin(self, source: str) -> Admin:
        name = self.arguments.pool_name or "default"
        view = pool_metrics.PoolView(name, self.table, self.ledger, self.clock)
        self.metrics.registry.register(view)
        plugins = self.plan.plugins().items()
        indexes = [
            (label, type(plugin).type, plugin.stats)
            for label, plugin in plugins
            if PREFIX_BLOCKS in plugin.gives and hasattr(plugin, "stats")
        ]
        self.metrics.registry.register(PrefixView(indexes))
        self.metrics.show_streams(self.open_streams)
        return Admin(
            self.metrics,
            view,
            self.decisions,
            self.clock,
            ready=self.ready,
            open_streams=self.open_streams,
            facts=Facts(__version__, source, self.plan.plugins()),
        )


async def _listen(flag: str, port: int, starting: Awaitable[None]) -> None:
    try:
        await starting
    except OSError as error:
        raise ConfigError([Problem(flag, f"cannot listen on port {port}: {error.strerror or error}")]) from error
