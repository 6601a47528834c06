"""The admin listener: metrics, health probes, and the picker's state and last decisions as JSON and as a page.

It is off the path of clients' requests, so aiohttp serves it. It has no authentication, because llm-d's
`--metrics-endpoint-auth` needs a cluster's TokenReview; it therefore listens on loopback by default.
"""

from __future__ import annotations

import os
import resource
import ssl
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

from epp.api import Plugin, StateDumper
from epp.clock import Clock
from epp.obs.decision_log import DecisionLog
from epp.obs.logs import format_timestamp
from epp.obs.metrics import Metrics
from epp.obs.pool_metrics import PoolCollector, sum_rows

MAX_DECISIONS = 256

PageHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """The HTTP server of the listener.

    `is_alive` and `is_ready` are called at every probe, `count_open_streams` at every reading of the state.
    `configuration` says where the configuration came from, `plugins` are those of the plan by configured name.
    """

    def __init__(
        self,
        metrics: Metrics,
        pool: PoolCollector,
        decision_log: DecisionLog,
        clock: Clock,
        *,
        is_alive: Callable[[], bool] = lambda: True,
        is_ready: Callable[[], bool] = lambda: True,
        count_open_streams: Callable[[], int] = lambda: 0,
        version: str = "",
        configuration: str = "",
        plugins: Mapping[str, Plugin] | None = None,
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._decision_log = decision_log
        self._clock = clock
        self._is_alive = is_alive
        self._is_ready = is_ready
        self._count_open_streams = count_open_streams
        self._version = version
        self._configuration = configuration
        self._plugins = plugins or {}
        self._started_at = clock.now()
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port of the listener; 0 before `start`."""
        addresses = self._runner.addresses if self._runner is not None else []
        return int(addresses[0][1]) if addresses else 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Starts to listen; raises OSError if the address is in use."""
        self._runner = web.AppRunner(self.build_application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=tls).start()

    async def close(self) -> None:
        """Stops listening and closes all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def build_application(self) -> web.Application:
        """The aiohttp application, for tests and other servers."""
        pages: Mapping[str, PageHandler] = {
            "/": self._serve_page,
            "/metrics": self._serve_metrics,
            "/healthz": self._create_probe(self._is_alive),
            "/readyz": self._create_probe(self._is_ready),
            "/debug/state": self._serve_state,
            "/debug/plugins/state": self._serve_plugin_states,
            "/debug/decisions": self._serve_decisions,
        }
        app = web.Application()
        app.add_routes([web.get(path, handler) for path, handler in pages.items()])
        return app

    def describe_state(self) -> dict[str, Any]:
        """The endpoints, their sums, and the picker's own resource use."""
        rows = self._pool.list_endpoint_rows()
        times = os.times()
        return {
            "time": self._clock.wall(),
            "pool": self._pool.name,
            "version": self._version,
            "configuration": self._configuration,
            "ready": self._is_ready(),
            "totals": sum_rows(rows),
            "picker": {
                "cpu_seconds": round(times.user + times.system, 2),
                "rss_bytes": read_resident_bytes(),
                "open_streams": self._count_open_streams(),
                "decisions": self._decision_log.count,
                "uptime_seconds": round(self._clock.now() - self._started_at, 3),
            },
            "endpoints": rows,
        }

    def dump_plugin_states(self) -> dict[str, Any]:
        """As llm-d's `/debug/plugins/state`: the state of each plugin, or a message why there is none."""
        states = {name: {"type": type(plugin).type, **_dump_state(plugin)} for name, plugin in self._plugins.items()}
        return {"timestamp": format_timestamp(self._clock.wall(), "rfc3339"), "plugins": states}

    async def _serve_page(self, request: web.Request) -> web.Response:
        return web.Response(text=files("epp.obs").joinpath("page.html").read_text("utf-8"), content_type="text/html")

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        body, content_type = await self._metrics.render_exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _serve_state(self, request: web.Request) -> web.Response:
        return _json_response(self.describe_state())

    async def _serve_plugin_states(self, request: web.Request) -> web.Response:
        return _json_response(self.dump_plugin_states())

    async def _serve_decisions(self, request: web.Request) -> web.Response:
        limit, request_id = request.query.get("limit", "20"), request.query.get("request_id", "")
        if not limit.isdecimal():
            raise web.HTTPBadRequest(text=f"invalid limit {limit!r}: expected a number\n")
        decisions = self._decision_log.render_newest(min(int(limit), MAX_DECISIONS), request_id)
        return _json_response({"decisions": decisions})

    def _create_probe(self, is_ok: Callable[[], bool]) -> PageHandler:
        async def serve_probe(request: web.Request) -> web.Response:
            ok = is_ok()
            return web.Response(text="ok\n" if ok else "not ok\n", status=200 if ok else 503)

        return serve_probe


def read_resident_bytes() -> int:
    """Resident memory of this process; its peak on systems without /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _dump_state(plugin: Plugin) -> dict[str, Any]:
    if not isinstance(plugin, StateDumper):
        return {"message": "plugin does not support state dumping"}
    try:
        return {"state": plugin.dump_state()}
    except Exception as error:
        return {"message": f"state could not be dumped: {error}"}


def _json_response(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value, enc_hook=str), content_type="application/json")
