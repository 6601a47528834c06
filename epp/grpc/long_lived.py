"""RPCs that no client ends: log streams and watches stay open as long as the client lives."""

from __future__ import annotations

from typing import Protocol


class Endable(Protocol):
    """A handler that can end its RPC."""

    def end(self) -> None:
        """Finishes well."""


class Standing:
    """Those of one server. Work is done when only they are left; then a drain ends them."""

    def __init__(self) -> None:
        self._handlers: set[Endable] = set()

    def __len__(self) -> int:
        return len(self._handlers)

    def add(self, handler: Endable) -> None:
        """Its RPC is open."""
        self._handlers.add(handler)

    def discard(self, handler: Endable) -> None:
        """Its RPC has ended."""
        self._handlers.discard(handler)

    def end(self) -> None:
        """Ends all; clients open them anew elsewhere."""
        for handler in list(self._handlers):
            handler.end()
