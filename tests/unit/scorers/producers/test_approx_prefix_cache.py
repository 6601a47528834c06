"""The approximate prefix-cache producer: block sizes, capacities, and what routing decisions add to its index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from epp.api import PREFIX_MATCH_BLOCKS, PREFIX_MATCH_INFO, PROMPT, Endpoints, PrefixMatchInfo, Request, TokenizedPrompt
from epp.testing import builders, contracts
from scorers.producers.approx_prefix_cache import ApproxPrefixCacheProducer

NAN = float("nan")


def build_prompt(blocks: float, *, start: bytes = b"a", block_tokens: int = 64) -> TokenizedPrompt:
    """A prompt of so many unlike blocks; prompts with the same start share all blocks but partial ones."""
    tokens = int(blocks * block_tokens)
    return TokenizedPrompt(b"".join(start + i.to_bytes(3, "big") for i in range(tokens)), tokens)


def match_prompt(
    producer: ApproxPrefixCacheProducer, prompt: TokenizedPrompt | None, pool: Endpoints, **fields: Any
) -> tuple[list[float], Request]:
    """Matched blocks of each endpoint, and the request with what the producer left on it."""
    request = builders.build_request(attributes={} if prompt is None else {PROMPT: prompt}, **fields)
    produced = producer.produce(request, pool)
    request.attributes[PREFIX_MATCH_INFO] = produced[PREFIX_MATCH_INFO]
    return produced[PREFIX_MATCH_BLOCKS].tolist(), request


def match_and_route(
    producer: ApproxPrefixCacheProducer, prompt: TokenizedPrompt, pool: Endpoints, slot: int, **fields: Any
) -> list[float]:
    matched, request = match_prompt(producer, prompt, pool, **fields)
    producer.pre_request(request, {"default": slot})
    return matched


def test_contract() -> None:
    contracts.check_producer(ApproxPrefixCacheProducer())
    contracts.check_producer(ApproxPrefixCacheProducer(auto_tune=False))


def test_a_prompt_matches_at_the_endpoint_it_was_routed_to() -> None:
    producer, pool = ApproxPrefixCacheProducer(), builders.build_endpoints(3)
    assert match_and_route(producer, build_prompt(3), pool, 1) == [0, 0, 0]
    assert match_prompt(producer, build_prompt(5), pool)[0] == [0, 3, 0]
    assert match_prompt(producer, build_prompt(5, start=b"b"), pool)[0] == [0, 0, 0]
    assert match_prompt(producer, build_prompt(5), pool, model="adapter")[0] == [0, 0, 0]
    assert match_prompt(producer, build_prompt(5), pool, cache_salt="s")[0] == [0, 0, 0]


def test_the_prompt_is_recorded_for_the_primary_and_the_prefill_profile() -> None:
    producer, pool = ApproxPrefixCacheProducer(), builders.build_endpoints(4)
    _, request = match_prompt(producer, build_prompt(3), pool)
    producer.pre_request(request, {"decode": 0, "prefill": 1, "encode": 2})
    assert match_prompt(producer, build_prompt(3), pool)[0] == [3, 3, 0, 0]


def test_without_a_prompt_nothing_matches() -> None:
    producer, pool = ApproxPrefixCacheProducer(), builders.build_endpoints(2)
    matched, request = match_prompt(producer, None, pool)
    producer.pre_request(request, {"default": 0})
    assert matched == [0, 0]
    assert request[PREFIX_MATCH_INFO] == PrefixMatchInfo(0, 64)


@pytest.mark.parametrize(
    ("parameters", "sizes", "block"),
    [
        ({}, [NAN, NAN, NAN], 64),
        ({}, [16, 16, 16], 64),
        ({}, [128, NAN, NAN], 128),
        ({}, [NAN, 128, 256], 128),
        ({}, [128, 256, 256], 256),
        ({"block_size_tokens": 256}, [NAN, NAN, NAN], 256),
        ({"auto_tune": False}, [128, 128, 128], 64),
        ({"auto_tune": False, "block_size_tokens": 16}, [NAN] * 3, 64),
        ({"auto_tune": False, "block_size_tokens": 100}, [NAN] * 3, 100),
        ({"auto_tune": False, "block_size": 100}, [NAN] * 3, 100),
    ],
)
def test_the_block_size_is_configured_or_the_most_reported_one(
    parameters: dict[str, Any], sizes: list[float], block: int
) -> None:
    _, request = match_prompt(
        ApproxPrefixCacheProducer(**parameters), build_prompt(8), builders.build_endpoints(block_size=sizes)
    )
    assert request[PREFIX_MATCH_INFO] == PrefixMatchInfo(-(-8 * 64 // block), block)


def test_the_block_size_is_that_of_the_pool_not_of_the_candidates() -> None:
    producer = ApproxPrefixCacheProducer()
    pool = builders.build_endpoints(block_size=[128, 128, 256])
    match_and_route(producer, build_prompt(4, block_tokens=128), pool, 0)
    few = pool.select(np.array([False, False, True]))
    assert match_prompt(producer, build_prompt(4), few)[1][PREFIX_MATCH_INFO].block_size_tokens == 128
    assert match_prompt(producer, build_prompt(4, block_tokens=128), pool)[0] == [4, 0, 0], "nothing was lost"


def test_another_block_size_empties_the_index_and_an_unknown_one_does_not() -> None:
    producer = ApproxPrefixCacheProducer()
    match_and_route(producer, build_prompt(4), builders.build_endpoints(block_size=[16, 16]), 0)
    assert match_prompt(producer, build_prompt(4), builders.build_endpoints(block_size=[NAN, NAN]))[0] == [4, 0]
    _, late = match_prompt(producer, build_prompt(4), builders.build_endpoints(block_size=[16, 16]))
    assert match_prompt(producer, build_prompt(4), builders.build_endpoints(block_size=[128, 128]))[0] == [0, 0]
    producer.pre_request(late, {"default": 0})
    assert producer.prefix_cache_stats().blocks == 0, "hashes of blocks of the old size are not added to the new index"


@pytest.mark.parametrize(
    ("parameters", "block_size", "block_count", "held"),
    [
        ({}, 16, 40, 10),  # 640 tokens are 10 blocks of 64
        ({}, 128, 7, 7),
        ({}, 16, 1, 1),
        ({}, 16, NAN, 31_250),
        ({"lru_capacity_per_server": 5}, NAN, NAN, 5),
        ({"lru_capacity_per_server": 5, "auto_tune": False}, 16, 40, 5),
    ],
)
def test_the_capacity_is_the_reported_kv_cache_or_configured(
    parameters: dict[str, Any], block_size: float, block_count: float, held: int
) -> None:
    producer = ApproxPrefixCacheProducer(**parameters)
    pool = builders.build_endpoints(block_size=[block_size], block_count=[block_count])
    match_and_route(producer, build_prompt(30, block_tokens=128), pool, 0)
    total = match_prompt(producer, build_prompt(30, block_tokens=128), pool)[1][PREFIX_MATCH_INFO].total_blocks
    assert match_prompt(producer, build_prompt(30, block_tokens=128), pool)[0] == [min(held, total)]


@pytest.mark.parametrize(
    ("parameters", "total"),
    [
        ({}, 40),
        ({"max_prefix_tokens_to_match": 640}, 10),
        ({"max_prefix_tokens_to_match": 0, "max_prefix_blocks_to_match": 7}, 7),
        ({"max_prefix_tokens_to_match": 640, "max_prefix_blocks_to_match": 7}, 10),
    ],
)
def test_long_prompts_are_matched_up_to_the_configured_limit(parameters: dict[str, Any], total: int) -> None:
    producer = ApproxPrefixCacheProducer(**parameters)
    assert (
        match_prompt(producer, build_prompt(40), builders.build_endpoints(1))[1][PREFIX_MATCH_INFO].total_blocks
        == total
    )


def test_a_removed_endpoint_matches_nothing() -> None:
    producer = ApproxPrefixCacheProducer()
    pool = builders.build_endpoints(block_size=[16, 16], block_count=[40, 40])
    match_and_route(producer, build_prompt(4), pool, 1)
    producer.endpoint_removed(1)
    producer.endpoint_removed(99)
    assert match_prompt(producer, build_prompt(4), pool)[0] == [0, 0]


def test_two_instances_have_separate_indexes() -> None:
    one, other, pool = ApproxPrefixCacheProducer(), ApproxPrefixCacheProducer(), builders.build_endpoints(1)
    request = builders.build_request(attributes={PROMPT: build_prompt(3)})
    for producer in (one, other):
        producer.produce(request, pool)
    one.pre_request(request, {"default": 0})
    assert (one.prefix_cache_stats().blocks, other.prefix_cache_stats().blocks) == (3, 0)


def test_prefix_cache_stats() -> None:
    producer, pool = ApproxPrefixCacheProducer(), builders.build_endpoints(1)
    match_and_route(producer, build_prompt(3), pool, 0)
    match_and_route(producer, build_prompt(6), pool, 0)
    stats = producer.prefix_cache_stats()
    assert stats.blocks == 6
    assert stats.hit_ratio.sum == 0.5
    assert stats.hit_ratio.cumulative() == [1] * 5 + [2] * 7
    assert stats.hit_bytes.sum == 3 * 256
