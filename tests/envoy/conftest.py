"""Real Envoy and the real picker, in front of model servers that report the requests they get."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from epp.address import join_host_port, split_host_port
from epp.clock import SystemClock
from epp.gateway import programs
from epp.gateway.envoy_bootstrap import EnvoySettings, build_bootstrap
from epp.gateway.gateway import Gateway, GatewaySettings
from epp.gateway.net import bind_socket
from epp.gateway.supervisor import Supervisor


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.envoy)


class Backend:
    """A model server: echoes the request as JSON, or streams SSE events, from the second on when `may_continue`."""

    def __init__(self) -> None:
        self.target = ""
        self.status = 200
        self.waiting = 0
        self.served = 0
        self.events = 3
        self.may_continue = asyncio.Event()
        self.may_continue.set()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/metrics", self._handle_metrics)
        app.router.add_route("*", "/{path:.*}", self._handle_request)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, 0).start()
        self.target = join_host_port(host, self._runner.addresses[0][1])

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle_metrics(self, _request: web.Request) -> web.Response:
        lines = [
            f'vllm:num_requests_waiting{{model_name="m"}} {self.waiting}.0',
            'vllm:num_requests_running{model_name="m"} 0.0',
            'vllm:kv_cache_usage_perc{model_name="m"} 0.0',
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def _handle_request(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.served += 1
        if self.status == 200 and b'"stream": true' in body[:200]:
            return await self._stream_events(request)
        seen = {
            "who": self.target,
            "method": request.method,
            "path": request.path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return web.json_response(seen, status=self.status)

    async def _stream_events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(self.events):
            if number:
                await self.may_continue.wait()
            await response.write(f"data: {json.dumps({'event': number, 'who': self.target})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


class Lab:
    """Starts backends and gateways; they are stopped in reverse order at the end of the test or module."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self.client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=aiohttp.ClientTimeout(total=60)
        )

    async def start_backends(self, count: int, host: str = "127.0.0.1") -> list[Backend]:
        started = []
        for _ in range(count):
            backend = Backend()
            await backend.start(host)
            self._stack.push_async_callback(backend.close)
            started.append(backend)
        return started

    async def start_gateway(self, *backends: Backend, **settings: Any) -> Gateway:
        """`epp up` in front of these backends, on free ports; settings are those of `GatewaySettings`."""
        known = tuple(backend.target for backend in backends)
        chosen = {"port": 0, "metrics_port": 0, "endpoints": known, **settings}
        return await self._stack.enter_async_context(Gateway(GatewaySettings(**chosen)))

    async def start_discovering_gateway(
        self, *backends: Backend, **settings: Any
    ) -> tuple[Gateway, Callable[..., None]]:
        """A gateway whose endpoints only the picker knows, from a file; and a function that rewrites the file."""
        path = self._folder / "endpoints.yaml"

        def write_endpoints(*present: Backend) -> None:
            rows = []
            for number, backend in enumerate(present):
                host, port = split_host_port(backend.target)
                rows.append({"name": f"pod-{number}", "address": host, "port": port})
            path.with_suffix(".new").write_text(json.dumps({"endpoints": rows}))
            path.with_suffix(".new").replace(path)

        write_endpoints(*backends)
        parameters = {"path": str(path), "watchFile": True}
        config = {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "plugins": [{"type": "file-discovery", "parameters": parameters}, {"type": "queue-scorer"}],
            "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": "queue-scorer"}]}],
            "dataLayer": {"discovery": {"pluginRef": "file-discovery"}},
        }
        return await self.start_gateway(config_text=json.dumps(config), **settings), write_endpoints

    async def start_envoy_without_picker(self, *backends: Backend, **settings: Any) -> str:
        """An Envoy with nothing on the picker's port; its URL and the admin address, separated by a space."""
        ports = []
        for _ in range(3):
            sock = self._stack.enter_context(bind_socket("127.0.0.1", 0, ""))
            ports.append(sock.getsockname()[1])
        known = tuple(backend.target for backend in backends)
        addresses = {"port": ports[0], "admin_port": ports[1], "picker_address": f"127.0.0.1:{ports[2]}"}
        path = self._folder / f"envoy-{ports[0]}.json"
        path.write_text(json.dumps(build_bootstrap(EnvoySettings(**{**addresses, "endpoints": known, **settings}))))
        supervisor = Supervisor(self._folder, SystemClock(), print)
        self._stack.push_async_callback(supervisor.close)
        await supervisor.start(programs.build_envoy_program(GatewaySettings(), path, ports[1]))
        return f"http://127.0.0.1:{ports[0]} 127.0.0.1:{ports[1]}"

    async def post_completion(self, gateway: Gateway | str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """POST /v1/completions; the status, and the backend's echo of the request, or the body if it is not JSON."""
        url = gateway if isinstance(gateway, str) else gateway.url
        data = body if isinstance(body, bytes) else json.dumps(body or {"model": "m", "prompt": "p"}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(f"{url}/v1/completions", data=io.BytesIO(data), headers=named) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith("{") else text

    def stream_completion(self, gateway: Gateway) -> Any:
        """POST /v1/completions with `stream`: an aiohttp response as context manager."""
        data = json.dumps({"stream": True, "model": "m", "prompt": "p"}).encode()
        return self.client.post(f"{gateway.url}/v1/completions", data=data)

    async def read_column(self, gateway: Gateway, name: str) -> dict[str, float]:
        """A column of the picker's /debug/state by endpoint address; unknown values are 0."""
        async with self.client.get(f"{gateway.metrics_url}/debug/state") as response:
            return {row["address"]: row[name] or 0.0 for row in (await response.json())["endpoints"]}

    async def count_inflight(self, gateway: Gateway) -> float:
        """Requests in flight, as counted by the picker."""
        return sum((await self.read_column(gateway, "inflight_requests")).values())

    async def wait_until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Polls until `holds`; fails the test after 20 s."""
        for _ in range(400):
            if await holds():
                return
            await asyncio.sleep(0.05)
        pytest.fail(f"not within 20 s: {what}")


async def _lab(folder: Path) -> AsyncIterator[Lab]:
    async with AsyncExitStack() as stack:
        lab = Lab(stack, folder)
        yield lab
        await lab.client.close()


@pytest_asyncio.fixture(loop_scope="function")
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async for one in _lab(tmp_path):
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async for one in _lab(tmp_path_factory.mktemp("lab")):
        yield one
