from epp.api import Endpoint
from epp.clock import ManualClock
from epp.datalayer.endpoint_union import EndpointUnion
from epp.datastore.endpoint_store import EndpointStore


def test_the_table_gets_the_union_of_all_sources():
    table = EndpointStore(ManualClock())
    membership = EndpointUnion(table)

    def members() -> set[str]:
        return {f"{endpoint.name}@{endpoint.port}" for endpoint in table.list_endpoints()}

    a, b, other_b = (
        Endpoint(name=name, address="10.0.0.1", port=port) for name, port in (("a", 1), ("b", 2), ("b", 3))
    )
    membership.set_endpoints("first", [a])
    membership.set_endpoints("second", [other_b])
    assert members() == {"a@1", "b@3"}
    membership.set_endpoints("first", [a, b])
    assert members() == {"a@1", "b@2"}
    membership.set_endpoints("first", [])
    assert members() == {"b@3"}
