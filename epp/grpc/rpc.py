"""The interface between a gRPC transport and the RPC handlers that it serves.

A transport (native HTTP/2, or grpc.aio) owns sockets, framing and flow control; a handler owns one RPC. All calls are
synchronous and on the event loop: the transport calls the handler with complete messages, the handler responds through
its `ServerCall`, at once or later, and the transport writes the collected output once per read or turn of the loop. The
division is grpc-java's: `ServerCall` (whose sendMessage and close are `send` and `finish` here), and
`ServerCall.Listener` with onMessage, onHalfClose and onCancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ssl import SSLContext
from typing import Protocol

from epp.grpc.rpc_stats import RpcStats


class ServerCall(Protocol):
    """One RPC as its handler sees it: the way back to the client."""

    def send(self, message: bytes) -> None:
        """Queues one serialized message. Dropped after `finish` and once the client is gone."""

    def finish(self, status: int = 0, message: str = "") -> None:
        """Ends the RPC with a grpc-status and grpc-message after everything sent so far. Idempotent."""


class RpcHandler(Protocol):
    """One RPC as its transport sees it. Must not block.

    `on_message` comes any number of times, then `on_half_close` at most once. Nothing is called after the handler's own
    `finish`, nor after `on_cancel`. An exception from `on_message` or `on_half_close` ends the RPC with INTERNAL and is
    followed by `on_cancel`.
    """

    def on_message(self, data: bytes) -> None:
        """One complete, decompressed request message."""

    def on_half_close(self) -> None:
        """The client sends no more messages; it still reads."""

    def on_cancel(self) -> None:
        """The RPC ended before `finish`: reset, connection lost, or the client violated the protocol."""


HandlerFactory = Callable[[ServerCall], RpcHandler]
"""Creates the handler of a new RPC. May already send, or finish: then the handler is not called."""

RpcMethods = Mapping[str, HandlerFactory]
"""By full method name, e.g. `/grpc.health.v1.Health/Check`. Other names are answered with UNIMPLEMENTED."""


class RpcServer(Protocol):
    """What both transports offer. Only the native one inherits listening sockets."""

    rpc_stats: RpcStats

    @property
    def port(self) -> int:
        """The port listened on."""

    async def start(self, host: str, port: int, ssl: SSLContext | None = None) -> None:
        """Starts to listen; port 0 lets the system choose. Raises OSError."""

    async def drain(self, grace: float) -> None:
        """Stops accepting connections, waits up to `grace` seconds for open RPCs, then closes."""

    async def close(self) -> None:
        """Ends all RPCs and connections at once."""
