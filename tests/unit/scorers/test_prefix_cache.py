"""The prefix-cache scorer: matched share of the prompt, and length of the match."""

from __future__ import annotations

import pytest

from epp.api import PREFIX_MATCH_INFO, PrefixMatchInfo
from epp.testing import build_endpoints, build_request, check_scorer
from scorers.prefix_cache import PrefixCacheScorer


def rounded_scores(scorer: PrefixCacheScorer, matched: list[float], info: PrefixMatchInfo | None) -> list[float]:
    values = scorer.score(
        build_request(attributes={PREFIX_MATCH_INFO: info}), build_endpoints(prefix_blocks=matched)
    ).tolist()
    return [round(value, 5) for value in values]


def test_the_score_is_the_matched_share_of_the_prompt() -> None:
    assert rounded_scores(PrefixCacheScorer(), [0, 4, 16], PrefixMatchInfo(16, 64)) == [0, 0.25, 1]


def test_a_full_match_of_any_length_scores_exactly_one() -> None:
    assert {rounded_scores(PrefixCacheScorer(), [total], PrefixMatchInfo(total, 64))[0] for total in range(1, 400)} == {
        1
    }


def test_the_length_term_is_squared_and_limited_by_the_scale() -> None:
    """w = 1: min(1, blocks * block size / scale)^2."""
    scorer = PrefixCacheScorer(match_length_weight=1, match_length_scale_tokens=1024)
    assert rounded_scores(scorer, [0, 8, 16, 32], PrefixMatchInfo(32, 64)) == [0, 0.25, 1, 1]


def test_share_and_length_are_weighted() -> None:
    scorer = PrefixCacheScorer(match_length_weight=0.25, match_length_scale_tokens=8192)
    assert rounded_scores(scorer, [64], PrefixMatchInfo(128, 64)) == [0.75 * 0.5 + 0.25 * 0.25]


@pytest.mark.parametrize("info", [None, PrefixMatchInfo(0, 64)])
def test_a_prompt_without_blocks_scores_zero(info: PrefixMatchInfo | None) -> None:
    assert rounded_scores(PrefixCacheScorer(), [3, 5], info) == [0, 0]


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_contract(weight: float) -> None:
    check_scorer(PrefixCacheScorer(match_length_weight=weight))
