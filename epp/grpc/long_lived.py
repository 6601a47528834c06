"""RPCs that clients keep open for as long as they live: access log streams and health watches."""

from __future__ import annotations

from typing import Protocol


class LongLivedRpc(Protocol):
    """A handler whose RPC the server may finish."""

    def finish(self) -> None:
        """Finishes the RPC with OK."""


class LongLivedRpcs:
    """The server's long-lived RPCs. A drain does not wait for them: it ends them once all other RPCs are done."""

    def __init__(self) -> None:
        self._rpcs: set[LongLivedRpc] = set()

    def __len__(self) -> int:
        return len(self._rpcs)

    def add(self, rpc: LongLivedRpc) -> None:
        """The RPC has started."""
        self._rpcs.add(rpc)

    def discard(self, rpc: LongLivedRpc) -> None:
        """The RPC has ended."""
        self._rpcs.discard(rpc)

    def finish_all(self) -> None:
        """Finishes all; clients open them again, elsewhere if this server is being drained."""
        for rpc in list(self._rpcs):
            rpc.finish()
