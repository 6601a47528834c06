"""The RPCs of a server, the same for both transports."""

from __future__ import annotations

from collections.abc import Callable
from ssl import SSLContext
from typing import Protocol

OnRpcEnd = Callable[[str, int, float], None]
"""Hears of each RPC's end: method, grpc-status, clock reading of its beginning."""


class RpcStats:
    """The RPCs of one server: how many are open; each end is told."""

    def __init__(self, on_end: OnRpcEnd | None = None) -> None:
        self.open_rpcs = 0
        self._on_rpc_end = on_end

    def record_start(self) -> None:
        """An RPC of a known method began."""
        self.open_rpcs += 1

    def record_end(self, name: str, status: int, started: float) -> None:
        """It ended with grpc-status `status`."""
        self.open_rpcs -= 1
        if self._on_rpc_end is not None:
            self._on_rpc_end(name, status, started)


class RpcServer(Protocol):
    """What both transports offer to whoever composes a picker. Only the native one inherits sockets (`fd`)."""

    rpc_stats: RpcStats

    @property
    def port(self) -> int:
        """The port listened on."""

    async def start(self, host: str, port: int, ssl: SSLContext | None = None) -> None:
        """Listens; port 0 lets the system choose. Raises OSError."""

    async def drain(self, grace: float) -> None:
        """Stops accepting, waits up to `grace` seconds for open RPCs, then closes."""

    async def close(self) -> None:
        """Ends everything now."""
