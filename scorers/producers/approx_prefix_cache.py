"""Producer of prefix-cache matches, derived from the picker's own routing decisions."""

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
"""llm-d raises every smaller block size to this; so one block here may be several blocks of the engine."""

PREFILL_PROFILE = "prefill"
"""llm-d's experimentalDefaultPrefillProfile: its endpoint computes the prompt in disaggregated serving."""

AUTO_TUNE_INPUTS: tuple[DataKey, ...] = (PROMPT, KV_BLOCK_SIZE, KV_BLOCK_COUNT)
# Buckets of llm-d's prefix_indexer_hit_ratio and prefix_indexer_hit_bytes.
HIT_RATIO_BOUNDS = tuple(tenth / 10 for tenth in range(11))
HIT_BYTES_BOUNDS = (0, *(16 << power for power in range(13)))


class ApproxPrefixCacheProducer(Producer, RequestHooks, PrefixCacheStatsProvider, type="approx-prefix-cache-producer"):
    """Produce the blocks of the prompt that each endpoint's prefix cache holds, by the prompts routed to it before.

    A block has `blockSizeTokens` tokens, or with `autoTune` as many as most endpoints report, and never fewer than 64;
    when the size changes, the index is emptied. Only the first `maxPrefixTokensToMatch` tokens are matched (if 0: the
    first `maxPrefixBlocksToMatch` blocks). An endpoint is assumed to hold as many tokens as the KV cache it reports
    (`autoTune`), otherwise `lruCapacityPerServer` blocks. `blockSize` is an old name of `blockSizeTokens`.
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
            "approx_prefix_chain", "blocks", "the index and the block hashes of the prompt, for pre_request"
        )
        self._block_sizes = np.zeros(0, np.float32)
        self._block_counts = np.zeros(0, np.float32)
        self._capacities: dict[int, int] = {}
        self._last_reported = b""
        self._hit_ratio = BucketHistogram(HIT_RATIO_BOUNDS)
        self._hit_bytes = BucketHistogram(HIT_BYTES_BOUNDS)
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
        # With the index that the hashes fit: another block size may empty it before the request is routed.
        request.attributes[self._hashes_key] = (self._index, hashes)
        return {
            PREFIX_MATCH_BLOCKS: self._index.match_lengths(hashes, endpoints.slots),
            PREFIX_MATCH_INFO: PrefixMatchInfo(len(hashes), self._block_tokens),
        }

    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None:
        """Records the prompt for the primary profile's endpoint and for the prefill profile's, as llm-d does."""
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
        self._index.remove_slot(slot)
        self._last_reported = b""
        self._capacities.clear()
        if slot < len(self._block_sizes):
            self._block_sizes[slot] = self._block_counts[slot] = 0

    def prefix_cache_stats(self) -> PrefixCacheStats:
        return PrefixCacheStats(len(self._index), self._hit_ratio, self._hit_bytes)

    def _set_block_tokens(self, tokens: int) -> None:
        # The limit in tokens wins if both are set (llm-d: resolveMaxBlocks).
        self._block_tokens = max(tokens, MIN_BLOCK_TOKENS)
        if self.max_prefix_tokens_to_match:
            self._max_blocks = self.max_prefix_tokens_to_match // self._block_tokens
        else:
            self._max_blocks = self.max_prefix_blocks_to_match

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
        """Reads the reported block sizes and counts; the last ones of endpoints that are not candidates are kept.

        The block size is that of the pool, not of the candidates: a subset hint must not empty the index.
        """
        memo = endpoints.memo
        if memo is not None:
            if self in memo:
                return  # this snapshot has been read
            memo[self] = True
        slots, sizes, counts = endpoints.slots, endpoints[KV_BLOCK_SIZE], endpoints[KV_BLOCK_COUNT]
        reported = slots.tobytes() + sizes.tobytes() + counts.tobytes()
        if reported == self._last_reported:
            return
        self._last_reported = reported
        self._capacities.clear()
        self._grow_to(int(slots.max(initial=-1)) + 1)
        known = counts > 0
        self._block_counts[slots[known]] = counts[known]
        known = sizes > 0
        before: NDArray[np.float32] = self._block_sizes[slots[known]]
        if np.array_equal(before, sizes[known]):
            return
        self._block_sizes[slots[known]] = sizes[known]
        block_sizes, endpoints_of_size = np.unique(self._block_sizes[self._block_sizes > 0], return_counts=True)
        block_tokens_before = self._block_tokens
        self._set_block_tokens(int(block_sizes[np.argmax(endpoints_of_size)]))
        if self._block_tokens != block_tokens_before:
            self._index = PrefixIndex()

    def _grow_to(self, slot_count: int) -> None:
        missing = slot_count - len(self._block_sizes)
        if missing > 0:
            self._block_sizes = np.concatenate((self._block_sizes, np.zeros(missing, np.float32)))
            self._block_counts = np.concatenate((self._block_counts, np.zeros(missing, np.float32)))
