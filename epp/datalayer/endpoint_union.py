"""Several sources of endpoints, one table.

Each source states its whole desired set whenever it learns of it; the table gets the union.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from epp.api import Endpoint


class EndpointSink(Protocol):
    """Who takes a desired set: the table."""

    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        """Makes these the endpoints."""


class EndpointUnion:
    """Joins what sources want. Of two endpoints with one name, that of the source heard of first wins."""

    def __init__(self, sink: EndpointSink) -> None:
        self._sink = sink
        self._desired: dict[str, tuple[Endpoint, ...]] = {}

    def set_endpoints(self, source: str, endpoints: Iterable[Endpoint]) -> None:
        """Replaces the endpoints of one source; those of others stay."""
        self._desired[source] = tuple(endpoints)
        union: dict[str, Endpoint] = {}
        for wanted in self._desired.values():
            for endpoint in wanted:
                union.setdefault(endpoint.name, endpoint)
        self._sink.replace_all(union.values())
