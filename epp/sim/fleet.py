"""Several simulated servers in one process, each on its own port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from types import TracebackType

from aiohttp import web

from epp.address import join_host_port
from epp.clock import Clock
from epp.sim.engine import SimEngineConfig
from epp.sim.model_server import ModelServer

SHUTDOWN_SECONDS = 0.2
"""How long open responses may take after `close`; aiohttp waits up to three times as long."""


class SimFleet:
    """Servers of one configuration; `async with` starts and closes them."""

    def __init__(
        self,
        config: SimEngineConfig,
        clock: Clock,
        *,
        ports: Sequence[int],
        host: str = "127.0.0.1",
        model: str = "sim",
        adapters: tuple[str, ...] = (),
        seed: int = 0,
    ) -> None:
        self._host = host
        self._ports = tuple(ports)
        self.servers = [
            ModelServer(config, model, clock, Random(f"{seed}/{index}"), adapters) for index in range(len(ports))
        ]
        self._runners: list[web.AppRunner] = []
        self.targets: list[str] = []

    async def start(self) -> None:
        """Listens on all ports; for port 0 the system chooses one. `targets` are then the servers' `host:port`."""
        for server, port in zip(self.servers, self._ports, strict=True):
            # A handler is cancelled when its client leaves, which aborts the request.
            runner = web.AppRunner(
                server.app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS
            )
            await runner.setup()
            self._runners.append(runner)
            await web.TCPSite(runner, self._host, port).start()
            host, bound = runner.addresses[0][:2]
            self.targets.append(join_host_port(host, bound))

    async def close(self) -> None:
        """Stops listening, waits `SHUTDOWN_SECONDS` for open responses, stops the engines."""
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        for server in self.servers:
            server.close()

    async def __aenter__(self) -> SimFleet:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
