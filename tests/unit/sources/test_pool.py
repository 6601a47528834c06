from epp.api import Endpoint
from epp.clock import ManualClock
from epp.sources.pool import Pool
from epp.state.table import Table


def test_the_table_gets_the_union_of_all_parts():
    table = Table(ManualClock())
    pool = Pool(table)
    first, second = pool.part(), pool.part()

    def members() -> set[str]:
        return {f"{endpoint.name}@{endpoint.port}" for endpoint in table.endpoints()}

    a, b, other_b = (
        Endpoint(name=name, address="10.0.0.1", port=port) for name, port in (("a", 1), ("b", 2), ("b", 3))
    )
    first.sync([a])
    second.sync([other_b])
    assert members() == {"a@1", "b@3"}
    first.sync([a, b])
    assert members() == {"a@1", "b@2"}
    first.sync([])
    assert members() == {"b@3"}
