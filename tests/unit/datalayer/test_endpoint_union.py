from epp.api import Endpoint
from epp.clock import ManualClock
from epp.datalayer.endpoint_union import Membership
from epp.datastore.endpoint_store import Table


def test_the_table_gets_the_union_of_all_sources():
    table = Table(ManualClock())
    membership = Membership(table)

    def members() -> set[str]:
        return {f"{endpoint.name}@{endpoint.port}" for endpoint in table.endpoints()}

    a, b, other_b = (
        Endpoint(name=name, address="10.0.0.1", port=port) for name, port in (("a", 1), ("b", 2), ("b", 3))
    )
    membership.set("first", [a])
    membership.set("second", [other_b])
    assert members() == {"a@1", "b@3"}
    membership.set("first", [a, b])
    assert members() == {"a@1", "b@2"}
    membership.set("first", [])
    assert members() == {"b@3"}
