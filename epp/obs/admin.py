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
from typing import Any, Protocol, runtime_checkable

import msgspec
from aiohttp import web

from epp.api import Plugin
from epp.clock import Clock
from epp.obs.decision_log import Decisions
from epp.obs.logs import timestamp
from epp.obs.metrics import Metrics
from epp.obs.pool_metrics import PoolView, totals

MAX_DECISIONS = 256

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@runtime_checkable
class StateDumper(Protocol):
    """A plugin that shows its state at `/debug/plugins/state`: bounded, without payloads, without blocking."""

    def dump_state(self) -> Any:
        """Something JSON has a form for."""


class Facts(msgspec.Struct, frozen=True):
    """What does not change while the picker runs; `plugins`: configured name -> plugin."""

    version: str = ""
    configuration: str = ""
    plugins: Mapping[str, Plugin] = {}


class Admin:
    """Serves the pages. `alive` and `ready` are asked at every probe."""

    def __init__(
        self,
        metrics: Metrics,
        pool: PoolView,
        decisions: Decisions,
        clock: Clock,
        *,
        alive: Callable[[], bool] = lambda: True,
        ready: Callable[[], bool] = lambda: True,
        open_streams: Callable[[], int] = lambda: 0,
        facts: Facts | None = None,
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._decisions = decisions
        self._clock = clock
        self._alive = alive
        self._ready = ready
        self._open_streams = open_streams
        self._facts = facts or Facts()
        self._started = clock.now()
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port listened on; 0 before `start`."""
        addresses = self._runner.addresses if self._runner is not None else []
        return int(addresses[0][1]) if addresses else 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listens; raises OSError if the address is taken."""
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=tls).start()

    async def close(self) -> None:
        """Stops listening and closes the connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def application(self) -> web.Application:
        """The aiohttp application, for those who bring their own server."""
        pages: Mapping[str, Reply] = {
            "/": self._page,
            "/metrics": self._show_metrics,
            "/healthz": self._probe(self._alive),
            "/readyz": self._probe(self._ready),
            "/debug/state": self._show_state,
            "/debug/plugins/state": self._show_plugins,
            "/debug/decisions": self._show_decisions,
        }
        app = web.Application()
        app.add_routes([web.get(path, reply) for path, reply in pages.items()])
        return app

    def state(self) -> dict[str, Any]:
        """The pool, its sums, and the picker's own consumption."""
        rows = self._pool.rows()
        times = os.times()
        return {
            "time": self._clock.wall(),
            "pool": self._pool.name,
            "version": self._facts.version,
            "configuration": self._facts.configuration,
            "ready": self._ready(),
            "totals": totals(rows),
            "picker": {
                "cpu_seconds": round(times.user + times.system, 2),
                "rss_bytes": resident_bytes(),
                "open_streams": self._open_streams(),
                "decisions": self._decisions.count,
                "uptime_seconds": round(self._clock.now() - self._started, 3),
            },
            "endpoints": rows,
        }

    def plugin_states(self) -> dict[str, Any]:
        """llm-d's form: a state where the plugin dumps one, else a message why not."""
        shown: dict[str, dict[str, Any]] = {}
        for name, plugin in self._facts.plugins.items():
            shown[name] = {"type": type(plugin).type, **_dumped(plugin)}
        return {"timestamp": timestamp(self._clock.wall(), "rfc3339"), "plugins": shown}

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=files("epp.obs").joinpath("page.html").read_text("utf-8"), content_type="text/html")

    async def _show_metrics(self, request: web.Request) -> web.Response:
        body, content_type = await self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _show_state(self, request: web.Request) -> web.Response:
        return _json(self.state())

    async def _show_plugins(self, request: web.Request) -> web.Response:
        return _json(self.plugin_states())

    async def _show_decisions(self, request: web.Request) -> web.Response:
        asked = request.query.get("limit", "20")
        if not asked.isdecimal():
            raise web.HTTPBadRequest(text=f"limit={asked!r} is not a number\n")
        limit = min(int(asked), MAX_DECISIONS)
        return _json({"decisions": self._decisions.rendered(limit, request.query.get("request_id", ""))})

    def _probe(self, good: Callable[[], bool]) -> Reply:
        async def reply(request: web.Request) -> web.Response:
            well = good()
            return web.Response(text="ok\n" if well else "not ok\n", status=200 if well else 503)

        return reply


def resident_bytes() -> int:
    """Resident memory of this process; its peak where the system shows no more."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _dumped(plugin: Plugin) -> dict[str, Any]:
    if not isinstance(plugin, StateDumper):
        return {"message": "plugin does not support state dumping"}
    try:
        return {"state": plugin.dump_state()}
    except Exception as error:
        return {"message": f"state could not be dumped: {error}"}


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value, enc_hook=str), content_type="application/json")
