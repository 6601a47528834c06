"""The native gRPC server: HTTP/2 connections on asyncio (uvloop) sockets, with or without TLS."""

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

ACCEPT_BACKLOG = 1024  # connections in the kernel's queue
LINGER_SECONDS = 2.0  # a peer's time to read our GOAWAY before its connection is aborted
TCP_KEEPALIVE_SECONDS = 60  # idle time before the kernel probes the peer


class Http2Protocol(asyncio.Protocol):
    """One socket: passes its input to a `Connection` and writes the connection's output once per read."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.connection = Connection(
            server.methods, server.clock, server.limits, server.rpc_stats, self._schedule_flush
        )
        self._transport: asyncio.Transport | None = None
        # First the client's time to send SETTINGS, then its time to close after our GOAWAY.
        self._timer: asyncio.TimerHandle | None = None
        self._shut_down = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._server.closed:  # while the TLS handshake was going on
            transport.abort()
            return
        # DATA stops while more than this is unsent; with a lower mark every burst would pause and resume it.
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
        """Writes the connection's output; a response above the write burst continues in later turns of the loop."""
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
        """Lets asyncio close the transport: gRPC clients do not half-close their connections."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self.connection.connection_lost()
        self._server.on_connection_lost(self)

    def abort(self) -> None:
        """Closes the socket at once, unsent output included."""
        if self._transport is not None:
            self._transport.abort()

    def _schedule_flush(self) -> None:
        self._loop.call_soon(self.flush)

    def _on_handshake_timeout(self) -> None:
        self._timer = None
        self.connection.close(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS from the client")
        self.flush()

    def _shut_down_socket(self, transport: asyncio.Transport) -> None:
        """Closes our direction only, so that the peer can read the GOAWAY (a close in stages, RFC 9112, 9.6).

        If both were closed, unread input would turn the end of the connection into a TCP reset.
        """
        self._shut_down = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self.abort)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()


class GrpcServer:
    """Serves RPC methods over HTTP/2. Created, started, drained and closed on one event loop."""

    def __init__(
        self,
        methods: RpcMethods,
        clock: Clock,
        limits: TransportLimits | None = None,
        on_rpc_end: OnRpcEnd | None = None,
    ) -> None:
        self.methods = methods
        self.clock = clock
        self.limits = limits or TransportLimits()
        self.rpc_stats = RpcStats(on_rpc_end)
        self.protocols: set[Http2Protocol] = set()
        self.closed = False
        self._server: asyncio.Server | None = None
        self._protocol_removed = asyncio.Event()

    async def start(self, host: str, port: int, ssl: SSLContext | None = None, fd: int | None = None) -> None:
        """Starts to listen; port 0 lets the system choose. Raises OSError.

        `fd` is an inherited listening socket, used instead of `host` and `port`; the server closes it in the end.
        """
        address: dict[str, Any] = {"host": host, "port": port} if fd is None else {"sock": socket.socket(fileno=fd)}
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Http2Protocol(self), ssl=ssl, backlog=ACCEPT_BACKLOG, **address)

    @property
    def port(self) -> int:
        """The port listened on."""
        assert self._server is not None, "not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def drain(self, grace: float) -> None:
        """Stops accepting, sends GOAWAY on all connections, waits up to `grace` seconds for open RPCs, then closes."""
        if self._server is not None:
            self._server.close()
        for protocol in list(self.protocols):
            protocol.connection.drain()
        try:
            async with asyncio.timeout(grace):
                await self._wait_until_disconnected()
        except TimeoutError:
            log.warning("drain timed out with %d open RPCs", self.rpc_stats.open_rpcs)
        await self.close()

    async def close(self) -> None:
        """Cancels all RPCs and closes all connections; peers have LINGER_SECONDS to close theirs."""
        self.closed = True
        if self._server is not None:
            self._server.close()
        for protocol in list(self.protocols):
            protocol.connection.close()
            protocol.flush()
        await self._wait_until_disconnected()

    async def _wait_until_disconnected(self) -> None:
        while self.protocols:
            self._protocol_removed.clear()
            await self._protocol_removed.wait()

    def on_connection_lost(self, protocol: Http2Protocol) -> None:
        """Called by each connection when its socket is closed."""
        self.protocols.discard(protocol)
        self._protocol_removed.set()


def _enable_tcp_keepalive(sock: socket.socket | None) -> None:
    """Lets the kernel detect dead peers: an HTTP/2 connection may be idle for hours."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_KEEPALIVE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, TCP_KEEPALIVE_SECONDS // 4)
