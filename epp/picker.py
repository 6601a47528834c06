"""Composition root: builds every object of one picker, starts them in order, drains and closes them.

Reads the flags of `epp serve` and the plan of its configuration; no other module reads flags. Objects get what they
depend on as constructor arguments; nothing is looked up at run time, and nothing is global.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Awaitable
from random import Random

from epp import __version__
from epp.api import RUNNING_REQUESTS, Discovery
from epp.clock import Clock, SystemClock
from epp.config.plan import PickerPlan, PlannedDataSource
from epp.datalayer.discovery.dns import DnsDiscovery
from epp.datalayer.discovery.static import StaticDiscovery
from epp.datalayer.runtime import DataLayer
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor
from epp.datalayer.scrape.metrics_data_source import MetricsDataSource
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.errors import ConfigError, Problem
from epp.extproc import handler, session
from epp.grpc import tls
from epp.grpc.limits import TransportLimits
from epp.grpc.long_lived import LongLivedRpcs
from epp.grpc.rpc import RpcMethods, RpcServer
from epp.grpc.server import GrpcServer
from epp.obs import pool_metrics
from epp.obs.admin import AdminServer
from epp.obs.decision_log import DecisionLog
from epp.obs.metrics import Metrics
from epp.obs.prefix_metrics import PrefixCacheCollector
from epp.requestcontrol.completion import (
    AccessLogCompletion,
    AccessLogSink,
    Completion,
    ObservedCompletion,
    ScrapeCompletion,
)
from epp.requestcontrol.director import DecisionRecord, Director, DirectorOptions
from epp.requestcontrol.reservation_expiry import ReservationExpiry
from epp.scheduling.plugin_metrics import PluginErrorReporter
from epp.services import access_log, health
from epp.tasks import Tasks

log = logging.getLogger("epp.picker")

COMPLETION_TICK_SECONDS = 0.02
EXPIRY_INTERVAL_SECONDS = 5.0
MIN_MESSAGE_LIMIT = 4 << 20
MESSAGE_OVERHEAD_BYTES = 64 << 10
"""Bytes of an ext_proc message besides the body that it carries."""
DRAIN_QUIET_SECONDS = 2.5
"""Without an open stream for this long, gateways have noticed that the picker is not ready."""


class EndpointPicker:
    """One picker. The constructor builds everything and starts nothing; it needs no event loop."""

    def __init__(self, arguments: argparse.Namespace, plan: PickerPlan, source: str) -> None:
        self.arguments = arguments
        self.plan = plan
        self.clock: Clock = SystemClock()
        self.rng = Random(arguments.seed)
        self.tasks = Tasks("epp")
        self.draining = False

        # State: endpoints with their columns, and reservations of requests in flight.
        self.endpoint_store = EndpointStore(self.clock, arguments.metrics_staleness_threshold)
        self.ledger = Ledger(self.clock, arguments.reservation_ttl)
        self.endpoint_store.on_removed(self.ledger.clear_slot)
        self.reservation_expiry = ReservationExpiry(self.endpoint_store, self.ledger)

        # Observability.
        self.metrics = Metrics(stream_metrics=arguments.enable_grpc_stream_metrics)
        self.decision_log = DecisionLog()
        pool_metrics.track_endpoints(self.metrics, self.endpoint_store, self.clock)

        # Where endpoints and their state come from, how requests are routed, and how their ends are learnt.
        self.data_layer = self._create_data_layer()
        self.completion, access_log_sink = self._create_completion()
        self.director = self._create_director()

        # Servers.
        self.long_lived_rpcs = LongLivedRpcs()
        self.server = self._create_server(self._build_rpc_methods(access_log_sink))
        self.health_server = GrpcServer(health.health_methods(self.is_ready, self.tasks), self.clock)
        self.admin_server = self._create_admin_server(source)

    def is_ready(self) -> bool:
        """Whether gateways should send requests: every discovery has listed its endpoints, and no drain has begun.

        A picker with an empty pool is ready: it answers requests with a 503 that says why.
        """
        return self.data_layer.synced and not self.draining

    def count_open_streams(self) -> int:
        """Requests in progress: open RPCs without access logs and health watches, which last as long as a gateway."""
        return self.server.rpc_stats.open_rpcs - len(self.long_lived_rpcs)

    async def start(self) -> None:
        """Starts the data layer, then the listeners. ConfigError if a plugin or a port cannot be used as configured."""
        flags = self.arguments
        await self.data_layer.start()
        certificate = tls.create_server_context(flags, self.tasks, self.clock) if flags.secure_serving else None
        if isinstance(self.server, GrpcServer):
            starting = self.server.start(flags.host, flags.grpc_port, certificate, flags.grpc_fd)
        else:
            starting = self.server.start(flags.host, flags.grpc_port, certificate)
        await _start_listener("--grpc-port", flags.grpc_port, starting)
        await _start_listener(
            "--grpc-health-port", flags.grpc_health_port, self.health_server.start(flags.host, flags.grpc_health_port)
        )
        starting = self.admin_server.start(flags.metrics_host, flags.metrics_port, tls.create_metrics_context(flags))
        await _start_listener("--metrics-port", flags.metrics_port, starting)
        self.tasks.supervise("completion", self._run_completion)
        self.tasks.supervise("expiry", self._run_expiry)
        log.info(
            "serving",
            extra={
                "grpc-port": self.server.port,
                "metrics-port": self.admin_server.port,
                "endpoints": len(self.endpoint_store),
                "completion": flags.completion,
                "transport": flags.transport,
            },
        )

    async def drain(self) -> None:
        """Reports not ready, serves on until no stream has been open for a while, then ends what is left.

        Returns after `--drain-timeout` at the latest.
        """
        self.draining = True
        deadline = self.clock.now() + self.arguments.drain_timeout
        last_open = self.clock.now()
        log.info("draining", extra={"open-streams": self.count_open_streams()})
        while (now := self.clock.now()) < deadline and now - last_open < DRAIN_QUIET_SECONDS:
            if self.count_open_streams():
                last_open = now
            await asyncio.sleep(0.05)
        self.long_lived_rpcs.finish_all()
        await self.server.drain(max(0.0, deadline - self.clock.now()))

    async def close(self) -> None:
        """Closes the listeners, then the data layer, then cancels the tasks that are left."""
        await self.admin_server.close()
        await self.health_server.close()
        await self.server.close()
        await self.data_layer.close()
        await self.tasks.close()

    async def _run_completion(self) -> None:
        while True:
            await asyncio.sleep(COMPLETION_TICK_SECONDS)
            self.completion.tick()

    async def _run_expiry(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)
            self.reservation_expiry.run_once()

    def _create_data_layer(self) -> DataLayer:
        return DataLayer(
            self.endpoint_store,
            self.clock,
            self.rng,
            refresh_interval=self.arguments.refresh_metrics_interval,
            discoveries=self._create_discoveries(),
            data_sources=self._plan_data_sources(),
            on_failure=self.metrics.record_scrape_failure,
        )

    def _create_discoveries(self) -> list[tuple[str, Discovery]]:
        """Discoveries of flags and configuration, by name; of two that report one endpoint the first wins."""
        flags = self.arguments
        discoveries: list[tuple[str, Discovery]] = []
        if flags.endpoint:
            discoveries.append(("--endpoint", StaticDiscovery(targets=flags.endpoint)))
        if self.plan.discovery is not None:
            discoveries.append(self.plan.discovery)
        discoveries += [(f"--dns {target}", DnsDiscovery(target=target)) for target in flags.dns]
        if not discoveries:
            advice = "give --endpoint HOST:PORT, --dns NAME:PORT or a configuration with dataLayer.discovery"
            if flags.pool_name or flags.endpoint_selector:
                advice = f"finding pods through the Kubernetes API is not supported yet; {advice}"
            raise ConfigError([Problem("endpoints", advice)])
        return discoveries

    def _plan_data_sources(self) -> list[PlannedDataSource]:
        """Data sources of the plan; with `--completion=scrape` also one of running requests, if none reports them.

        The default source may be missing: `injectDefaults: false`, or a configured extractor writes one of its columns.
        """
        planned = list(self.plan.data_sources)
        columns = {column for source in planned for _, extractor in source.extractors for column in extractor.columns}
        if self.arguments.completion == "scrape" and RUNNING_REQUESTS not in columns:
            source, extractor = MetricsDataSource(), CoreMetricsExtractor()
            log.warning(
                "no configured extractor reports running requests, which --completion=scrape needs; %s is added",
                source.type,
            )
            planned.append(PlannedDataSource(source.type, source, [(extractor.type, extractor)]))
        return planned

    def _create_completion(self) -> tuple[Completion, AccessLogSink | None]:
        """How ends of requests are learnt, and what takes entries of the access log, if they are used."""
        flags = self.arguments
        if flags.completion == "access-log":
            by_log = AccessLogCompletion(self.clock, self.rng, flags.observe_responses)
            return by_log, by_log.on_log_entry
        if flags.completion == "scrape":
            by_scrape = ScrapeCompletion(self.clock, self.rng, self.ledger, flags.observe_responses)
            self.endpoint_store.on_scraped(by_scrape.on_scrape)
            return by_scrape, None
        return ObservedCompletion(), None

    def _create_director(self) -> Director:
        flags = self.arguments
        options = DirectorOptions(
            use_subset_hint=not flags.disable_endpoint_subset_filter,
            emit_scores=flags.emit_endpoint_scores,
            producer_timeout=flags.decision_timeout,
            use_scraped_load=flags.completion == "scrape",
        )
        return Director(
            self.plan,
            self.endpoint_store,
            self.ledger,
            self.completion,
            self.metrics,
            self.clock,
            self.rng,
            options,
            self._record_decision,
        )

    def _record_decision(self, record: DecisionRecord) -> None:
        self.metrics.record_processing_duration(record.seconds)
        self.decision_log.record(record)

    def _build_rpc_methods(self, access_log_sink: AccessLogSink | None) -> RpcMethods:
        flags = self.arguments
        limits = session.RequestLimits(
            max_body_bytes=flags.max_request_body, max_header_bytes=flags.max_request_headers
        )
        methods = {
            **handler.ext_proc_methods(self.director, self.tasks, limits, flags.decision_timeout),
            **health.health_methods(self.is_ready, self.tasks, self.long_lived_rpcs),
        }
        if access_log_sink is not None:
            methods |= access_log.access_log_methods(access_log_sink, self.long_lived_rpcs)
        return methods

    def _create_server(self, methods: RpcMethods) -> RpcServer:
        flags = self.arguments
        # In body mode BUFFERED, Envoy sends the whole body in one message. A body above --max-request-body must reach
        # the session, which answers 413; gRPC's own limit would end the stream, which the client sees as 500.
        limits = TransportLimits(
            max_message_size=flags.grpc_max_recv_msg_size
            or max(MIN_MESSAGE_LIMIT, flags.max_request_body + MESSAGE_OVERHEAD_BYTES)
        )
        on_end = self._record_stream_end if flags.enable_grpc_stream_metrics else None
        if flags.transport == "native":
            return GrpcServer(methods, self.clock, limits, on_end)
        from epp.grpc.grpcio_server import GrpcioServer  # grpcio is an optional dependency

        return GrpcioServer(methods, self.clock, limits, on_end)

    def _record_stream_end(self, method: str, status: int, started_at: float) -> None:
        if method == handler.PROCESS_METHOD:
            self.metrics.record_stream_end(self.clock.now() - started_at, str(status))

    def _create_admin_server(self, source: str) -> AdminServer:
        pool_name = self.arguments.pool_name or "default"
        pool = pool_metrics.PoolCollector(pool_name, self.endpoint_store, self.ledger, self.clock)
        plugins = self.plan.plugins_by_name()
        report_error = PluginErrorReporter(self.clock, self.metrics)
        self.metrics.registry.register(pool)
        self.metrics.registry.register(PrefixCacheCollector(plugins, report_error))
        self.metrics.register_open_streams(self.count_open_streams)
        return AdminServer(
            self.metrics,
            pool,
            self.decision_log,
            self.clock,
            is_ready=self.is_ready,
            count_open_streams=self.count_open_streams,
            version=__version__,
            configuration=source,
            plugins=plugins,
        )


async def _start_listener(flag: str, port: int, starting: Awaitable[None]) -> None:
    """Awaits the start of a listener; a port that cannot be used is a problem of its flag."""
    try:
        await starting
    except OSError as error:
        raise ConfigError([Problem(flag, f"cannot listen on port {port}: {error.strerror or error}")]) from error
