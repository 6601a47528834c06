"""The engine step by step in virtual time: a step takes 1 s, and 1 ms for every token (conftest.UNIT)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from epp.errors import ConfigError
from epp.sim.engine import SimEngineConfig
from epp.sim.hardware import FAST

from .conftest import EngineRig

NewRig = Callable[..., EngineRig]


def test_an_idle_engine_has_no_step(new_rig: NewRig) -> None:
    assert new_rig().engine.step_ends_at is None


def test_one_request_gets_a_token_in_each_step(new_rig: NewRig) -> None:
    rig = new_rig()
    a = rig.add("a", "hello", 3)
    assert rig.engine.step_ends_at == pytest.approx(1.005)
    assert [rig.step(), rig.step(), rig.step()] == ["a", "a", "a"]
    assert (a.finish_reason, a.output_tokens, rig.engine.step_ends_at) == ("length", 3, None)
    assert a.first_token_at == pytest.approx(1.005)
    assert a.last_token_at == pytest.approx(1.005 + 2 * 1.001)


def test_a_request_that_arrives_during_a_step_joins_the_next(new_rig: NewRig) -> None:
    rig = new_rig()
    rig.add("a", "hello", 3)
    rig.clock.advance(0.5)
    b = rig.add("b", "world", 3)
    assert [rig.step(), rig.step(), rig.step(), rig.step()] == ["a", "ab", "ab", "b"]
    assert b.scheduled_at == pytest.approx(1.005)
    assert b.first_token_at == pytest.approx(1.005 + 1.006)  # a's decode and b's prompt in one step


def test_chunked_prefill_runs_beside_decodes(new_rig: NewRig) -> None:
    rig = new_rig(max_num_batched_tokens=10)
    rig.add("a", "hello", 9)
    rig.step()
    b = rig.add("b", "x" * 25, 1)
    assert rig.step() == "a"  # scheduled before b arrived
    seen = [(rig.step(), b.computed_tokens) for _ in range(3)]
    assert seen == [("a", 9), ("a", 18), ("ab", 25)]  # a's token first, nine of b's with it


def test_requests_are_scheduled_in_order_up_to_max_num_seqs(new_rig: NewRig) -> None:
    rig = new_rig(max_num_seqs=2)
    for name in "abc":
        rig.add(name, "hello", 2)
    assert rig.step() == "a"
    assert [request.request_id for request in rig.engine.waiting] == ["c"]
    assert [rig.step(), rig.step(), rig.step()] == ["ab", "bc", "c"]


def test_time_to_first_token_grows_with_the_queue(new_rig: NewRig) -> None:
    rig = new_rig(max_num_seqs=1)
    queue = [rig.add(str(index), "hello", 2) for index in range(4)]
    rig.finish()
    first = [request.first_token_at for request in queue]
    assert first == sorted(first)  # type: ignore[type-var]
    assert first[3] == pytest.approx(4 * 1.005 + 3 * 1.001 - 3 * 0.004)  # the last token alone is not in the cache


def test_without_free_blocks_the_youngest_is_preempted_and_recomputed(new_rig: NewRig) -> None:
    rig = new_rig(num_gpu_blocks=6)  # five blocks of four
    a, b = rig.add("a", "aaaaaaaa", 8), rig.add("b", "bbbbbbbb", 8)  # two blocks each, four each in the end
    assert rig.step() == "a"
    assert rig.engine.running == [a, b]
    assert rig.step() == "ab"  # a has ten tokens in three blocks, b needs a third for its ninth
    assert (rig.engine.running, list(rig.engine.waiting), b.preemption_count, b.computed_tokens) == ([a], [b], 1, 0)
    rig.finish()
    assert (a.output_tokens, b.output_tokens, b.finish_reason) == (8, 8, "length")
    assert (rig.engine.stats.preemptions, rig.engine.block_pool.usage) == (1, 0.0)
    assert rig.engine.stats.prefix_queries == 16  # the second admission is not counted


def test_usage_counts_blocks_in_use(new_rig: NewRig) -> None:
    rig = new_rig()
    rig.add("a", "x" * 10, 4)
    assert rig.engine.block_pool.usage == 0.03  # three of a hundred
    rig.finish()
    assert rig.engine.block_pool.usage == 0.0
    assert rig.engine.block_pool.cached_count == 3  # ten tokens and three of the answer's: the last token has no KV


def test_prefix_hits_are_full_blocks_without_the_last_token(new_rig: NewRig) -> None:
    rig = new_rig()
    for prompt, cached in [
        ("abcdefgh", 0),  # two full blocks
        ("abcdefgh", 4),  # both are there, but the last token has to be computed
        ("abcdefghi", 8),
        ("abcdefgX", 4),
        ("Xbcdefgh", 0),  # a hash covers everything before its block
    ]:
        request = rig.add("s", prompt, 1)
        rig.finish()
        assert request.cached_tokens == cached, prompt
    stats = rig.engine.stats
    assert (stats.prefix_queries, stats.prefix_hits) == (41, 16)
    assert (stats.prompt_tokens, stats.cached_tokens) == (41, 16)


def test_prefix_hits_equal_those_of_vllm(new_rig: NewRig) -> None:
    """Measured with vLLM 0.32, blocks of 32 tokens and one chat prompt of 332 tokens, sent four times."""
    rig = new_rig(block_size=32, max_num_batched_tokens=8192)
    counted = []
    for _ in range(4):
        rig.add("a", "x" * 332, 16)
        rig.finish()
        counted.append((rig.engine.stats.prefix_queries, rig.engine.stats.prefix_hits))
    assert counted == [(332, 0), (664, 320), (996, 640), (1328, 960)]


def test_requests_scheduled_in_one_step_share_their_prefix(new_rig: NewRig) -> None:
    rig = new_rig()
    rig.add("a", "x", 2)
    b, c = rig.add("b", "abcdefghi", 1), rig.add("c", "abcdefghj", 1)
    rig.step()
    assert (b.cached_tokens, c.cached_tokens) == (0, 8)
    assert b.blocks[:2] == c.blocks[:2]


def test_output_blocks_are_cached_for_the_next_turn(new_rig: NewRig) -> None:
    rig = new_rig()
    first = rig.add("a", "abcd", 9)
    rig.finish()
    assert len(first.block_hashes) == 3
    again = rig.add("b", "abcd", 1)
    again_cached = rig.engine.block_pool.find_longest_cache_hit(first.block_hashes, 9)
    assert len(again_cached) == 3
    assert again.cached_tokens == 0  # one full block, which holds the last token


def test_eviction_is_least_recently_used_first(new_rig: NewRig) -> None:
    rig = new_rig(num_gpu_blocks=5)
    hits = []
    for prompt in ["aaaaa", "bbbbb", "aaaaa", "ccccc", "aaaaa", "bbbbb"]:
        hits.append(rig.add("s", prompt, 1).cached_tokens)
        rig.finish()
    assert hits == [0, 0, 4, 0, 4, 0]


def test_cache_salt_and_adapter_separate_prefixes(new_rig: NewRig) -> None:
    rig = new_rig()
    hits = []
    for options in [
        {},
        {"cache_salt": "tenant"},
        {"lora_name": "l1"},
        {"cache_salt": "tenant"},
        {"lora_name": "l1"},
        {},
    ]:
        hits.append(rig.add("s", "abcdefgh", 1, **options).cached_tokens)
        rig.finish()
    assert hits == [0, 0, 0, 4, 4, 4]


def test_prefix_caching_can_be_disabled(new_rig: NewRig) -> None:
    rig = new_rig(enable_prefix_caching=False)
    for _ in range(2):
        rig.add("a", "abcdefgh", 1)
        rig.finish()
    assert (rig.engine.stats.prefix_hits, rig.engine.block_pool.cached_count) == (0, 0)


def test_abort_frees_blocks_during_a_step(new_rig: NewRig) -> None:
    rig = new_rig()
    a, b = rig.add("a", "x" * 10, 50), rig.add("b", "y" * 10, 2)
    rig.step()
    rig.abort(a)
    rig.abort(a)
    assert rig.engine.running == [b]
    rig.finish()
    assert (a.finish_reason, rig.engine.stats.finished_requests["abort"], rig.engine.block_pool.used_count) == (
        "abort",
        1,
        0,
    )


def test_abort_of_a_waiting_request(new_rig: NewRig) -> None:
    rig = new_rig(max_num_seqs=1)
    rig.add("a", "hello", 2)
    b = rig.add("b", "hello", 2)
    rig.abort(b)
    rig.finish()
    assert (b.output_tokens, b.scheduled_at, rig.engine.stats.finished_requests["length"]) == (0, None, 1)


def test_requests_without_a_lora_slot_are_deferred(new_rig: NewRig) -> None:
    rig = new_rig(max_loras=1)
    rig.add("a", "hello", 2, lora_name="l1")
    b = rig.add("b", "hello", 1, lora_name="l2")
    rig.add("c", "hello", 1)
    assert rig.step() == "a"
    assert (rig.engine.deferred_count, list(rig.engine.waiting)) == (1, [b])
    assert rig.step() == "ac"
    assert rig.step() == "b"
    assert list(rig.engine.stats.lora_states) == [("l1", ""), ("l2", ""), ("", "")]


def test_equal_requests_give_equal_steps(new_rig: NewRig) -> None:
    def run_steps() -> list[tuple[str, float]]:
        rig = new_rig(num_gpu_blocks=20, max_num_batched_tokens=12)
        for index in range(12):
            rig.add(chr(97 + index), "prefix" + str(index) * (index % 5), 1 + index % 7)
        steps = []
        while rig.engine.step_ends_at is not None:
            steps.append((rig.step(), rig.clock.now()))
        return steps

    assert run_steps() == run_steps()


def test_iteration_tokens_are_counted_as_by_vllm(new_rig: NewRig) -> None:
    rig = new_rig()
    rig.add("a", "abcdefgh", 3)
    rig.finish()
    rig.add("b", "abcdefgh", 2)
    rig.finish()
    stats = rig.engine.stats
    # computed prompt tokens (8 and 4) and every token of the answers, as in the capture of vLLM 0.32
    assert (stats.iteration_tokens.sum, stats.iteration_tokens.count) == (8 + 4 + 3 + 2, 5)
    assert stats.inter_token_latency.count == stats.generation_tokens - 2
    assert stats.prefill_computed_tokens.sum == 12
    assert stats.e2e_request_latency.count == stats.time_to_first_token.count == 2


def test_a_context_longer_than_the_cache_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"max_model_len: 4096 tokens do not fit in a KV cache of 1008"):
        SimEngineConfig(hardware=FAST, num_gpu_blocks=64, max_model_len=4096)


@pytest.mark.parametrize("name", ["block_size", "max_num_seqs", "max_num_batched_tokens", "time_scale"])
def test_options_must_be_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: must be positive"):
        SimEngineConfig(hardware=FAST, **{name: 0})  # type: ignore[arg-type]


def test_time_scale_divides_the_step_time(new_rig: NewRig) -> None:
    rig = new_rig(time_scale=10)
    rig.add("a", "hello", 1)
    assert rig.engine.step_ends_at == pytest.approx(0.1005)
