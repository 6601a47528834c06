"""The store has the union of what all discoveries report."""

import pytest

from epp.api import Endpoint
from epp.clock import ManualClock
from epp.datalayer.endpoint_union import EndpointUnion
from epp.datastore.endpoint_store import EndpointStore

A, B, OTHER_B = (Endpoint(name=name, address="10.0.0.1", port=port) for name, port in (("a", 1), ("b", 2), ("b", 3)))


@pytest.fixture
def store() -> EndpointStore:
    return EndpointStore(ManualClock())


def members(store: EndpointStore) -> set[str]:
    return {f"{endpoint.name}@{endpoint.port}" for endpoint in store.list_endpoints()}


def test_a_replaced_set_leaves_those_of_other_discoveries_alone(store: EndpointStore) -> None:
    union = EndpointUnion(store)
    first, second = union.add_set(), union.add_set()
    first.replace_all([A])
    second.replace_all([OTHER_B])
    assert members(store) == {"a@1", "b@3"}
    first.replace_all([A, B])
    assert members(store) == {"a@1", "b@2"}
    first.replace_all([])
    assert members(store) == {"b@3"}


def test_watch_events_change_one_endpoint_of_one_set(store: EndpointStore) -> None:
    union = EndpointUnion(store)
    first, second = union.add_set(), union.add_set()
    second.upsert(OTHER_B)
    second.upsert(A)
    assert members(store) == {"a@1", "b@3"}
    first.upsert(B)
    assert members(store) == {"a@1", "b@2"}, "of one name, the endpoint of the discovery added first"
    second.delete("b")
    assert members(store) == {"a@1", "b@2"}
    second.upsert(OTHER_B)
    first.delete("b")
    assert members(store) == {"a@1", "b@3"}
    first.delete("a")
    assert members(store) == {"a@1", "b@3"}, "a is the second's"
