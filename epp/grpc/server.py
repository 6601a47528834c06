"""The native transport: HTTP/2 connections of `http2` on asyncio (uvloop) sockets, with and without TLS."""

from __future__ import annotations

import asyncio
import logging
import socket
from ssl import SSLContext
from typing import Any, cast

from epp.clock import Clock
from epp.grpc.http2.connection import Connection
from epp.grpc.http2.frames import ErrorCode
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import RpcMethods
from epp.grpc.rpc_stats import OnRpcEnd, RpcStats

log = logging.getLogger("epp.grpc.server")

ACCEPT_BACKLOG = 1024  # connections that wait to be accepted
LINGER_SECONDS = 2.0  # for a peer to read our last words
TCP_KEEPALIVE_SECONDS = 60  # idle time before the kernel asks whether the peer still lives


class Http2Protocol(asyncio.Protocol):
    """One socket: what is read goes to the connection, what has gathered is written once per read."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.connection = Connection(
            server.methods, server.clock, server.limits, server.rpc_stats, self._schedule_flush
        )
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._shut_down = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._server.closed:  # its TLS handshake took longer than we lived
            transport.abort()
            return
        # Above this DATA stops; a lower mark would stop and resume it with every burst.
        transport.set_write_buffer_limits(high=2 * self._server.limits.write_burst)
        self._server.protocols.add(self)
        _enable_tcp_keepalive(transport.get_extra_info("socket"))
        self._timer = self._loop.call_later(self._server.limits.handshake_timeout, self._on_handshake_timeout)
        self.flush()

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        if connection.closing:
            return
        connection.receive_data(data)
        self.flush()
        if self._timer is not None and connection.preface_received and not connection.closing:
            self._timer.cancel()
            self._timer = None

    def flush(self) -> None:
        """Writes what has gathered; the rest of a large answer in later turns of the loop."""
        transport, connection = self._transport, self.connection
        if transport is None or self._shut_down:
            return
        data = connection.data_to_send()
        if data:
            transport.write(data)
        if connection.closing:
            self._shut_down_socket(transport)
        elif connection.has_data_to_send:
            self._schedule_flush()

    def pause_writing(self) -> None:
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        self.connection.resume_writing()
        self._schedule_flush()

    def eof_received(self) -> None:
        """The client is gone; a half-open connection is of no use."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self.connection.connection_lost()
        self._server.on_connection_lost(self)

    def abort(self) -> None:
        """Ends the connection without waiting for the peer to read."""
        if self._transport is not None:
            self._transport.abort()

    def _schedule_flush(self) -> None:
        self._loop.call_soon(self.flush)

    def _on_handshake_timeout(self) -> None:
        self._timer = None
        self.connection.close(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS from the client")
        self.flush()

    def _shut_down_socket(self, transport: asyncio.Transport) -> None:
        """Closes in a way that lets the peer read our GOAWAY: input is drained, not reset, until it hangs up too."""
        self._shut_down = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self.abort)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()


class GrpcServer:
    """Serves `methods` over HTTP/2. Made, started, drained and closed on one event loop."""

    def __init__(
        self, methods: RpcMethods, clock: Clock, limits: TransportLimits | None = None, on_end: OnRpcEnd | None = None
    ) -> None:
        """`on_end` hears of each RPC's end: method, grpc-status, clock reading of its beginning."""
        self.methods = methods
        self.clock = clock
        self.limits = limits or TransportLimits()
        self.rpc_stats = RpcStats(on_end)
        self.protocols: set[Http2Protocol] = set()
        self.closed = False
        self._server: asyncio.Server | None = None
        self._protocol_removed = asyncio.Event()

    async def start(self, host: str, port: int, ssl: SSLContext | None = None, fd: int | None = None) -> None:
        """Listens; port 0 lets the system choose. `fd` is a listening socket to use instead. Raises OSError."""
        where: dict[str, Any] = {"host": host, "port": port} if fd is None else {"sock": socket.socket(fileno=fd)}
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Http2Protocol(self), ssl=ssl, backlog=ACCEPT_BACKLOG, **where)

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
        for pump in list(self.protocols):
            pump.connection.drain()
        try:
            async with asyncio.timeout(grace):
                await self._wait_until_disconnected()
        except TimeoutError:
            log.warning("drain timed out with %d open streams", self.rpc_stats.open_rpcs)
        await self.close()

    async def close(self) -> None:
        """Ends everything now; handlers hear `lost`. Peers have `LINGER_SECONDS` to hang up."""
        self.closed = True
        if self._server is not None:
            self._server.close()
        for pump in list(self.protocols):
            pump.connection.close()
            pump.flush()
        await self._wait_until_disconnected()

    async def _wait_until_disconnected(self) -> None:
        while self.protocols:
            self._protocol_removed.clear()
            await self._protocol_removed.wait()

    def on_connection_lost(self, pump: Http2Protocol) -> None:
        """A connection ended."""
        self.protocols.discard(pump)
        self._protocol_removed.set()


def _enable_tcp_keepalive(sock: socket.socket | None) -> None:
    """Lets the kernel find dead peers; HTTP/2 connections may be silent for hours otherwise."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_KEEPALIVE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, TCP_KEEPALIVE_SECONDS // 4)
