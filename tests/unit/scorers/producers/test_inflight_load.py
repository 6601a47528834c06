"""Uncached tokens of each endpoint, and the load of a request in flight."""

from __future__ import annotations

from typing import Any

import pytest

from epp.api import (
    PREFIX_MATCH_INFO,
    PROMPT,
    UNCACHED_TOKENS,
    Endpoints,
    LoadEstimate,
    PrefixMatchInfo,
    TokenizedPrompt,
)
from epp.testing import builders, contracts
from scorers.producers.inflight_load import InflightLoadProducer

NAN = float("nan")
PROMPT_1000 = {PROMPT: TokenizedPrompt(b"x" * 4000, 1000), PREFIX_MATCH_INFO: PrefixMatchInfo(16, 64)}


def produce_uncached_tokens(pool: Endpoints, attributes: dict[Any, Any]) -> Endpoints:
    return pool.with_columns(InflightLoadProducer().produce(builders.build_request(attributes=attributes), pool))


def test_contract() -> None:
    contracts.check_producer(InflightLoadProducer())


def test_matched_blocks_are_subtracted_from_the_prompt() -> None:
    pool = produce_uncached_tokens(builders.build_endpoints(prefix_blocks=[0, 10, 16]), PROMPT_1000)
    assert pool[UNCACHED_TOKENS].tolist() == [1000, 360, 0]
    assert InflightLoadProducer().estimate_load(
        builders.build_request(attributes=PROMPT_1000), pool, 1
    ) == LoadEstimate(360.0)


def test_without_prefix_match_info_the_whole_prompt_is_uncached() -> None:
    pool = produce_uncached_tokens(builders.build_endpoints(2), {PROMPT: PROMPT_1000[PROMPT]})
    assert pool[UNCACHED_TOKENS].tolist() == [1000, 1000]


def test_without_a_prompt_the_uncached_tokens_are_nan_and_the_load_is_zero() -> None:
    pool = produce_uncached_tokens(builders.build_endpoints(1), {})
    assert str(pool[UNCACHED_TOKENS].tolist()) == "[nan]"
    assert InflightLoadProducer().estimate_load(builders.build_request(), pool, 0) == LoadEstimate(0.0)


def test_where_the_column_is_nan_the_load_is_the_whole_prompt() -> None:
    request = builders.build_request(attributes=PROMPT_1000)
    assert InflightLoadProducer().estimate_load(request, builders.build_endpoints(1), 0) == LoadEstimate(1000.0)


@pytest.mark.parametrize(
    ("parameters", "allowed", "output"),
    [
        ({}, None, 1500),
        ({}, 100, 100),
        ({}, 9999, 1500),
        ({"max_estimated_output_tokens": 700}, None, 700),
        ({"max_estimated_output_tokens": 700}, 100, 100),
        ({"output_ratio": 0.5}, None, 500),
        ({"output_ratio": 0.0}, None, 0),
        ({}, -5, 0),
    ],
)
def test_estimated_output_tokens_are_limited(parameters: dict[str, Any], allowed: int | None, output: float) -> None:
    producer = InflightLoadProducer(add_estimated_output_tokens=True, **parameters)
    request = builders.build_request(attributes=PROMPT_1000, max_output_tokens=allowed)
    assert producer.estimate_load(request, builders.build_endpoints(uncached_tokens=[40]), 0) == LoadEstimate(
        40.0, output
    )
