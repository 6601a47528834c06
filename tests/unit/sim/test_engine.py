"""The scheduler, step by step in virtual time: a step takes 1 s and 1 ms for every token (conftest.UNIT)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from epp.errors import ConfigError
from epp.sim.engine import SimEngineConfig
from epp.sim.hardware import FAST

from .conftest import Bench

Make = Callable[..., Bench]


def test_idle_engine_has_nothing_due(bench: Make) -> None:
    assert bench().engine.step_ends_at is None


def test_a_lone_request_gets_a_token_a_step(bench: Make) -> None:
    it = bench()
    a = it.add("a", "hello", 3)
    assert it.engine.step_ends_at == pytest.approx(1.005)
    assert [it.step(), it.step(), it.step()] == ["a", "a", "a"]
    assert (a.finish_reason, a.output_tokens, it.engine.step_ends_at) == ("length", 3, None)
    assert a.first_token_at == pytest.approx(1.005)
    assert a.last_token_at == pytest.approx(1.005 + 2 * 1.001)


def test_who_arrives_during_a_step_joins_the_next(bench: Make) -> None:
    it = bench()
    it.add("a", "hello", 3)
    it.clock.advance(0.5)
    b = it.add("b", "world", 3)
    assert [it.step(), it.step(), it.step(), it.step()] == ["a", "ab", "ab", "b"]
    assert b.scheduled_at == pytest.approx(1.005)
    assert b.first_token_at == pytest.approx(1.005 + 1.006)  # a's decode and b's prompt in one step


def test_a_long_prompt_in_chunks_does_not_stop_decodes(bench: Make) -> None:
    it = bench(max_num_batched_tokens=10)
    it.add("a", "hello", 9)
    it.step()
    b = it.add("b", "x" * 25, 1)
    assert it.step() == "a"  # planned before b came
    seen = [(it.step(), b.computed_tokens) for _ in range(3)]
    assert seen == [("a", 9), ("a", 18), ("ab", 25)]  # a's token first, nine of b's with it


def test_first_come_first_served_up_to_max_num_seqs(bench: Make) -> None:
    it = bench(max_num_seqs=2)
    for name in "abc":
        it.add(name, "hello", 2)
    assert it.step() == "a"
    assert [sequence.request_id for sequence in it.engine.waiting] == ["c"]
    assert [it.step(), it.step(), it.step()] == ["ab", "bc", "c"]


def test_time_to_first_token_grows_with_the_queue(bench: Make) -> None:
    it = bench(max_num_seqs=1)
    queue = [it.add(str(index), "hello", 2) for index in range(4)]
    it.finish()
    first = [sequence.first_token_at for sequence in queue]
    assert first == sorted(first)  # type: ignore[type-var]
    assert first[3] == pytest.approx(4 * 1.005 + 3 * 1.001 - 3 * 0.004)  # the last token alone is not in the cache


def test_the_youngest_is_preempted_when_blocks_run_out_and_computed_again(bench: Make) -> None:
    it = bench(num_gpu_blocks=6)  # five blocks of four
    a, b = it.add("a", "aaaaaaaa", 8), it.add("b", "bbbbbbbb", 8)  # two blocks each, four each in the end
    assert it.step() == "a"
    assert it.engine.running == [a, b]
    assert it.step() == "ab"  # a has ten tokens in three blocks, b needs a third for its ninth
    assert (it.engine.running, list(it.engine.waiting), b.preemption_count, b.computed_tokens) == ([a], [b], 1, 0)
    it.finish()
    assert (a.output_tokens, b.output_tokens, b.finish_reason) == (8, 8, "length")
    assert (it.engine.stats.preemptions, it.engine.block_pool.usage) == (1, 0.0)
    assert it.engine.stats.prefix_queries == 16  # the second admission is not counted


def test_usage_counts_blocks_held_and_returns_to_zero(bench: Make) -> None:
    it = bench()
    it.add("a", "x" * 10, 4)
    assert it.engine.block_pool.usage == 0.03  # three of a hundred
    it.finish()
    assert it.engine.block_pool.usage == 0.0
    assert it.engine.block_pool.cached_count == 3  # ten tokens and three of the answer's: the last token has no KV


def test_prefix_hits_count_full_blocks_and_never_the_last_token(bench: Make) -> None:
    it = bench()
    for prompt, cached in [
        ("abcdefgh", 0),  # two full blocks
        ("abcdefgh", 4),  # both are there, but the last token has to be computed
        ("abcdefghi", 8),
        ("abcdefgX", 4),
        ("Xbcdefgh", 0),  # a hash covers everything before its block
    ]:
        sequence = it.add("s", prompt, 1)
        it.finish()
        assert sequence.cached_tokens == cached, prompt
    stats = it.engine.stats
    assert (stats.prefix_queries, stats.prefix_hits) == (41, 16)
    assert (stats.prompt_tokens, stats.cached_tokens) == (41, 16)


def test_hits_are_those_that_real_vllm_counted(bench: Make) -> None:
    """vLLM 0.32 with blocks of 32 and one chat prompt of 332 tokens, asked four times."""
    it = bench(block_size=32, max_num_batched_tokens=8192)
    counted = []
    for _ in range(4):
        it.add("a", "x" * 332, 16)
        it.finish()
        counted.append((it.engine.stats.prefix_queries, it.engine.stats.prefix_hits))
    assert counted == [(332, 0), (664, 320), (996, 640), (1328, 960)]


def test_prompts_in_one_step_share_their_prefix(bench: Make) -> None:
    it = bench()
    it.add("a", "x", 2)
    b, c = it.add("b", "abcdefghi", 1), it.add("c", "abcdefghj", 1)
    it.step()
    assert (b.cached_tokens, c.cached_tokens) == (0, 8)
    assert b.blocks[:2] == c.blocks[:2]


def test_the_answer_is_cached_for_the_next_turn(bench: Make) -> None:
    it = bench()
    first = it.add("a", "abcd", 9)
    it.finish()
    assert len(first.block_hashes) == 3
    again = it.add("b", "abcd", 1)
    again_cached = it.engine.block_pool.find_longest_cache_hit(first.block_hashes, 9)
    assert len(again_cached) == 3
    assert again.cached_tokens == 0  # one full block, which holds the last token


def test_old_prefixes_are_evicted_least_recently_used_first(bench: Make) -> None:
    it = bench(num_gpu_blocks=5)
    hits = []
    for prompt in ["aaaaa", "bbbbb", "aaaaa", "ccccc", "aaaaa", "bbbbb"]:
        hits.append(it.add("s", prompt, 1).cached_tokens)
        it.finish()
    assert hits == [0, 0, 4, 0, 4, 0]


def test_salt_and_adapter_separate_prefixes(bench: Make) -> None:
    it = bench()
    hits = []
    for options in [{}, {"salt": "tenant"}, {"adapter": "l1"}, {"salt": "tenant"}, {"adapter": "l1"}, {}]:
        hits.append(it.add("s", "abcdefgh", 1, **options).cached_tokens)
        it.finish()
    assert hits == [0, 0, 0, 4, 4, 4]


def test_prefix_caching_can_be_off(bench: Make) -> None:
    it = bench(enable_prefix_caching=False)
    for _ in range(2):
        it.add("a", "abcdefgh", 1)
        it.finish()
    assert (it.engine.stats.prefix_hits, it.engine.block_pool.cached_count) == (0, 0)


def test_abort_frees_blocks_and_lets_the_step_end(bench: Make) -> None:
    it = bench()
    a, b = it.add("a", "x" * 10, 50), it.add("b", "y" * 10, 2)
    it.step()
    it.abort(a)
    it.abort(a)
    assert it.engine.running == [b]
    it.finish()
    assert (a.finish_reason, it.engine.stats.finished_requests["abort"], it.engine.block_pool.used_count) == (
        "abort",
        1,
        0,
    )


def test_abort_while_waiting(bench: Make) -> None:
    it = bench(max_num_seqs=1)
    it.add("a", "hello", 2)
    b = it.add("b", "hello", 2)
    it.abort(b)
    it.finish()
    assert (b.output_tokens, b.scheduled_at, it.engine.stats.finished_requests["length"]) == (0, None, 1)


def test_adapters_beyond_max_loras_are_passed_over(bench: Make) -> None:
    it = bench(max_loras=1)
    it.add("a", "hello", 2, adapter="l1")
    b = it.add("b", "hello", 1, adapter="l2")
    it.add("c", "hello", 1)
    assert it.step() == "a"
    assert (it.engine.deferred_count, list(it.engine.waiting)) == (1, [b])
    assert it.step() == "ac"
    assert it.step() == "b"
    assert list(it.engine.stats.lora_states) == [("l1", ""), ("l2", ""), ("", "")]


def test_same_requests_same_story(bench: Make) -> None:
    def story() -> list[tuple[str, float]]:
        it = bench(num_gpu_blocks=20, max_num_batched_tokens=12)
        for index in range(12):
            it.add(chr(97 + index), "prefix" + str(index) * (index % 5), 1 + index % 7)
        steps = []
        while it.engine.step_ends_at is not None:
            steps.append((it.step(), it.clock.now()))
        return steps

    assert story() == story()


def test_a_batch_counts_what_vllm_counts(bench: Make) -> None:
    it = bench()
    it.add("a", "abcdefgh", 3)
    it.finish()
    it.add("b", "abcdefgh", 2)
    it.finish()
    stats = it.engine.stats
    # computed prompt tokens (8 and 4) and every token of the answers, as in the capture of vLLM 0.32
    assert (stats.iteration_tokens.sum, stats.iteration_tokens.count) == (8 + 4 + 3 + 2, 5)
    assert stats.inter_token_latency.count == stats.generation_tokens - 2
    assert stats.prefill_computed_tokens.sum == 12
    assert stats.e2e_request_latency.count == stats.time_to_first_token.count == 2


def test_a_context_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_model_len: 4096 tokens do not fit in a KV cache of 1008"):
        SimEngineConfig(hardware=FAST, num_gpu_blocks=64, max_model_len=4096)


@pytest.mark.parametrize("name", ["block_size", "max_num_seqs", "max_num_batched_tokens", "time_scale"])
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: must be positive"):
        SimEngineConfig(hardware=FAST, **{name: 0})  # type: ignore[arg-type]


def test_time_scale_is_the_speed(bench: Make) -> None:
    it = bench(time_scale=10)
    it.add("a", "hello", 1)
    assert it.engine.step_ends_at == pytest.approx(0.1005)
