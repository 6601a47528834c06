"""Prefix hits as far as our own decisions tell them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec
import numpy as np
from numpy.typing import NDArray

from epp.api import (
    BLOCK_COUNT,
    BLOCK_SIZE,
    PREFIX_BLOCKS,
    PREFIX_INFO,
    PROMPT,
    Count,
    Endpoints,
    Fact,
    Need,
    PositiveCount,
    PrefixInfo,
    Produced,
    Producer,
    Prompt,
    Request,
)
from scorers.producers.prefix_index import Chain, PrefixIndex, chain

SMALLEST_BLOCK = 64
"""Tokens; llm-d raises every smaller block size to this, and so a block is a few of the engine's."""

PREFILL = "prefill"
RATIO_BOUNDS = tuple(tenth / 10 for tenth in range(11))
BYTES_BOUNDS = (0, *(16 << power for power in range(13)))


class Histogram:
    """Counts of observations by upper bound, as Prometheus has them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[int]:
        """Observations up to each bound, and all of them last."""
        return list(accumulate(self._counts))


class PrefixStats(msgspec.Struct, frozen=True):
    """For metrics. `blocks`: how many are indexed; the others: of each routed prompt, the part held where it went."""

    blocks: int
    hit_ratio: Histogram
    hit_bytes: Histogram


class ApproxPrefixCache(Producer, type="approx-prefix-cache-producer"):
    """How many leading blocks of the prompt each endpoint holds, assuming that it holds what we sent it last.

    Blocks are of `blockSizeTokens`, or with `autoTune` of the size that most endpoints report, never below 64 tokens;
    when that size changes, the index starts anew. Only the first `maxPrefixTokensToMatch` tokens count (if 0: the
    first `maxPrefixBlocksToMatch` blocks). An endpoint holds as much as its KV cache does by its own report
    (`autoTune`), else `lruCapacityPerServer` blocks. `blockSize` is an old name of `blockSizeTokens`.
    """

    needs = (PROMPT, BLOCK_SIZE, BLOCK_COUNT)
    gives = (PREFIX_BLOCKS, PREFIX_INFO)

    auto_tune: bool = True
    block_size_tokens: Count = 16
    block_size: Count = 0
    max_prefix_tokens_to_match: Count = 131_072
    max_prefix_blocks_to_match: Count = 2048
    lru_capacity_per_server: PositiveCount = 31_250

    def __post_init__(self) -> None:
        self._index = PrefixIndex()
        self._hashed = Fact("approx_prefix_chain", "blocks", "index and block hashes, from produce to picked")
        self._sizes = np.zeros(0, np.float32)
        self._counts = np.zeros(0, np.float32)
        self._capacities: dict[int, int] = {}
        self._seen = b""
        self._hit_ratio = Histogram(RATIO_BOUNDS)
        self._hit_bytes = Histogram(BYTES_BOUNDS)
        self._use_block(max(self.block_size_tokens, self.block_size))

    def wants(self) -> tuple[Need, ...]:
        return self.needs if self.auto_tune else (PROMPT,)

    def produce(self, request: Request, endpoints: Endpoints) -> Produced:
        if self.auto_tune:
            self._learn(endpoints)
        prompt: Prompt | None = request[PROMPT]
        hashes: Chain = []
        if prompt is not None:
            block_bytes = self._block * prompt.width
            hashes = chain(prompt.data, block_bytes, self._most, request.target_model, request.cache_salt)
        request.facts[self._hashed] = (self._index, hashes)
        return {
            PREFIX_BLOCKS: self._index.matches(hashes, endpoints.slots),
            PREFIX_INFO: PrefixInfo(len(hashes), self._block),
        }

    def picked(self, request: Request, chosen: Mapping[str, int]) -> None:
        """The first profile's endpoint (the primary one) and the prefill profile's will hold the prompt."""
        index, hashes = request.facts.get(self._hashed, (self._index, ()))
        if not hashes or not chosen:
            return
        primary = next(iter(chosen.values()))
        matched = index.touch(primary, hashes, self._capacity(primary))
        prompt: Prompt = request.facts[PROMPT]
        self._hit_ratio.observe(matched / len(hashes))
        self._hit_bytes.observe(min(matched * self._block * prompt.width, len(prompt.data)))
        prefill = chosen.get(PREFILL, primary)
        if prefill != primary:
            index.touch(prefill, hashes, self._capacity(prefill))

    def forgotten(self, slot: int) -> None:
        """The endpoint at this slot left the pool."""
        self._index.forget(slot)
        self._seen = b""
        self._capacities.clear()
        if slot < len(self._sizes):
            self._sizes[slot] = self._counts[slot] = 0

    def stats(self) -> PrefixStats:
        """Numbers for metrics; the histograms are live."""
        return PrefixStats(len(self._index), self._hit_ratio, self._hit_bytes)

    def _use_block(self, tokens: int) -> None:
        self._block = max(tokens, SMALLEST_BLOCK)
        by_tokens = self.max_prefix_tokens_to_match // self._block
        self._most = by_tokens if self.max_prefix_tokens_to_match else self.max_prefix_blocks_to_match

    def _capacity(self, slot: int) -> int:
        capacity = self._capacities.get(slot)
        if capacity is None:
            capacity = self._capacities[slot] = self._counted_capacity(slot)
        return capacity

    def _counted_capacity(self, slot: int) -> int:
        if slot < len(self._sizes):
            tokens = float(self._sizes[slot]) * float(self._counts[slot])
            if tokens > 0:
                return max(int(tokens) // self._block, 1)
        return self.lru_capacity_per_server

    def _learn(self, endpoints: Endpoints) -> None:
        """Block sizes and counts as reported; those of endpoints not seen at present are remembered."""
        memo = endpoints.memo
        if memo is not None:
            if self in memo:
                return
            memo[self] = endpoints[BLOCK_SIZE]
        slots, sizes, counts = endpoints.slots, endpoints[BLOCK_SIZE], endpoints[BLOCK_COUNT]
        seen = slots.tobytes() + sizes.tobytes() + counts.tobytes()
        if seen == self._seen:
            return
        self._seen = seen
        self._capacities.clear()
        self._remember(int(slots.max(initial=-1)) + 1)
        known = counts > 0
        self._counts[slots[known]] = counts[known]
        known = sizes > 0
        before: NDArray[np.float32] = self._sizes[slots[known]]
        if np.array_equal(before, sizes[known]):
            return
        self._sizes[slots[known]] = sizes[known]
        reported, votes = np.unique(self._sizes[self._sizes > 0], return_counts=True)
        block = self._block
        self._use_block(int(reported[np.argmax(votes)]))
        if self._block != block:
            self._index = PrefixIndex()

    def _remember(self, slots: int) -> None:
        more = slots - len(self._sizes)
        if more > 0:
            self._sizes = np.concatenate((self._sizes, np.zeros(more, np.float32)))
            self._counts = np.concatenate((self._counts, np.zeros(more, np.float32)))
