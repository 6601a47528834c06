"""Several sources of endpoints, one table.

Each source states its whole desired set whenever it learns of it; the table gets the union.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from epp.api import Endpoint


class Sink(Protocol):
    """Who takes a desired set: the table, or one source's part of a pool."""

    def sync(self, endpoints: Iterable[Endpoint]) -> None:
        """Makes these the endpoints."""


class Pool:
    """Joins the sets of its parts into `sink`. Of two endpoints with one name, the part opened first wins."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._parts: list[Part] = []

    def part(self) -> Part:
        """A sink for one source."""
        part = Part(self)
        self._parts.append(part)
        return part

    def changed(self) -> None:
        """Applies the union of all parts."""
        union: dict[str, Endpoint] = {}
        for part in self._parts:
            for endpoint in part.endpoints:
                union.setdefault(endpoint.name, endpoint)
        self._sink.sync(union.values())


class Part:
    """What one source wants."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.endpoints: tuple[Endpoint, ...] = ()

    def sync(self, endpoints: Iterable[Endpoint]) -> None:
        """Replaces this source's endpoints; those of other sources stay."""
        self.endpoints = tuple(endpoints)
        self._pool.changed()
