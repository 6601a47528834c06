"""What holds for every profile and every pool."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from epp.api import PREFIX_INFO, Endpoints, Filter, Mask, Picker, PrefixInfo, Profile, Request, Scorer
from epp.scheduling.profile_run import run
from epp.testing import endpoints, request
from scorers.active_request import ActiveRequest
from scorers.filters.label_selector import LabelSelector, Requirement
from scorers.filters.roles import DecodeRole, PrefillRole
from scorers.kv_cache_utilization import KvCacheUtilization
from scorers.pickers.max_score import MaxScore
from scorers.pickers.random import RandomChoice
from scorers.pickers.weighted_random import WeightedRandom
from scorers.prefix_cache import PrefixCache
from scorers.queue import QueueDepth
from scorers.token_load import TokenLoad

COLUMNS = ("waiting", "kv_usage", "prefix_blocks", "inflight_requests", "inflight_tokens", "uncached_tokens")
ROLES = ({}, {"llm-d.ai/role": "decode"}, {"llm-d.ai/role": "prefill"}, {"llm-d.ai/role": "both", "zone": "a"})


class Broken(Scorer, type="broken"):
    """Raises, or returns nonsense."""

    how: int = 0

    def score(self, request: Request, endpoints: Endpoints) -> NDArray[np.float32]:
        if self.how == 0:
            raise RuntimeError("broken")
        return (np.arange(len(endpoints)) * 3 - 5).astype(np.float32)


class Even(Filter, type="even"):
    """Drops endpoints of an odd name."""

    def keep(self, request: Request, endpoints: Endpoints) -> Mask:
        return np.array([int(endpoint.name[1:]) % 2 == 0 for endpoint in endpoints], np.bool_)


values = st.one_of(st.just(float("nan")), st.integers(0, 40).map(float))
scorers = st.lists(
    st.tuples(
        st.floats(0, 10, width=16),
        st.sampled_from(
            [
                QueueDepth(),
                KvCacheUtilization(),
                PrefixCache(),
                PrefixCache(match_length_weight=0.5),
                ActiveRequest(),
                TokenLoad(queue_threshold_tokens=30),
            ]
        ),
    ),
    max_size=4,
)
filters = st.lists(
    st.sampled_from(
        [DecodeRole(), PrefillRole(), Even(), LabelSelector(match_expressions=[Requirement("zone", "DoesNotExist")])]
    ),
    max_size=3,
)
pickers = st.builds(
    lambda kind, count: kind(max_num_of_endpoints=count),
    st.sampled_from([MaxScore, RandomChoice, WeightedRandom]),
    st.integers(1, 4),
)


@st.composite
def pools(draw: st.DrawFn) -> Endpoints:
    n = draw(st.integers(0, 12))
    columns = {name: draw(st.lists(values, min_size=n, max_size=n)) for name in COLUMNS}
    columns["kv_usage"] = [value / 40 for value in columns["kv_usage"]]
    return endpoints(n, labels=draw(st.lists(st.sampled_from(ROLES), min_size=n, max_size=n)), **columns)


def profile(scorers: list[tuple[float, Scorer]], filters: list[Filter], picker: Picker) -> Profile:
    return Profile(
        "p",
        filters=[(f"f{i}", each) for i, each in enumerate(filters)],
        scorers=[(f"s{i}", weight, each) for i, (weight, each) in enumerate(scorers)],
        picker=("p", picker),
    )


def asked() -> Request:
    return request(facts={PREFIX_INFO: PrefixInfo(40, 64)})


def nobody(name: str, kind: str) -> None:
    """Faults are expected here and counted elsewhere."""


@given(pools(), scorers, filters, pickers, st.integers(0, 1000))
@settings(deadline=None)
def test_only_endpoints_that_every_filter_keeps_are_picked(
    pool: Endpoints, scorers: list[tuple[float, Scorer]], filters: list[Filter], picker: Picker, seed: int
) -> None:
    verdict = run(profile(scorers, filters, picker), asked(), pool, Random(seed), nobody)
    allowed = np.ones(len(pool), np.bool_)
    for each in filters:
        allowed &= each.keep(asked(), pool)
    survivors = [endpoint.name for endpoint, good in zip(pool, allowed, strict=True) if good]
    picked = [verdict.endpoints.at(position).name for position in verdict.order.tolist()]
    assert len(picked) == min(len(survivors), picker.max_num_of_endpoints)
    assert len(set(picked)) == len(picked)
    assert set(picked) <= set(survivors)


@given(pools(), scorers, filters, st.data())
@settings(deadline=None)
def test_the_order_of_endpoints_does_not_matter(
    pool: Endpoints, scorers: list[tuple[float, Scorer]], filters: list[Filter], data: st.DataObject
) -> None:
    order = np.array(data.draw(st.permutations(range(len(pool)))), np.intp)
    turned = Endpoints(pool._snapshot, pool.slots[order])
    plan = profile(scorers, filters, MaxScore())
    one = run(plan, asked(), pool, Random(1), nobody)
    other = run(plan, asked(), turned, Random(2), nobody)
    totals = dict(zip((each.name for each in one.endpoints), one.totals.tolist(), strict=False))
    assert totals == dict(zip((each.name for each in other.endpoints), other.totals.tolist(), strict=False))
    if totals:
        assert totals[one.endpoints.at(int(one.order[0])).name] == max(totals.values())
        assert totals[other.endpoints.at(int(other.order[0])).name] == max(totals.values())


@given(pools(), scorers, st.integers(0, 1), st.integers(0, 4))
@settings(deadline=None)
def test_a_broken_scorer_never_stops_a_decision(
    pool: Endpoints, scorers: list[tuple[float, Scorer]], how: int, at: int
) -> None:
    broken: list[tuple[float, Scorer]] = [*scorers[:at], (1, Broken(how=how)), *scorers[at:]]
    verdict = run(profile(broken, [], MaxScore()), asked(), pool, Random(1), nobody)
    highest = sum(weight for weight, _ in broken)
    assert verdict.order.size == min(1, len(pool))
    assert ((verdict.totals >= 0) & (verdict.totals <= highest * 1.0001 + 0.001)).all()
