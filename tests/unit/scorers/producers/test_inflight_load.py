"""What a request weighs on each endpoint."""

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


def weighed(pool: Endpoints, facts: dict[Any, Any]) -> Endpoints:
    return pool.with_columns(InflightLoadProducer().produce(builders.build_request(attributes=facts), pool))


def test_contract() -> None:
    contracts.check_producer(InflightLoadProducer())


def test_matched_blocks_need_not_be_computed() -> None:
    pool = weighed(builders.build_endpoints(prefix_blocks=[0, 10, 16]), PROMPT_1000)
    assert pool[UNCACHED_TOKENS].tolist() == [1000, 360, 0]
    assert InflightLoadProducer().estimate_load(
        builders.build_request(attributes=PROMPT_1000), pool, 1
    ) == LoadEstimate(360.0)


def test_without_the_prefix_producer_nothing_is_cached() -> None:
    pool = weighed(builders.build_endpoints(2), {PROMPT: PROMPT_1000[PROMPT]})
    assert pool[UNCACHED_TOKENS].tolist() == [1000, 1000]


def test_without_a_prompt_the_weight_is_unknown_and_counts_as_nothing() -> None:
    pool = weighed(builders.build_endpoints(1), {})
    assert str(pool[UNCACHED_TOKENS].tolist()) == "[nan]"
    assert InflightLoadProducer().estimate_load(builders.build_request(), pool, 0) == LoadEstimate(0.0)


def test_where_the_column_failed_the_whole_prompt_is_charged() -> None:
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
def test_estimated_output(parameters: dict[str, Any], allowed: int | None, output: float) -> None:
    producer = InflightLoadProducer(add_estimated_output_tokens=True, **parameters)
    request = builders.build_request(attributes=PROMPT_1000, max_output_tokens=allowed)
    assert producer.estimate_load(request, builders.build_endpoints(uncached_tokens=[40]), 0) == LoadEstimate(
        40.0, output
    )
