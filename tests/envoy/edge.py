"""One Envoy and one model server, with a picker in this process that always picks it."""

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

ALL_PHASES = {
    "request_header_mode": "SEND",
    "request_body_mode": "FULL_DUPLEX_STREAMED",
    "request_trailer_mode": "SEND",
    "response_header_mode": "SEND",
    "response_body_mode": "FULL_DUPLEX_STREAMED",
    "response_trailer_mode": "SEND",
}


@dataclass
class Picker:
    """A `Router` that always picks the same endpoint, and records requests and their events."""

    target: str
    observe: bool = True
    delay: float = 0.0
    requests: list[tuple[RequestHeaders, bytes]] = field(default_factory=list)
    data: bytes = b""
    statuses: list[int] = field(default_factory=list)
    ends: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def route_request(self, headers: RequestHeaders, body: bytes) -> Any:
        self.requests.append((headers, body))
        decision = RoutingDecision(self.target, self, self.observe)
        return self._delay_decision(decision) if self.delay else decision

    async def _delay_decision(self, decision: RoutingDecision) -> RoutingDecision:
        await asyncio.sleep(self.delay)
        return decision

    def on_served_by(self, target: str) -> None:
        assert target == self.target

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        self.statuses.append(status)

    def on_response_body(self, data: bytes) -> None:
        self.data += data

    def finalize(self, cause: str) -> None:
        self.ends.put_nowait(cause)

    async def next_end(self) -> str:
        async with asyncio.timeout(20):
            return await self.ends.get()


@dataclass
class Edge:
    """Envoy between a client and a model server, and the picker that it calls."""

    url: str
    picker: Picker
    server: GrpcServer

    async def wait_for_stream(self) -> None:
        """Waits until an ext_proc stream is open."""
        await self._wait_until(lambda: self.server.rpc_stats.open_rpcs > 0, "no stream was opened")

    async def wait_for_decision(self) -> None:
        """Waits until the picker has decided on a request."""
        await self._wait_until(lambda: bool(self.picker.requests), "no decision")

    async def wait_for_no_streams(self) -> None:
        """Waits until no ext_proc stream is open."""
        await self._wait_until(lambda: not self.server.rpc_stats.open_rpcs, "streams stay open")

    async def _wait_until(self, is_true: Callable[[], bool], failure: str) -> None:
        for _ in range(400):
            if is_true():
                return
            await asyncio.sleep(0.05)
        pytest.fail(failure)


async def handle_request(request: web.Request) -> web.StreamResponse:
    """Model server: a websocket echo, an error without reading, no response, a long one, or facts about the request."""
    if request.path == "/socket":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"echo {message.data}")
        return socket
    if request.path == "/teapot":
        return web.Response(status=418, text="no", headers={"connection": "close"})
    body = await request.read()
    if request.path == "/hangs":
        await asyncio.sleep(30)
    if request.path == "/long":
        return web.Response(body=bytes(300_000))
    return web.json_response({"bytes": len(body), "to": request.headers.get("x-gateway-destination-endpoint")})


@asynccontextmanager
async def serve_app(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def start_edge(
    folder: Path, *, observe: bool = True, delay: float = 0.0, change: Callable[[dict[str, Any]], None] | None = None,
    limits: RequestLimits | None = None, **modes: str,
) -> AsyncIterator[Edge]:  # fmt: skip
    """Envoy with these processing modes; `change` gets the configuration of the connection manager."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle_request)
    tasks = Tasks("edge")
    async with serve_app(app) as target:
        picker = Picker(target, observe, delay)
        server = GrpcServer(handler.ext_proc_methods(picker, tasks, limits or RequestLimits(), 10.0), SystemClock())
        await server.start("127.0.0.1", 0)
        reserved = [bind_socket("127.0.0.1", 0, "") for _ in range(2)]
        port, admin = (sock.getsockname()[1] for sock in reserved)
        settings = EnvoySettings(
            port=port,
            admin_port=admin,
            picker_address=f"127.0.0.1:{server.port}",
            endpoints=(target,),
            completion="extproc",
        )
        config = build_bootstrap(settings)
        # No health checks: this server has only the ext_proc method.
        config["static_resources"]["clusters"][1].pop("health_checks")
        (chain,) = config["static_resources"]["listeners"][0]["filter_chains"]
        manager = chain["filters"][0]["typed_config"]
        manager["http_protocol_options"] = {"enable_trailers": True}
        manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
        for item in manager["http_filters"]:
            if item["name"] == "picker":
                item["typed_config"]["processing_mode"] = {**ALL_PHASES, **modes}
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
            for sock in reserved:
                sock.close()


async def post_request(edge: Edge, path: str = "/v1/completions", body: Any = b"{}", **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client,
        client.post(f"{edge.url}{path}", data=body, headers=named) as got,
    ):
        text = await got.text()
        return got.status, json.loads(text) if text.startswith("{") else text
