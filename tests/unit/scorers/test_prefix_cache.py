"""The prefix scorer: share of the prompt, or length of the match."""

from __future__ import annotations

import pytest

from epp.api import PREFIX_INFO, PrefixInfo
from epp.testing import check_scorer, endpoints, request
from scorers.prefix_cache import PrefixCache


def scored(scorer: PrefixCache, matched: list[float], info: PrefixInfo | None) -> list[float]:
    values = scorer.score(request(facts={PREFIX_INFO: info}), endpoints(prefix_blocks=matched)).tolist()
    return [round(value, 5) for value in values]


def test_share_of_the_prompt() -> None:
    assert scored(PrefixCache(), [0, 4, 16], PrefixInfo(16, 64)) == [0, 0.25, 1]


def test_a_full_match_of_any_length_is_exactly_one() -> None:
    assert {scored(PrefixCache(), [total], PrefixInfo(total, 64))[0] for total in range(1, 400)} == {1}


def test_length_of_the_match_counts_squared_up_to_the_scale() -> None:
    """w = 1: min(1, blocks * block size / scale)^2."""
    scorer = PrefixCache(match_length_weight=1, match_length_scale_tokens=1024)
    assert scored(scorer, [0, 8, 16, 32], PrefixInfo(32, 64)) == [0, 0.25, 1, 1]


def test_both_mixed() -> None:
    scorer = PrefixCache(match_length_weight=0.25, match_length_scale_tokens=8192)
    assert scored(scorer, [64], PrefixInfo(128, 64)) == [0.75 * 0.5 + 0.25 * 0.25]


@pytest.mark.parametrize("info", [None, PrefixInfo(0, 64)])
def test_nothing_to_match_is_zero(info: PrefixInfo | None) -> None:
    assert scored(PrefixCache(), [3, 5], info) == [0, 0]


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_contract(weight: float) -> None:
    check_scorer(PrefixCache(match_length_weight=weight))
