"""RPCs that no client ends: log streams and watches stay open as long as the client lives."""

from __future__ import annotations

from typing import Protocol


class LongLivedRpc(Protocol):
    """A handler that can end its RPC."""

    def finish(self) -> None:
        """Finishes well."""


class LongLivedRpcs:
    """Those of one server. Work is done when only they are left; then a drain ends them."""

    def __init__(self) -> None:
        self._rpcs: set[LongLivedRpc] = set()

    def __len__(self) -> int:
        return len(self._rpcs)

    def add(self, handler: LongLivedRpc) -> None:
        """Its RPC is open."""
        self._rpcs.add(handler)

    def discard(self, handler: LongLivedRpc) -> None:
        """Its RPC has ended."""
        self._rpcs.discard(handler)

    def finish_all(self) -> None:
        """Ends all; clients open them anew elsewhere."""
        for handler in list(self._rpcs):
            handler.finish()
