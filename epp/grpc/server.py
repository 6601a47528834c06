"""The native transport: HTTP/2 connections of `http2` on asyncio (uvloop) sockets, with and without TLS."""

from __future__ import annotations

import asyncio
import logging
import socket
from ssl import SSLContext
from typing import Any, cast

from epp.clock import Clock
from epp.grpc.http2.connection import Connection
from epp.grpc.http2.frames import Code
from epp.grpc.limits import Limits
from epp.grpc.rpc import Methods
from epp.grpc.rpc_stats import StreamEnded, Streams

log = logging.getLogger("epp.grpc.server")

BACKLOG = 1024  # connections that wait to be accepted
LINGER_SECONDS = 2.0  # for a peer to read our last words
KEEPALIVE_SECONDS = 60  # idle time before the kernel asks whether the peer still lives


class Pump(asyncio.Protocol):
    """One socket: what is read goes to the connection, what has gathered is written once per read."""

    def __init__(self, server: NativeServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.connection = Connection(server.methods, server.clock, server.limits, server.streams, self._wake)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._hung_up = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._server.closed:  # its TLS handshake took longer than we lived
            transport.abort()
            return
        # Above this DATA stops; a lower mark would stop and resume it with every burst.
        transport.set_write_buffer_limits(high=2 * self._server.limits.burst)
        self._server.pumps.add(self)
        _keep_alive(transport.get_extra_info("socket"))
        self._timer = self._loop.call_later(self._server.limits.handshake_seconds, self._no_handshake)
        self.flush()

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        if connection.closing:
            return
        connection.receive(data)
        self.flush()
        if self._timer is not None and connection.ready and not connection.closing:
            self._timer.cancel()
            self._timer = None

    def flush(self) -> None:
        """Writes what has gathered; the rest of a large answer in later turns of the loop."""
        transport, connection = self._transport, self.connection
        if transport is None or self._hung_up:
            return
        data = connection.take()
        if data:
            transport.write(data)
        if connection.closing:
            self._hang_up(transport)
        elif connection.more:
            self._wake()

    def pause_writing(self) -> None:
        self.connection.pause()

    def resume_writing(self) -> None:
        self.connection.resume()
        self._wake()

    def eof_received(self) -> None:
        """The client is gone; a half-open connection is of no use."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self.connection.lost()
        self._server.gone(self)

    def abort(self) -> None:
        """Ends the connection without waiting for the peer to read."""
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        self._loop.call_soon(self.flush)

    def _no_handshake(self) -> None:
        self._timer = None
        self.connection.close(Code.SETTINGS_TIMEOUT, "no SETTINGS from the client")
        self.flush()

    def _hang_up(self, transport: asyncio.Transport) -> None:
        """Closes in a way that lets the peer read our GOAWAY: input is drained, not reset, until it hangs up too."""
        self._hung_up = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self.abort)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()


class NativeServer:
    """Serves `methods` over HTTP/2. Made, started, drained and closed on one event loop."""

    def __init__(
        self, methods: Methods, clock: Clock, limits: Limits | None = None, on_end: StreamEnded | None = None
    ) -> None:
        """`on_end` hears of each RPC's end: method, grpc-status, clock reading of its beginning."""
        self.methods = methods
        self.clock = clock
        self.limits = limits or Limits()
        self.streams = Streams(on_end)
        self.pumps: set[Pump] = set()
        self.closed = False
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()

    async def start(self, host: str, port: int, ssl: SSLContext | None = None, fd: int | None = None) -> None:
        """Listens; port 0 lets the system choose. `fd` is a listening socket to use instead. Raises OSError."""
        where: dict[str, Any] = {"host": host, "port": port} if fd is None else {"sock": socket.socket(fileno=fd)}
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Pump(self), ssl=ssl, backlog=BACKLOG, **where)

    @property
    def port(self) -> int:
        """The port listened on."""
        assert self._server is not None, "not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def drain(self, grace: float) -> None:
        """Stops accepting, asks clients to go elsewhere, waits up to `grace` seconds for open RPCs, then closes."""
        if self._server is not None:
            self._server.close()
        for pump in list(self.pumps):
            pump.connection.drain()
        try:
            async with asyncio.timeout(grace):
                await self._all_gone()
        except TimeoutError:
            log.warning("drain timed out with %d open streams", self.streams.open)
        await self.close()

    async def close(self) -> None:
        """Ends everything now; handlers hear `lost`. Peers have `LINGER_SECONDS` to hang up."""
        self.closed = True
        if self._server is not None:
            self._server.close()
        for pump in list(self.pumps):
            pump.connection.close()
            pump.flush()
        await self._all_gone()

    async def _all_gone(self) -> None:
        while self.pumps:
            self._idle.clear()
            await self._idle.wait()

    def gone(self, pump: Pump) -> None:
        """A connection ended."""
        self.pumps.discard(pump)
        self._idle.set()


def _keep_alive(sock: socket.socket | None) -> None:
    """Lets the kernel find dead peers; HTTP/2 connections may be silent for hours otherwise."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // 4)
