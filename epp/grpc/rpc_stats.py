"""Open RPCs of a server, counted alike for both transports."""

from __future__ import annotations

from collections.abc import Callable

OnRpcEnd = Callable[[str, int, float], None]
"""Called for each RPC that ends, with its method, grpc-status, and the monotonic time at which it started."""


class RpcStats:
    """Counts the open RPCs of one server and reports each end. RPCs of unknown methods are not included."""

    def __init__(self, on_rpc_end: OnRpcEnd | None = None) -> None:
        self.open_rpcs = 0
        self._on_rpc_end = on_rpc_end

    def record_start(self) -> None:
        """An RPC started."""
        self.open_rpcs += 1

    def record_end(self, method: str, status: int, started_at: float) -> None:
        """An RPC ended with grpc-status `status`."""
        self.open_rpcs -= 1
        if self._on_rpc_end is not None:
            self._on_rpc_end(method, status, started_at)
