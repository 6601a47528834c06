"""The only module that reads the time; everything else is given a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic and wall-clock time in seconds."""

    def now(self) -> float:
        """Monotonic seconds from an arbitrary start: only differences have a meaning."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The operating system's clocks."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class ManualClock:
    """A clock that only `advance` moves, for tests and simulations in virtual time."""

    def __init__(self, start: float = 1000.0, epoch: float = 1_700_000_000.0) -> None:
        self._now = start
        self._offset = epoch - start

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._offset

    def advance(self, seconds: float) -> None:
        """Moves both times forward."""
        if seconds < 0:
            raise ValueError("time cannot be moved backwards")
        self._now += seconds
