"""Conditions on endpoints are evaluated once a membership change, not once a request."""

from __future__ import annotations

from epp.api import Endpoint, EndpointPredicate, Endpoints, Snapshot
from epp.testing import build_endpoints


def test_the_predicate_is_evaluated_once_per_endpoint_and_membership_change() -> None:
    evaluated: list[str] = []

    def is_not_e1(endpoint: Endpoint) -> bool:
        evaluated.append(endpoint.name)
        return endpoint.name != "e1"

    predicate = EndpointPredicate(is_not_e1)
    pool = build_endpoints(3)
    assert predicate(pool).tolist() == [True, False, True]
    assert predicate(pool.select(predicate(pool))).tolist() == [True, True]
    assert evaluated == ["e0", "e1", "e2"]
    before = pool._snapshot
    after = Snapshot(before.columns, [*before.endpoints[:2], None], before.live_slots[:2])
    assert predicate(Endpoints(after, after.live_slots)).tolist() == [True, False]
    assert evaluated == ["e0", "e1", "e2", "e0", "e1"]
