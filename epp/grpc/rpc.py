"""The seam between a transport and what is served over it.

A transport (native HTTP/2 or grpc.aio) owns sockets, framing and flow control. A handler owns one RPC. Everything on
the seam is synchronous: a transport calls the handler with whole gRPC messages, the handler answers through the call,
now or later, and the transport writes what has gathered once per read batch (or loop turn).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class ServerCall(Protocol):
    """One RPC as the handler sees it."""

    def send(self, message: bytes) -> None:
        """Queues one serialized message. After `finish`, or once the peer is gone, it is dropped."""

    def finish(self, status: int = 0, message: str = "") -> None:
        """Ends the RPC with a grpc-status after everything sent so far. Idempotent."""


class RpcHandler(Protocol):
    """One RPC as the transport sees it. After `lost` nothing more is called."""

    def on_message(self, data: bytes) -> None:
        """One whole, decompressed request message."""

    def on_half_close(self) -> None:
        """The peer will send no more; it still reads."""

    def on_cancel(self) -> None:
        """The RPC ended before `finish`: reset, connection gone, or the peer broke the protocol."""


HandlerFactory = Callable[[ServerCall], RpcHandler]
"""Makes the handler of a new RPC."""

RpcMethods = Mapping[str, HandlerFactory]
"""By full method name, e.g. `/grpc.health.v1.Health/Check`. Unknown names get grpc-status 12."""
