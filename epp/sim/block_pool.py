"""The KV cache of one engine: blocks with reference counts, found again by chained hashes, evicted least recently used.

The rules are those of vLLM V1's block pool: blocks never used before are taken first; a freed block keeps its content
and goes to the end of the free queue, a sequence's last block before its first, so that the tail of a chain is evicted
before its head; a block in use by somebody is never evicted; two sequences that compute the same block at the same
time each keep their copy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import xxhash

ROOT_HASH = 0
"""What the first block of a chain is chained to, where neither adapter nor salt separates it from others."""


def hash_block(parent: int, data: bytes | memoryview) -> int:
    """The hash of a block whose predecessor hashes to `parent`; equal only where everything before is equal too."""
    return int(xxhash.xxh3_64_intdigest(data, seed=parent))


def root_hash(adapter: str, salt: str) -> int:
    """What a chain starts from: requests with another adapter or cache salt share no block."""
    return xxhash.xxh3_64_intdigest(f"{adapter}\0{salt}".encode()) if adapter or salt else ROOT_HASH


def hash_full_blocks(data: bytes, block_bytes: int, parent: int) -> list[int]:
    """The hashes of the full blocks of `data`, each of `block_bytes`; what is left over has none."""
    view = memoryview(data)
    hashes = []
    for start in range(0, len(data) - block_bytes + 1, block_bytes):
        parent = hash_block(parent, view[start : start + block_bytes])
        hashes.append(parent)
    return hashes


class BlockPool:
    """`capacity` blocks of KV cache. Blocks are small ints; a caller holds one reference to each block it was given."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._reference_counts: list[int] = []  # by block; grows as blocks are used for the first time
        self._block_hashes: list[int | None] = []  # by block; None: content not to be found again
        self._free_queue: OrderedDict[int, None] = OrderedDict()  # used before, now free; the next to evict first
        self._block_by_hash: dict[int, int] = {}  # hash -> block
        self._duplicates: dict[int, list[int]] = {}  # hash -> further blocks with the same content

    @property
    def free_count(self) -> int:
        """Blocks that can be had now, cached content included."""
        return self.capacity - len(self._reference_counts) + len(self._free_queue)

    @property
    def used_count(self) -> int:
        """Blocks that somebody holds."""
        return len(self._reference_counts) - len(self._free_queue)

    @property
    def cached_count(self) -> int:
        """Distinct block contents that can be found again."""
        return len(self._block_by_hash)

    @property
    def usage(self) -> float:
        """Share of the blocks in use, 0 to 1; free blocks with cached content do not count, as in vLLM."""
        return self.used_count / self.capacity

    def reference_count(self, block: int) -> int:
        """How many hold this block."""
        return self._reference_counts[block]

    def find_longest_cache_hit(self, hashes: Sequence[int], limit: int) -> list[int]:
        """The longest run of cached blocks from the start of `hashes`, at most `limit`. Takes no reference."""
        found = self._block_by_hash
        matched: list[int] = []
        for hashed in hashes[:limit]:
            block = found.get(hashed)
            if block is None:
                break
            matched.append(block)
        return matched

    def can_allocate(self, matched: Iterable[int], new: int) -> bool:
        """Whether `matched` can be held and `new` further blocks taken: matched blocks may be free ones themselves."""
        references = self._reference_counts
        return new + sum(references[block] == 0 for block in matched) <= self.free_count

    def touch(self, matched: Iterable[int]) -> None:
        """Takes a reference to each, which protects it from eviction."""
        for block in matched:
            if self._reference_counts[block] == 0:
                del self._free_queue[block]
            self._reference_counts[block] += 1

    def allocate(self, count: int) -> list[int]:
        """`count` blocks with no content of use; evicts where it must. `count` is at most `free`."""
        if count > self.free_count:
            raise ValueError(f"{count} blocks asked for, {self.free_count} free")
        return [self._allocate_block() for _ in range(count)]

    def cache_block(self, block: int, hashed: int) -> None:
        """Lets `match` find this block from now on."""
        if self._block_hashes[block] is not None:
            raise ValueError(f"block {block} is stored already")
        self._block_hashes[block] = hashed
        if self._block_by_hash.setdefault(hashed, block) != block:
            self._duplicates.setdefault(hashed, []).append(block)

    def release(self, blocks: Sequence[int]) -> None:
        """Gives back one reference to each of a sequence's blocks, the last first."""
        for block in reversed(blocks):
            left = self._reference_counts[block] - 1
            if left < 0:
                raise ValueError(f"block {block} is released more often than held")
            self._reference_counts[block] = left
            if left == 0:
                self._free_queue[block] = None

    def reset_prefix_cache(self) -> None:
        """Makes all cached content unfindable, as vLLM's `/reset_prefix_cache` does."""
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
        if (hashed := self._block_hashes[block]) is not None:
            self._block_hashes[block] = None
            self._evict_cached_block(block, hashed)
        return block

    def _evict_cached_block(self, block: int, hashed: int) -> None:
        twins = self._duplicates.get(hashed)
        if self._block_by_hash[hashed] != block:
            assert twins is not None
            twins.remove(block)
        elif twins:
            self._block_by_hash[hashed] = twins.pop()
        else:
            del self._block_by_hash[hashed]
        if not twins and twins is not None:
            del self._duplicates[hashed]
