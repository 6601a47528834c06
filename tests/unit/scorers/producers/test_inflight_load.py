"""What a request weighs on each endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from epp.api import PREFIX_INFO, PROMPT, UNCACHED_TOKENS, Charge, Endpoints, PrefixInfo, Prompt
from epp.testing import builders, contracts
from scorers.producers.inflight_load import InflightLoad

NAN = float("nan")
PROMPT_1000 = {PROMPT: Prompt(b"x" * 4000, 1000), PREFIX_INFO: PrefixInfo(16, 64)}


def weighed(pool: Endpoints, facts: dict[Any, Any]) -> Endpoints:
    return pool.with_columns(InflightLoad().produce(builders.request(facts=facts), pool))


def test_contract() -> None:
    contracts.check_producer(InflightLoad())


def test_matched_blocks_need_not_be_computed() -> None:
    pool = weighed(builders.endpoints(prefix_blocks=[0, 10, 16]), PROMPT_1000)
    assert pool[UNCACHED_TOKENS].tolist() == [1000, 360, 0]
    assert InflightLoad().charge(builders.request(facts=PROMPT_1000), pool, 1) == Charge(360.0)


def test_without_the_prefix_producer_nothing_is_cached() -> None:
    pool = weighed(builders.endpoints(2), {PROMPT: PROMPT_1000[PROMPT]})
    assert pool[UNCACHED_TOKENS].tolist() == [1000, 1000]


def test_without_a_prompt_the_weight_is_unknown_and_counts_as_nothing() -> None:
    pool = weighed(builders.endpoints(1), {})
    assert str(pool[UNCACHED_TOKENS].tolist()) == "[nan]"
    assert InflightLoad().charge(builders.request(), pool, 0) == Charge(0.0)


def test_where_the_column_failed_the_whole_prompt_is_charged() -> None:
    request = builders.request(facts=PROMPT_1000)
    assert InflightLoad().charge(request, builders.endpoints(1), 0) == Charge(1000.0)


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
    producer = InflightLoad(add_estimated_output_tokens=True, **parameters)
    request = builders.request(facts=PROMPT_1000, max_output_tokens=allowed)
    assert producer.charge(request, builders.endpoints(uncached_tokens=[40]), 0) == Charge(40.0, output)
