"""The admin listener: metrics, health, and what the picker knows and did, as JSON and as a page.

It carries no request of a client, so aiohttp serves it. There is no authentication here: llm-d's
`--metrics-endpoint-auth` needs a cluster's TokenReview; without one the listener stays on loopback by default.
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


class BuildInfo(msgspec.Struct, frozen=True):
    """What does not change while the picker runs; `plugins`: configured name -> plugin."""

    version: str = ""
    configuration: str = ""
    plugins: Mapping[str, Plugin] = {}


class AdminServer:
    """Serves the pages. `alive` and `ready` are asked at every probe."""

    def __init__(
        self,
        metrics: Metrics,
        pool: PoolCollector,
        decisions: DecisionLog,
        clock: Clock,
        *,
        alive: Callable[[], bool] = lambda: True,
        ready: Callable[[], bool] = lambda: True,
        open_streams: Callable[[], int] = lambda: 0,
        facts: BuildInfo | None = None,
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._decisions = decisions
        self._clock = clock
        self._is_alive = alive
        self._is_ready = ready
        self._open_streams = open_streams
        self._build_info = facts or BuildInfo()
        self._started = clock.now()
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port listened on; 0 before `start`."""
        addresses = self._runner.addresses if self._runner is not None else []
        return int(addresses[0][1]) if addresses else 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listens; raises OSError if the address is taken."""
        self._runner = web.AppRunner(self.build_application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=tls).start()

    async def close(self) -> None:
        """Stops listening and closes the connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def build_application(self) -> web.Application:
        """The aiohttp application, for those who bring their own server."""
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
        app.add_routes([web.get(path, reply) for path, reply in pages.items()])
        return app

    def describe_state(self) -> dict[str, Any]:
        """The pool, its sums, and the picker's own consumption."""
        rows = self._pool.list_endpoint_rows()
        times = os.times()
        return {
            "time": self._clock.wall(),
            "pool": self._pool.name,
            "version": self._build_info.version,
            "configuration": self._build_info.configuration,
            "ready": self._is_ready(),
            "totals": sum_rows(rows),
            "picker": {
                "cpu_seconds": round(times.user + times.system, 2),
                "rss_bytes": read_resident_bytes(),
                "open_streams": self._open_streams(),
                "decisions": self._decisions.count,
                "uptime_seconds": round(self._clock.now() - self._started, 3),
            },
            "endpoints": rows,
        }

    def dump_plugin_states(self) -> dict[str, Any]:
        """llm-d's form: a state where the plugin dumps one, else a message why not."""
        shown: dict[str, dict[str, Any]] = {}
        for name, plugin in self._build_info.plugins.items():
            shown[name] = {"type": type(plugin).type, **_dump_state(plugin)}
        return {"timestamp": format_timestamp(self._clock.wall(), "rfc3339"), "plugins": shown}

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
        asked = request.query.get("limit", "20")
        if not asked.isdecimal():
            raise web.HTTPBadRequest(text=f"limit={asked!r} is not a number\n")
        limit = min(int(asked), MAX_DECISIONS)
        return _json_response({"decisions": self._decisions.render_newest(limit, request.query.get("request_id", ""))})

    def _create_probe(self, good: Callable[[], bool]) -> PageHandler:
        async def reply(request: web.Request) -> web.Response:
            well = good()
            return web.Response(text="ok\n" if well else "not ok\n", status=200 if well else 503)

        return reply


def read_resident_bytes() -> int:
    """Resident memory of this process; its peak where the system shows no more."""
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
