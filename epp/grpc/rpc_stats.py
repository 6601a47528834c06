"""The RPCs of a server, the same for both transports."""

from __future__ import annotations

from collections.abc import Callable
from ssl import SSLContext
from typing import Protocol

StreamEnded = Callable[[str, int, float], None]
"""Hears of each RPC's end: method, grpc-status, clock reading of its beginning."""


class Streams:
    """The RPCs of one server: how many are open; each end is told."""

    def __init__(self, on_end: StreamEnded | None = None) -> None:
        self.open = 0
        self._on_end = on_end

    def opened(self) -> None:
        """An RPC of a known method began."""
        self.open += 1

    def ended(self, name: str, status: int, started: float) -> None:
        """It ended with grpc-status `status`."""
        self.open -= 1
        if self._on_end is not None:
            self._on_end(name, status, started)


class Server(Protocol):
    """What both transports offer to whoever composes a picker. Only the native one inherits sockets (`fd`)."""

    streams: Streams

    @property
    def port(self) -> int:
        """The port listened on."""

    async def start(self, host: str, port: int, ssl: SSLContext | None = None) -> None:
        """Listens; port 0 lets the system choose. Raises OSError."""

    async def drain(self, grace: float) -> None:
        """Stops accepting, waits up to `grace` seconds for open RPCs, then closes."""

    async def close(self) -> None:
        """Ends everything now."""
