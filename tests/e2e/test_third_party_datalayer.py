"""`epp serve` with discovery, push data source, extractor and scorer of another package, without built-in ones."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.picker_process import ExtProcStream, PickerProcess, destination_of, health_status
from tests.unit.config.test_third_party import ROOT, install_example_package

CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {{type: board-discovery, parameters: {{port: {port}}}}}
- {{type: state-push-source}}
- {{type: state-extractor}}
- {{type: coolest-scorer}}
- {{type: max-score-picker}}
schedulingProfiles:
- name: default
  plugins: [{{pluginRef: coolest-scorer}}, {{pluginRef: max-score-picker}}]
dataLayer:
  injectDefaults: false
  discovery: {{pluginRef: board-discovery}}
  sources:
  - {{pluginRef: state-push-source, extractors: [{{pluginRef: state-extractor}}]}}
"""


class LineServer:
    """Writes JSON lines to its connections: `lines` to a new one, others by `push`."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.accepted = 0
        self.port = 0

    async def serve(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.connections.append(writer)
        for line in self.lines:
            writer.write(json.dumps(line).encode() + b"\n")
        try:
            await reader.read()
        finally:
            self.connections.remove(writer)
            writer.close()

    def push(self, line: Any) -> None:
        """Writes a line to every connection, and as the only one to later connections."""
        self.lines = [line]
        for writer in self.connections:
            writer.write(json.dumps(line).encode() + b"\n")

    def drop_connections(self) -> None:
        for writer in self.connections:
            writer.close()

    async def close(self) -> None:
        self.drop_connections()
        self._server.close()
        await self._server.wait_closed()


@asynccontextmanager
async def line_servers(count: int) -> AsyncIterator[list[LineServer]]:
    servers = [LineServer() for _ in range(count)]
    for server in servers:
        await server.serve()
    try:
        yield servers
    finally:
        for server in servers:
            await server.close()


async def until(condition: Callable[[], Any]) -> None:
    """Polls a synchronous or asynchronous condition."""
    async with asyncio.timeout(15):
        while True:
            holds = condition()
            if await holds if asyncio.iscoroutine(holds) else holds:
                return
            await asyncio.sleep(0.02)


def entry(name: str, model_server: LineServer) -> dict[str, Any]:
    """An endpoint as the board lists it; only its push port is real."""
    return {"name": name, "address": "127.0.0.1", "port": ord(name), "labels": {"push-port": str(model_server.port)}}


async def test_discovery_and_push_source_of_another_package(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install_example_package(site)
    config = tmp_path / "config.yaml"
    environment = {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    async with line_servers(4) as (board, a, b, c):
        config.write_text(CONFIG.format(port=board.port))
        a.push({"waiting": 3, "running": 1, "temperature": 70})
        b.push({"waiting": 5, "running": 2, "temperature": 50})
        c.push({"waiting": 0, "running": 0, "temperature": 20})
        board.lines = [{"list": [entry("a", a), entry("b", b)]}]
        flags = ("--secure-serving=false", f"--config-file={config}")
        async with PickerProcess(tmp_path, *flags, environment=environment) as picker, picker.open_channel() as channel:

            async def state() -> dict[str, Any]:
                return {row["name"]: row for row in (await picker.fetch_page("/debug/state"))["endpoints"]}

            async def destination() -> str:
                return destination_of(await ExtProcStream(channel).send_request(CHAT))

            async def waiting_is(name: str, waiting: float) -> bool:
                return (await state()).get(name, {}).get("waiting") == waiting

            # Pushed state reaches columns, and decides.
            await until(lambda: waiting_is("b", 5))
            await until(lambda: waiting_is("a", 3))
            assert await destination() == f"127.0.0.1:{ord('b')}"
            a.push({"waiting": 4, "running": 1, "temperature": 30})
            await until(lambda: waiting_is("a", 4))
            assert await destination() == f"127.0.0.1:{ord('a')}"
            assert a.accepted == 1, "pushed, not polled"

            # Watch events: an endpoint joins, another leaves and its connection is closed.
            board.push({"upsert": entry("c", c)})
            await until(lambda: waiting_is("c", 0))
            assert await destination() == f"127.0.0.1:{ord('c')}"
            board.push({"delete": "c"})
            await until(lambda: not c.connections)
            assert sorted(await state()) == ["a", "b"]

            # A lost connection to a model server is opened again; the other is not disturbed.
            a.lines = [{"waiting": 9, "running": 0, "temperature": 99}]
            a.drop_connections()
            await until(lambda: waiting_is("a", 9))
            assert (a.accepted, b.accepted) == (2, 1)
            assert await destination() == f"127.0.0.1:{ord('b')}"

            # So is a lost connection to the board: the endpoints stay until its new list replaces them.
            board.lines = [{"list": [entry("b", b)]}]
            board.drop_connections()
            assert "b" in await state()
            await until(lambda: not a.connections)
            assert list(await state()) == ["b"]
            assert b.accepted == 1

            page = await picker.fetch_page("/metrics")
            failures = [line for line in page.splitlines() if "state-push-source" in line and not line.startswith("#")]
            assert failures, "failed reads are counted under the type of the source"


async def test_the_picker_is_ready_when_the_first_list_has_arrived(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install_example_package(site)
    config = tmp_path / "config.yaml"
    environment = {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    async with line_servers(1) as (board,):
        config.write_text(CONFIG.format(port=board.port))
        flags = ("--secure-serving=false", f"--config-file={config}")
        picker = PickerProcess(tmp_path, *flags, environment=environment)
        starting = asyncio.ensure_future(picker.__aenter__())
        try:

            async def listens() -> bool:
                try:
                    return await health_status(picker.health_port, "liveness") == 1
                except Exception:
                    return False

            await until(listens)
            assert board.accepted == 1
            assert await health_status(picker.health_port, "readiness") != 1
            assert not await picker.is_ok("/readyz")
            board.push({"list": []})
            await starting
            assert await health_status(picker.health_port, "readiness") == 1
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await picker.__aexit__(None, None, None)


async def test_without_a_data_source_nothing_is_scraped(tmp_path: Path) -> None:
    config = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, dataLayer: {injectDefaults: false}}"
    async with line_servers(1) as (model_server,):
        flags = ("--secure-serving=false", f"--config-text={config}", f"--endpoint=127.0.0.1:{model_server.port}")
        async with PickerProcess(tmp_path, *flags) as picker, picker.open_channel() as channel:
            assert destination_of(await ExtProcStream(channel).send_request(CHAT)) == f"127.0.0.1:{model_server.port}"
            await asyncio.sleep(0.3)  # six intervals
            assert model_server.accepted == 0
