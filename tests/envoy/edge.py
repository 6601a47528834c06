"""One Envoy, one model server, and a picker in this process that always picks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from epp.clock import SystemClock
from epp.extproc import handler
from epp.extproc.session import RequestLimits
from epp.gateway import programs
from epp.gateway.envoy_bootstrap import EnvoySettings, build_bootstrap
from epp.gateway.gateway import GatewaySettings
from epp.gateway.net import bind_socket
from epp.gateway.supervisor import Supervisor
from epp.grpc.server import GrpcServer
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from epp.tasks import Tasks

ALL = {
    "request_header_mode": "SEND",
    "request_body_mode": "FULL_DUPLEX_STREAMED",
    "request_trailer_mode": "SEND",
    "response_header_mode": "SEND",
    "response_body_mode": "FULL_DUPLEX_STREAMED",
    "response_trailer_mode": "SEND",
}


@dataclass
class Picker:
    """Decides for one endpoint, and keeps what it is told."""

    target: str
    observe: bool = True
    delay: float = 0.0
    asked: list[tuple[RequestHeaders, bytes]] = field(default_factory=list)
    data: bytes = b""
    statuses: list[int] = field(default_factory=list)
    ends: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def route_request(self, head: RequestHeaders, body: bytes) -> Any:
        self.asked.append((head, body))
        route = RoutingDecision(self.target, self, self.observe)
        return self._later(route) if self.delay else route

    async def _later(self, route: RoutingDecision) -> RoutingDecision:
        await asyncio.sleep(self.delay)
        return route

    def on_served_by(self, target: str) -> None:
        assert target == self.target

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        self.statuses.append(status)

    def on_response_body(self, data: bytes) -> None:
        self.data += data

    def finalize(self, cause: str) -> None:
        self.ends.put_nowait(cause)

    async def end(self) -> str:
        async with asyncio.timeout(20):
            return await self.ends.get()


@dataclass
class Edge:
    """Envoy between a client and a model server, and what watches them."""

    url: str
    picker: Picker
    server: GrpcServer

    async def streaming(self) -> None:
        """A stream is open."""
        await self._until(lambda: self.server.rpc_stats.open_rpcs > 0, "no stream is opened")

    async def asked(self) -> None:
        """The picker has been asked."""
        await self._until(lambda: bool(self.picker.asked), "the picker is not asked")

    async def quiet(self) -> None:
        """No stream is open."""
        await self._until(lambda: not self.server.rpc_stats.open_rpcs, "streams stay open")

    async def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        for _ in range(400):
            if holds():
                return
            await asyncio.sleep(0.05)
        pytest.fail(otherwise)


async def answer(request: web.Request) -> web.StreamResponse:
    """A websocket echo, a refusal that reads nothing, a slow stream, or what came."""
    if request.path == "/socket":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"echo {message.data}")
        return socket
    if request.path == "/refuses":
        return web.Response(status=418, text="no", headers={"connection": "close"})
    body = await request.read()
    if request.path == "/hangs":
        await asyncio.sleep(30)
    if request.path == "/long":
        return web.Response(body=bytes(300_000))
    return web.json_response({"bytes": len(body), "to": request.headers.get("x-gateway-destination-endpoint")})


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def edge(
    folder: Path, *, observe: bool = True, delay: float = 0.0, change: Callable[[dict[str, Any]], None] | None = None,
    limits: RequestLimits | None = None, **modes: str,
) -> AsyncIterator[Edge]:  # fmt: skip
    """Envoy with these processing modes; `change` gets the configuration of the connection manager."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", answer)
    tasks = Tasks("edge")
    async with serving(app) as target:
        picker = Picker(target, observe, delay)
        server = GrpcServer(handler.ext_proc_methods(picker, tasks, limits or RequestLimits(), 10.0), SystemClock())
        await server.start("127.0.0.1", 0)
        kept = [bind_socket("127.0.0.1", 0, "") for _ in range(2)]
        port, admin = (sock.getsockname()[1] for sock in kept)
        settings = EnvoySettings(
            port=port,
            admin_port=admin,
            picker_address=f"127.0.0.1:{server.port}",
            endpoints=(target,),
            completion="extproc",
        )
        config = build_bootstrap(settings)
        # no health checks: what is served here is one method
        config["static_resources"]["clusters"][1].pop("health_checks")
        (chain,) = config["static_resources"]["listeners"][0]["filter_chains"]
        manager = chain["filters"][0]["typed_config"]
        manager["http_protocol_options"] = {"enable_trailers": True}
        manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
        for item in manager["http_filters"]:
            if item["name"] == "picker":
                item["typed_config"]["processing_mode"] = {**ALL, **modes}
        if change is not None:
            change(manager)
        path = folder / "envoy.json"
        path.write_text(json.dumps(config))
        supervisor = Supervisor(folder, SystemClock(), print)
        try:
            await supervisor.start(programs.build_envoy_program(GatewaySettings(), path, admin))
            yield Edge(f"http://127.0.0.1:{port}", picker, server)
        finally:
            await supervisor.close()
            await server.close()
            await tasks.close()
            for sock in kept:
                sock.close()


async def post(edge: Edge, path: str = "/v1/completions", body: Any = b"{}", **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client,
        client.post(f"{edge.url}{path}", data=body, headers=named) as got,
    ):
        text = await got.text()
        return got.status, json.loads(text) if text.startswith("{") else text
