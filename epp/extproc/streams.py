"""Counts of RPCs, the same for both transports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

StreamEnded = Callable[[str, int, float], None]
"""Hears of each RPC's end: method, grpc-status, clock reading of its beginning."""


class Streams:
    """The RPCs of one server: how many are open, and how they ended."""

    def __init__(self, on_end: StreamEnded | None = None) -> None:
        self.open = 0
        self.by_code: Counter[int] = Counter()
        self._on_end = on_end

    def opened(self) -> None:
        """An RPC of a known method began."""
        self.open += 1

    def ended(self, name: str, status: int, started: float) -> None:
        """It ended with grpc-status `status`."""
        self.open -= 1
        self.by_code[int(status)] += 1
        if self._on_end is not None:
            self._on_end(name, status, started)
