"""The KV cache of one engine, after vLLM V1's `BlockPool` (vllm/v1/core/block_pool.py).

Blocks have reference counts and are found again by chained hashes (kv_cache_utils.hash_block_tokens). As in vLLM:
blocks never used before are allocated before cached ones; a freed block keeps its content and joins the end of the
free queue, the last block of a request before its first, so that a prefix is evicted from its tail
(`FreeKVCacheBlockQueue`); a block with references is never evicted; blocks of equal content are not de-duplicated
(`BlockHashToBlockMap`). Simplified: a freed block without cached content, such as the partial one at the end of a
request, joins the end of the queue too; vLLM 0.32's `free_blocks` reuses it first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import xxhash

ROOT_HASH = 0
"""The parent of a first block, for requests without LoRA adapter and cache salt."""


def hash_block(parent: int, data: bytes | memoryview) -> int:
    """The hash of a block whose predecessor has the hash `parent`: equal only if everything before it is equal too."""
    return int(xxhash.xxh3_64_intdigest(data, seed=parent))


def root_hash(lora_name: str, cache_salt: str) -> int:
    """The parent of a first block. Requests with different adapters or salts share no block.

    vLLM's `generate_block_hash_extra_keys` has the same effect.
    """
    if not lora_name and not cache_salt:
        return ROOT_HASH
    return int(xxhash.xxh3_64_intdigest(f"{lora_name}\0{cache_salt}".encode()))


def hash_full_blocks(data: bytes, block_bytes: int, parent: int) -> list[int]:
    """The hashes of the blocks of `block_bytes` each in `data`; a partial block at the end has none."""
    view = memoryview(data)
    hashes = []
    for start in range(0, len(data) - block_bytes + 1, block_bytes):
        parent = hash_block(parent, view[start : start + block_bytes])
        hashes.append(parent)
    return hashes


class BlockPool:
    """`capacity` blocks, which are small ints. A caller holds one reference to each block that it was given."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._reference_counts: list[int] = []  # by block; grows as blocks are used for the first time
        self._block_hashes: list[int | None] = []  # by block; None: its content is not cached
        self._free_queue: OrderedDict[int, None] = OrderedDict()  # used before, no references; next to evict first
        self._block_by_hash: dict[int, int] = {}
        self._duplicates: dict[int, list[int]] = {}  # by hash: further blocks with the same content

    @property
    def free_count(self) -> int:
        """Blocks without references, those with cached content included."""
        return self.capacity - len(self._reference_counts) + len(self._free_queue)

    @property
    def used_count(self) -> int:
        """Blocks with references."""
        return len(self._reference_counts) - len(self._free_queue)

    @property
    def cached_count(self) -> int:
        """Distinct block contents in the prefix cache."""
        return len(self._block_by_hash)

    @property
    def usage(self) -> float:
        """Share of blocks with references, 0 to 1. Free blocks with cached content do not count, as in vLLM."""
        return self.used_count / self.capacity

    def reference_count(self, block: int) -> int:
        """References to this block."""
        return self._reference_counts[block]

    def find_longest_cache_hit(self, hashes: Sequence[int], limit: int) -> list[int]:
        """The cached blocks of the longest prefix of `hashes`, at most `limit`. Adds no reference."""
        cached = self._block_by_hash
        hit: list[int] = []
        for block_hash in hashes[:limit]:
            block = cached.get(block_hash)
            if block is None:
                break
            hit.append(block)
        return hit

    def can_allocate(self, hit: Iterable[int], new: int) -> bool:
        """Whether `touch(hit)` leaves `new` blocks to allocate: blocks of the hit may be free ones themselves."""
        counts = self._reference_counts
        return new + sum(counts[block] == 0 for block in hit) <= self.free_count

    def touch(self, blocks: Iterable[int]) -> None:
        """Adds a reference to each cached block, which protects it from eviction."""
        for block in blocks:
            if self._reference_counts[block] == 0:
                del self._free_queue[block]
            self._reference_counts[block] += 1

    def allocate(self, count: int) -> list[int]:
        """`count` blocks with one reference each, evicting cached content if need be; ValueError above `free_count`."""
        if count > self.free_count:
            raise ValueError(f"cannot allocate {count} blocks: {self.free_count} are free")
        return [self._allocate_block() for _ in range(count)]

    def cache_block(self, block: int, block_hash: int) -> None:
        """Adds a full block to the prefix cache."""
        if self._block_hashes[block] is not None:
            raise ValueError(f"block {block} is cached already")
        self._block_hashes[block] = block_hash
        if self._block_by_hash.setdefault(block_hash, block) != block:
            self._duplicates.setdefault(block_hash, []).append(block)

    def release(self, blocks: Sequence[int]) -> None:
        """Removes one reference from each of a request's blocks, the last first (`SingleTypeKVCacheManager.free`)."""
        for block in reversed(blocks):
            count = self._reference_counts[block] - 1
            if count < 0:
                raise ValueError(f"block {block} has no reference to release")
            self._reference_counts[block] = count
            if count == 0:
                self._free_queue[block] = None

    def reset_prefix_cache(self) -> None:
        """Forgets all cached content, also that of blocks in use, for which vLLM's `reset_prefix_cache` refuses."""
        self._block_by_hash.clear()
        self._duplicates.clear()
        self._block_hashes = [None] * len(self._block_hashes)

    def _allocate_block(self) -> int:
        if len(self._reference_counts) < self.capacity:
            self._reference_counts.append(1)
            self._block_hashes.append(None)
            return len(self._reference_counts) - 1
        block, _ = self._free_queue.popitem(last=False)
        self._reference_counts[block] = 1
        if (block_hash := self._block_hashes[block]) is not None:
            self._block_hashes[block] = None
            self._evict_cached_block(block, block_hash)
        return block

    def _evict_cached_block(self, block: int, block_hash: int) -> None:
        """Removes the block from the prefix cache (vLLM's `_maybe_evict_cached_block`); a duplicate takes its place."""
        duplicates = self._duplicates.get(block_hash)
        if self._block_by_hash[block_hash] != block:
            assert duplicates is not None
            duplicates.remove(block)
        elif duplicates:
            self._block_by_hash[block_hash] = duplicates.pop()
        else:
            del self._block_by_hash[block_hash]
        if duplicates is not None and not duplicates:
            del self._duplicates[block_hash]
