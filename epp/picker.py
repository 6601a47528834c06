"""The composition root: builds every object of one picker by hand, starts and drains them."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Awaitable
from random import Random

from epp import __version__
from epp.api import RUNNING_REQUESTS, WAITING_REQUESTS, Discovery
from epp.clock import Clock, SystemClock
from epp.config.plan import PickerPlan
from epp.datalayer.discovery.dns import DnsDiscovery
from epp.datalayer.discovery.static import StaticDiscovery
from epp.datalayer.runtime import DataLayer
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
from epp.scheduling.plugin_metrics import PluginErrorReporter
from epp.services import access_log, health
from epp.tasks import Tasks

log = logging.getLogger("epp.picker")

TICK_SECONDS = 0.02
TICKS_PER_EXPIRY = 250
ORPHAN_GRACE_SECONDS = 5.0
MIN_MESSAGE_LIMIT = 4 << 20
MESSAGE_OVERHEAD_BYTES = 64 << 10  # of a message around the body it carries
DRAIN_QUIET_SECONDS = 2.5  # without a stream for this long, gateways have noticed that we are not ready


class EndpointPicker:
    """One picker: everything built, nothing started."""

    def __init__(self, arguments: argparse.Namespace, plan: PickerPlan, source: str) -> None:
        self.arguments = arguments
        self.plan = plan
        self.clock: Clock = SystemClock()
        self.rng = Random(arguments.seed)
        self.tasks = Tasks("epp")
        self.draining = False
        self.endpoint_store = EndpointStore(self.clock, arguments.metrics_staleness_threshold)
        self.ledger = Ledger(self.clock, arguments.reservation_ttl)
        self.metrics = Metrics(stream_metrics=arguments.enable_grpc_stream_metrics)
        self.decision_log = DecisionLog()
        self.completion, sink = self._create_completion()
        self.director = Director(
            plan, self.endpoint_store, self.ledger, self.completion, self.metrics, self.clock, self.rng,
            self._build_director_options(), self._record_decision,
        )  # fmt: skip
        self.data_layer = self._create_data_layer()
        self.long_lived_rpcs = LongLivedRpcs()
        self.server = self._create_server(self._build_rpc_methods(sink))
        self.health_server = GrpcServer(health.health_methods(self.is_ready, self.tasks), self.clock)
        self.admin_server = self._create_admin(source)
        pool_metrics.track_endpoints(self.metrics, self.endpoint_store, self.clock)
        self.endpoint_store.on_removed(self.ledger.clear_slot)

    def is_ready(self) -> bool:
        """Whether gateways should send requests here; also to an empty pool: we answer 503 and say why."""
        return self.data_layer.synced and not self.draining

    def count_open_streams(self) -> int:
        """Requests that are being served. Access logs and health watches stay open as long as a gateway lives."""
        return self.server.rpc_stats.open_rpcs - len(self.long_lived_rpcs)

    async def start(self) -> None:
        """Finds endpoints, begins to scrape, listens."""
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
        self.tasks.supervise("tick", self._run_periodic_work)
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
        """Not ready at once; serves on until gateways have gone elsewhere, then ends what is left."""
        self.draining = True
        deadline = self.clock.now() + self.arguments.drain_timeout
        quiet = self.clock.now()
        log.info("draining", extra={"open-streams": self.count_open_streams()})
        while (now := self.clock.now()) < deadline and now - quiet < DRAIN_QUIET_SECONDS:
            if self.count_open_streams():
                quiet = now
            await asyncio.sleep(0.05)
        self.long_lived_rpcs.finish_all()
        await self.server.drain(max(0.0, deadline - self.clock.now()))

    async def close(self) -> None:
        """Ends everything."""
        await self.admin_server.close()
        await self.health_server.close()
        await self.server.close()
        await self.data_layer.close()
        await self.tasks.close()

    def _record_decision(self, decided: DecisionRecord) -> None:
        self.metrics.record_processing_duration(decided.seconds)
        self.decision_log.record(decided)

    async def _run_periodic_work(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.completion.tick()
            ticks += 1
            if not ticks % TICKS_PER_EXPIRY:
                self._expire_reservations()

    def _expire_reservations(self) -> None:
        for ticket in self.ledger.expire():
            if ticket.owner is not None:
                ticket.owner.finalize("expired")
        self._release_orphaned_reservations()

    def _release_orphaned_reservations(self) -> None:
        """A server that reports no request has none of ours: their ends were lost, with a log entry or a gateway."""
        snapshot = self.endpoint_store.snapshot()
        idle = (
            (snapshot.columns[RUNNING_REQUESTS] == 0) & (snapshot.columns[WAITING_REQUESTS] == 0)
            if snapshot.columns
            else []
        )
        for slot in [slot for slot in snapshot.live_slots.tolist() if idle[slot]]:
            for ticket in self.ledger.reserved_before(
                slot, self.endpoint_store.last_scraped_at(slot) - ORPHAN_GRACE_SECONDS
            ):
                if ticket.owner is not None and ticket.owner.tracked:
                    ticket.owner.finalize("expired")

    def _create_completion(self) -> tuple[Completion, AccessLogSink | None]:
        flags = self.arguments
        if flags.completion == "access-log":
            by_log = AccessLogCompletion(self.clock, self.rng, flags.observe_responses)
            return by_log, by_log.on_log_entry
        if flags.completion == "scrape":
            by_scrape = ScrapeCompletion(self.clock, self.rng, self.ledger, flags.observe_responses)
            self.endpoint_store.on_scraped(by_scrape.on_scrape)
            return by_scrape, None
        return ObservedCompletion(), None

    def _build_director_options(self) -> DirectorOptions:
        flags = self.arguments
        return DirectorOptions(
            use_subset_hint=not flags.disable_endpoint_subset_filter,
            emit_scores=flags.emit_endpoint_scores,
            producer_timeout=flags.decision_timeout,
            use_scraped_load=flags.completion == "scrape",
        )

    def _build_rpc_methods(self, sink: AccessLogSink | None) -> RpcMethods:
        flags = self.arguments
        limits = session.RequestLimits(
            max_body_bytes=flags.max_request_body, max_header_bytes=flags.max_request_headers
        )
        rpcs = handler.ext_proc_methods(self.director, self.tasks, limits, flags.decision_timeout)
        checks = health.health_methods(self.is_ready, self.tasks, self.long_lived_rpcs)
        logged = {} if sink is None else access_log.access_log_methods(sink, self.long_lived_rpcs)
        return {**rpcs, **checks, **logged}

    def _create_server(self, rpcs: RpcMethods) -> RpcServer:
        flags = self.arguments
        # Envoy sends a BUFFERED body as one message: the limit of bodies must be met first, it answers 413.
        limits = TransportLimits(
            max_message_size=flags.grpc_max_recv_msg_size
            or max(MIN_MESSAGE_LIMIT, flags.max_request_body + MESSAGE_OVERHEAD_BYTES)
        )
        on_end = self._record_stream_end if flags.enable_grpc_stream_metrics else None
        if flags.transport == "native":
            return GrpcServer(rpcs, self.clock, limits, on_end)
        from epp.grpc.grpcio_server import GrpcioServer  # an extra that need not be installed

        return GrpcioServer(rpcs, self.clock, limits, on_end)

    def _record_stream_end(self, name: str, status: int, started: float) -> None:
        if name == handler.PROCESS_METHOD:
            self.metrics.record_stream_end(self.clock.now() - started, str(status))

    def _create_data_layer(self) -> DataLayer:
        flags = self.arguments
        return DataLayer(
            self.endpoint_store,
            self.clock,
            self.rng,
            refresh_interval=flags.refresh_metrics_interval,
            discoveries=self._list_discoveries(),
            data_sources=self.plan.data_sources,
            on_failure=self.metrics.record_scrape_failure,
        )

    def _list_discoveries(self) -> list[tuple[str, Discovery]]:
        """Those of flags and configuration; of endpoints with one name, that of the first listed is in the pool."""
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

    def _create_admin(self, source: str) -> AdminServer:
        name = self.arguments.pool_name or "default"
        view = pool_metrics.PoolCollector(name, self.endpoint_store, self.ledger, self.clock)
        self.metrics.registry.register(view)
        plugins = self.plan.plugins_by_name()
        report_error = PluginErrorReporter(self.clock, self.metrics)
        self.metrics.registry.register(PrefixCacheCollector(plugins, report_error))
        self.metrics.register_open_streams(self.count_open_streams)
        return AdminServer(
            self.metrics,
            view,
            self.decision_log,
            self.clock,
            is_ready=self.is_ready,
            count_open_streams=self.count_open_streams,
            version=__version__,
            configuration=source,
            plugins=plugins,
        )


async def _start_listener(flag: str, port: int, starting: Awaitable[None]) -> None:
    try:
        await starting
    except OSError as error:
        raise ConfigError([Problem(flag, f"cannot listen on port {port}: {error.strerror or error}")]) from error
