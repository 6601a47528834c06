"""The endpoints of several discoveries, joined into the one endpoint store."""

from __future__ import annotations

from collections.abc import Iterable

from epp.api import Endpoint
from epp.datastore.endpoint_store import EndpointStore


class EndpointUnion:
    """Writes the union of what discoveries report to the endpoint store.

    If two discoveries report endpoints of one name, the store has that of the one added first.
    """

    def __init__(self, store: EndpointStore) -> None:
        self._store = store
        self._sets: list[EndpointSet] = []

    def add_set(self) -> EndpointSet:
        """The empty set of one more discovery."""
        added = EndpointSet(self)
        self._sets.append(added)
        return added

    def write_all(self) -> None:
        """Makes the union the endpoints of the store."""
        union: dict[str, Endpoint] = {}
        for reported in self._sets:
            for name, endpoint in reported.by_name.items():
                union.setdefault(name, endpoint)
        self._store.replace_all(union.values())

    def write_one(self, name: str) -> None:
        """Makes the endpoint of one name in the store what the union has under that name."""
        for reported in self._sets:
            endpoint = reported.by_name.get(name)
            if endpoint is not None:
                self._store.upsert(endpoint)
                return
        self._store.remove(name)


class EndpointSet:
    """The endpoints that one discovery reports."""

    def __init__(self, union: EndpointUnion) -> None:
        self._union = union
        self.by_name: dict[str, Endpoint] = {}

    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        """Makes these the endpoints of this discovery."""
        self.by_name = {endpoint.name: endpoint for endpoint in endpoints}
        self._union.write_all()

    def upsert(self, endpoint: Endpoint) -> None:
        """Adds the endpoint, or replaces the one of that name."""
        self.by_name[endpoint.name] = endpoint
        self._union.write_one(endpoint.name)

    def delete(self, name: str) -> None:
        """Removes the endpoint of that name; without effect if there is none."""
        if self.by_name.pop(name, None) is not None:
            self._union.write_one(name)
