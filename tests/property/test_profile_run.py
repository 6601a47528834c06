"""Invariants of a profile run, for every profile and every pool."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from epp.api import (
    PREFIX_MATCH_INFO,
    Endpoints,
    Filter,
    Mask,
    Picker,
    PrefixMatchInfo,
    Request,
    SchedulerProfile,
    Scorer,
)
from epp.scheduling.profile_run import run_profile
from epp.testing import build_endpoints, build_request
from scorers.active_request import ActiveRequestScorer
from scorers.filters.label_selector import LabelSelectorFilter, LabelSelectorRequirement
from scorers.filters.roles import DecodeFilter, PrefillFilter
from scorers.kv_cache_utilization import KvCacheUtilizationScorer
from scorers.pickers.max_score import MaxScorePicker
from scorers.pickers.random import RandomPicker
from scorers.pickers.weighted_random import WeightedRandomPicker
from scorers.prefix_cache import PrefixCacheScorer
from scorers.queue import QueueScorer
from scorers.token_load import TokenLoadScorer

COLUMNS = ("waiting", "kv_usage", "prefix_blocks", "inflight_requests", "inflight_tokens", "uncached_tokens")
ROLES = ({}, {"llm-d.ai/role": "decode"}, {"llm-d.ai/role": "prefill"}, {"llm-d.ai/role": "both", "zone": "a"})


class BrokenScorer(Scorer, type="broken"):
    """Raises, or returns scores out of range."""

    how: int = 0

    def score(self, request: Request, endpoints: Endpoints) -> NDArray[np.float32]:
        if self.how == 0:
            raise RuntimeError("broken")
        return (np.arange(len(endpoints)) * 3 - 5).astype(np.float32)


class EvenFilter(Filter, type="even"):
    """Drops endpoints with an odd number."""

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return np.array([int(endpoint.name[1:]) % 2 == 0 for endpoint in endpoints], np.bool_)


values = st.one_of(st.just(float("nan")), st.integers(0, 40).map(float))
scorers = st.lists(
    st.tuples(
        st.floats(0, 10, width=16),
        st.sampled_from(
            [
                QueueScorer(),
                KvCacheUtilizationScorer(),
                PrefixCacheScorer(),
                PrefixCacheScorer(match_length_weight=0.5),
                ActiveRequestScorer(),
                TokenLoadScorer(queue_threshold_tokens=30),
            ]
        ),
    ),
    max_size=4,
)
filters = st.lists(
    st.sampled_from(
        [
            DecodeFilter(),
            PrefillFilter(),
            EvenFilter(),
            LabelSelectorFilter(match_expressions=[LabelSelectorRequirement("zone", "DoesNotExist")]),
        ]
    ),
    max_size=3,
)
pickers = st.builds(
    lambda kind, count: kind(max_num_of_endpoints=count),
    st.sampled_from([MaxScorePicker, RandomPicker, WeightedRandomPicker]),
    st.integers(1, 4),
)


@st.composite
def pools(draw: st.DrawFn) -> Endpoints:
    n = draw(st.integers(0, 12))
    columns = {name: draw(st.lists(values, min_size=n, max_size=n)) for name in COLUMNS}
    columns["kv_usage"] = [value / 40 for value in columns["kv_usage"]]
    return build_endpoints(n, labels=draw(st.lists(st.sampled_from(ROLES), min_size=n, max_size=n)), **columns)


def build_profile(scorers: list[tuple[float, Scorer]], filters: list[Filter], picker: Picker) -> SchedulerProfile:
    return SchedulerProfile(
        "p",
        filters=[(f"f{i}", each) for i, each in enumerate(filters)],
        scorers=[(f"s{i}", weight, each) for i, (weight, each) in enumerate(scorers)],
        picker=("p", picker),
    )


def request_with_prefix_info() -> Request:
    return build_request(attributes={PREFIX_MATCH_INFO: PrefixMatchInfo(40, 64)})


def ignore_error(name: str, kind: str) -> None:
    """Errors are expected; other tests count them."""


@given(pools(), scorers, filters, pickers, st.integers(0, 1000))
@settings(deadline=None)
def test_only_endpoints_that_every_filter_keeps_are_picked(
    pool: Endpoints, scorers: list[tuple[float, Scorer]], filters: list[Filter], picker: Picker, seed: int
) -> None:
    result = run_profile(
        build_profile(scorers, filters, picker), request_with_prefix_info(), pool, Random(seed), ignore_error
    )
    allowed = np.ones(len(pool), np.bool_)
    for each in filters:
        allowed &= each.filter(request_with_prefix_info(), pool)
    survivors = [endpoint.name for endpoint, keep in zip(pool, allowed, strict=True) if keep]
    picked = [result.endpoints.endpoint_at(position).name for position in result.order.tolist()]
    assert len(picked) == min(len(survivors), picker.max_num_of_endpoints)
    assert len(set(picked)) == len(picked)
    assert set(picked) <= set(survivors)


@given(pools(), scorers, filters, st.data())
@settings(deadline=None)
def test_the_order_of_candidates_does_not_matter(
    pool: Endpoints, scorers: list[tuple[float, Scorer]], filters: list[Filter], data: st.DataObject
) -> None:
    order = np.array(data.draw(st.permutations(range(len(pool)))), np.intp)
    permuted = Endpoints(pool._snapshot, pool.slots[order])
    profile = build_profile(scorers, filters, MaxScorePicker())
    original = run_profile(profile, request_with_prefix_info(), pool, Random(1), ignore_error)
    reordered = run_profile(profile, request_with_prefix_info(), permuted, Random(2), ignore_error)
    totals = dict(zip((each.name for each in original.endpoints), original.totals.tolist(), strict=False))
    assert totals == dict(zip((each.name for each in reordered.endpoints), reordered.totals.tolist(), strict=False))
    if totals:
        assert totals[original.endpoints.endpoint_at(int(original.order[0])).name] == max(totals.values())
        assert totals[reordered.endpoints.endpoint_at(int(reordered.order[0])).name] == max(totals.values())


@given(pools(), scorers, st.integers(0, 1), st.integers(0, 4))
@settings(deadline=None)
def test_a_broken_scorer_never_stops_a_decision(
    pool: Endpoints, scorers: list[tuple[float, Scorer]], how: int, at: int
) -> None:
    broken: list[tuple[float, Scorer]] = [*scorers[:at], (1, BrokenScorer(how=how)), *scorers[at:]]
    result = run_profile(
        build_profile(broken, [], MaxScorePicker()), request_with_prefix_info(), pool, Random(1), ignore_error
    )
    highest = sum(weight for weight, _ in broken)
    assert result.order.size == min(1, len(pool))
    assert ((result.totals >= 0) & (result.totals <= highest * 1.0001 + 0.001)).all()
