"""Prefix hits as far as our own decisions tell them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from epp.api import (
    KV_BLOCK_COUNT,
    KV_BLOCK_SIZE,
    PREFIX_MATCH_BLOCKS,
    PREFIX_MATCH_INFO,
    PROMPT,
    BucketHistogram,
    Count,
    DataKey,
    Endpoints,
    PositiveCount,
    PrefixCacheStats,
    PrefixCacheStatsProvider,
    PrefixMatchInfo,
    ProducedData,
    Producer,
    Request,
    RequestAttribute,
    RequestHooks,
    TokenizedPrompt,
)
from scorers.producers.prefix_index import BlockHashes, PrefixIndex, hash_prompt_blocks

MIN_BLOCK_TOKENS = 64
"""Tokens; llm-d raises every smaller block size to this, and so a block is a few of the engine's."""

PREFILL_PROFILE = "prefill"
AUTO_TUNE_INPUTS: tuple[DataKey, ...] = (PROMPT, KV_BLOCK_SIZE, KV_BLOCK_COUNT)
RATIO_BOUNDS = tuple(tenth / 10 for tenth in range(11))
BYTES_BOUNDS = (0, *(16 << power for power in range(13)))


class ApproxPrefixCacheProducer(Producer, RequestHooks, PrefixCacheStatsProvider, type="approx-prefix-cache-producer"):
    """How many leading blocks of the prompt each endpoint holds, assuming that it holds what we sent it last.

    Blocks are of `blockSizeTokens`, or with `autoTune` of the size that most endpoints report, never below 64 tokens;
    when that size changes, the index starts anew. Only the first `maxPrefixTokensToMatch` tokens count (if 0: the
    first `maxPrefixBlocksToMatch` blocks). An endpoint holds as much as its KV cache does by its own report
    (`autoTune`), else `lruCapacityPerServer` blocks. `blockSize` is an old name of `blockSizeTokens`.
    """

    consumes = AUTO_TUNE_INPUTS
    produces = (PREFIX_MATCH_BLOCKS, PREFIX_MATCH_INFO)

    auto_tune: bool = True
    block_size_tokens: Count = 16
    block_size: Count = 0
    max_prefix_tokens_to_match: Count = 131_072
    max_prefix_blocks_to_match: Count = 2048
    lru_capacity_per_server: PositiveCount = 31_250

    def __post_init__(self) -> None:
        if not self.auto_tune:
            self.consumes = (PROMPT,)
        self._index = PrefixIndex()
        self._hashes_key = RequestAttribute(
            "approx_prefix_chain", "blocks", "index and block hashes, from produce to pre_request"
        )
        self._block_sizes = np.zeros(0, np.float32)
        self._block_counts = np.zeros(0, np.float32)
        self._capacities: dict[int, int] = {}
        self._last_reported = b""
        self._hit_ratio = BucketHistogram(RATIO_BOUNDS)
        self._hit_bytes = BucketHistogram(BYTES_BOUNDS)
        self._set_block_tokens(max(self.block_size_tokens, self.block_size))

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        if self.auto_tune:
            self._update_block_geometry(endpoints)
        prompt: TokenizedPrompt | None = request[PROMPT]
        hashes: BlockHashes = []
        if prompt is not None:
            block_bytes = self._block_tokens * prompt.bytes_per_token
            hashes = hash_prompt_blocks(
                prompt.data, block_bytes, self._max_blocks, request.target_model, request.cache_salt
            )
        request.attributes[self._hashes_key] = (self._index, hashes)
        return {
            PREFIX_MATCH_BLOCKS: self._index.match_lengths(hashes, endpoints.slots),
            PREFIX_MATCH_INFO: PrefixMatchInfo(len(hashes), self._block_tokens),
        }

    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None:
        """The first profile's endpoint (the primary one) and the prefill profile's will hold the prompt."""
        index, hashes = request.attributes.get(self._hashes_key, (self._index, ()))
        if not hashes or not chosen:
            return
        primary = next(iter(chosen.values()))
        matched = index.touch(primary, hashes, self._capacity_of(primary))
        prompt: TokenizedPrompt = request.attributes[PROMPT]
        self._hit_ratio.observe(matched / len(hashes))
        self._hit_bytes.observe(min(matched * self._block_tokens * prompt.bytes_per_token, len(prompt.data)))
        prefill = chosen.get(PREFILL_PROFILE, primary)
        if prefill != primary:
            index.touch(prefill, hashes, self._capacity_of(prefill))

    def endpoint_removed(self, slot: int) -> None:
        """The endpoint at this slot left the pool."""
        self._index.remove_slot(slot)
        self._last_reported = b""
        self._capacities.clear()
        if slot < len(self._block_sizes):
            self._block_sizes[slot] = self._block_counts[slot] = 0

    def prefix_cache_stats(self) -> PrefixCacheStats:
        """Numbers for metrics; the histograms are live."""
        return PrefixCacheStats(len(self._index), self._hit_ratio, self._hit_bytes)

    def _set_block_tokens(self, tokens: int) -> None:
        self._block_tokens = max(tokens, MIN_BLOCK_TOKENS)
        by_tokens = self.max_prefix_tokens_to_match // self._block_tokens
        self._max_blocks = by_tokens if self.max_prefix_tokens_to_match else self.max_prefix_blocks_to_match

    def _capacity_of(self, slot: int) -> int:
        capacity = self._capacities.get(slot)
        if capacity is None:
            capacity = self._capacities[slot] = self._compute_capacity(slot)
        return capacity

    def _compute_capacity(self, slot: int) -> int:
        if slot < len(self._block_sizes):
            tokens = float(self._block_sizes[slot]) * float(self._block_counts[slot])
            if tokens > 0:
                return max(int(tokens) // self._block_tokens, 1)
        return self.lru_capacity_per_server

    def _update_block_geometry(self, endpoints: Endpoints) -> None:
        """Block sizes and counts as reported; those of endpoints not seen at present are remembered."""
        memo = endpoints.memo
        if memo is not None:
            if self in memo:
                return
            memo[self] = endpoints[KV_BLOCK_SIZE]
        slots, sizes, counts = endpoints.slots, endpoints[KV_BLOCK_SIZE], endpoints[KV_BLOCK_COUNT]
        seen = slots.tobytes() + sizes.tobytes() + counts.tobytes()
        if seen == self._last_reported:
            return
        self._last_reported = seen
        self._capacities.clear()
        self._grow_to(int(slots.max(initial=-1)) + 1)
        known = counts > 0
        self._block_counts[slots[known]] = counts[known]
        known = sizes > 0
        before: NDArray[np.float32] = self._block_sizes[slots[known]]
        if np.array_equal(before, sizes[known]):
            return
        self._block_sizes[slots[known]] = sizes[known]
        reported, votes = np.unique(self._block_sizes[self._block_sizes > 0], return_counts=True)
        block = self._block_tokens
        self._set_block_tokens(int(reported[np.argmax(votes)]))
        if self._block_tokens != block:
            self._index = PrefixIndex()

    def _grow_to(self, slots: int) -> None:
        more = slots - len(self._block_sizes)
        if more > 0:
            self._block_sizes = np.concatenate((self._block_sizes, np.zeros(more, np.float32)))
            self._block_counts = np.concatenate((self._block_counts, np.zeros(more, np.float32)))
