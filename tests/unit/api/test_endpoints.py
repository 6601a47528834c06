"""Views of the pool: which columns they read, and how they are narrowed."""

from __future__ import annotations

import numpy as np
import pytest

from epp.api import (
    INFLIGHT_REQUESTS,
    NO_LORA_ADAPTERS,
    PREFIX_MATCH_BLOCKS,
    UNCACHED_TOKENS,
    WAITING_REQUESTS,
    Endpoint,
    EndpointPredicate,
    Endpoints,
    LoraAdapters,
    Snapshot,
)
from epp.testing import build_endpoints


def build_sparse_pool() -> Endpoints:
    """Endpoints a and c at slots 1 and 3; the other slots are free."""
    members = [None, Endpoint("a", "10.0.0.1", 8000), None, Endpoint("c", "fd00::1", 8001)]
    columns = {WAITING_REQUESTS: np.array([9, 1, 9, 3], np.float32)}
    ledger_columns = {INFLIGHT_REQUESTS: np.array([9, 5, 9, 7], np.float32)}
    snapshot = Snapshot(columns, members, np.array([1, 3]), ledger_columns=ledger_columns)
    return Endpoints(snapshot, snapshot.live_slots)


def test_columns_are_read_by_slot_and_unknown_ones_are_nan() -> None:
    pool = build_sparse_pool()
    assert pool[WAITING_REQUESTS].tolist() == [1, 3]
    assert pool[INFLIGHT_REQUESTS].tolist() == [5, 7]
    assert np.isnan(pool[UNCACHED_TOKENS]).all()
    assert pool[WAITING_REQUESTS].dtype == pool[INFLIGHT_REQUESTS].dtype == pool[UNCACHED_TOKENS].dtype == np.float32


def test_columns_are_read_only() -> None:
    pool = build_sparse_pool()
    for column in (WAITING_REQUESTS, INFLIGHT_REQUESTS, UNCACHED_TOKENS):
        with pytest.raises(ValueError, match="read-only"):
            pool[column][0] = 0


def test_endpoints_and_targets() -> None:
    pool = build_sparse_pool()
    assert [endpoint.name for endpoint in pool] == ["a", "c"]
    assert pool.endpoint_at(1).target == "[fd00::1]:8001"
    assert repr(pool) == "Endpoints(['a', 'c'])"
    with pytest.raises(IndexError):
        pool.endpoint_at(2)


def test_labels_and_lora_adapters_are_per_endpoint() -> None:
    adapters = [LoraAdapters(running=frozenset({"x"})), NO_LORA_ADAPTERS]
    pool = build_endpoints(labels=[{"zone": "a"}, {}], adapters=adapters)
    assert pool.label_values("zone") == ["a", None]
    assert pool.lora_adapters() == adapters
    assert build_sparse_pool().lora_adapters() == [NO_LORA_ADAPTERS] * 2


def test_a_selection_keeps_order_and_produced_columns() -> None:
    pool = build_endpoints(waiting=[4, 5, 6])
    pool.add_column(PREFIX_MATCH_BLOCKS, np.array([1, 2, 3], np.float32))
    selected = pool.select(np.array([True, False, True]))
    assert [endpoint.name for endpoint in selected] == ["e0", "e2"]
    assert selected[WAITING_REQUESTS].tolist() == [4, 6]
    assert selected[PREFIX_MATCH_BLOCKS].tolist() == [1, 3]


def test_a_produced_column_hides_an_earlier_one_and_is_read_only() -> None:
    pool = build_endpoints(2)
    for values in ([1, 2], [3, 4]):
        pool.add_column(PREFIX_MATCH_BLOCKS, np.array(values, np.float32))
    assert pool[PREFIX_MATCH_BLOCKS].tolist() == [3, 4]
    assert pool.with_columns({PREFIX_MATCH_BLOCKS: np.zeros(2, np.float32)})[PREFIX_MATCH_BLOCKS].tolist() == [0, 0]
    assert pool[PREFIX_MATCH_BLOCKS].tolist() == [3, 4]
    with pytest.raises(ValueError, match="read-only"):
        pool[PREFIX_MATCH_BLOCKS][0] = 0


def test_a_later_snapshot_drops_endpoints_that_left_or_were_replaced() -> None:
    pool = build_endpoints(waiting=[1, 2, 3])
    pool.add_column(PREFIX_MATCH_BLOCKS, np.array([7, 8, 9], np.float32))
    before = pool._snapshot
    members = [before.endpoints[0], Endpoint("other", "10.0.0.9", 8000), before.endpoints[2]]
    columns = {WAITING_REQUESTS: np.array([10, 20, 30], np.float32)}
    later = pool.with_snapshot(Snapshot(columns, members, np.array([0, 1, 2])))
    assert [endpoint.name for endpoint in later] == ["e0", "e2"]
    assert later[WAITING_REQUESTS].tolist() == [10, 30]
    assert later[PREFIX_MATCH_BLOCKS].tolist() == [7, 9]


def test_the_memo_is_that_of_all_live_endpoints_only() -> None:
    pool = build_endpoints(waiting=[1, 2])
    assert pool.memo is pool._snapshot.memo
    assert pool.select(np.array([True, True])).memo is None
    assert pool[WAITING_REQUESTS] is Endpoints(pool._snapshot, pool._snapshot.live_slots)[WAITING_REQUESTS]


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
