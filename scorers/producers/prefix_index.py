"""Index of prompt prefixes by endpoint: an approximation of the engines' prefix caches, from routing decisions.

A prompt is divided into blocks. The hash of a block is seeded with the hash of the block before it, so it identifies
the prompt up to and including its block, like the block hashes of vLLM's prefix cache. Each endpoint has an LRU of such
hashes. A block is always newer in it than the blocks that follow it in a prompt; so whatever is evicted, the set stays
closed under taking the preceding block. Hence an endpoint that holds block i holds all blocks before it, and the length
of a match is found by bisection instead of walking the prompt. docs/decisions/0001-prefix-closed-sets.md has the
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from struct import iter_unpack
from sys import getsizeof
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

BlockHashes = list[int]
"""Hashes of the blocks of one prompt, in order; each identifies the prompt up to the end of its block."""

_LruBlocks = dict[int, None]
"""Block hashes of one endpoint, least recently used first."""

_HASH_MASK = (1 << 60) - 1
"""60 bits: Python's larger integers take 48 bytes instead of 32."""

_MAX_BYTES_PER_ENTRY = 70
"""Size of a dict per entry above which a copy takes half the memory."""

_Value = TypeVar("_Value")


def hash_prompt_blocks(data: bytes, block_bytes: int, max_blocks: int, model: str, salt: str) -> BlockHashes:
    """Hashes of the first `max_blocks` blocks of `data`; the last one may be partial.

    The model's name and the cache salt seed the first hash: prompts that differ in either have no block in common.
    """
    previous = xxh3_64_intdigest(salt.encode(), xxh3_64_intdigest(model.encode()))
    full_blocks = min(len(data) // block_bytes, max_blocks)
    end = full_blocks * block_bytes
    blocks = iter_unpack(f"{block_bytes}s", memoryview(data)[:end])  # twice as fast as slices
    hashes = [(previous := xxh3_64_intdigest(block, previous)) & _HASH_MASK for (block,) in blocks]
    if full_blocks < max_blocks and end < len(data):
        hashes.append(xxh3_64_intdigest(data[end:], previous) & _HASH_MASK)
    return hashes


class PrefixIndex:
    """An LRU of prompt blocks for each endpoint slot; each `touch` states the capacity of its slot's LRU."""

    def __init__(self) -> None:
        self._blocks_by_slot: list[_LruBlocks] = []
        self._slot_tuples: list[tuple[int]] = []
        # Last block of the prompt touched last. Touched again, its blocks are the newest part of the LRU already.
        self._last_touched: list[int | None] = []
        # First block of a prompt -> slots that hold it. A prompt that no slot holds costs one look-up.
        self._slots_by_first_block: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        """Blocks over all slots; one that two slots hold counts twice."""
        return sum(map(len, self._blocks_by_slot))

    def block_count(self, slot: int) -> int:
        """Blocks that one slot holds."""
        return len(self._blocks_by_slot[slot]) if slot < len(self._blocks_by_slot) else 0

    def match_lengths(self, hashes: BlockHashes, slots: NDArray[np.intp]) -> NDArray[np.float32]:
        """How many leading blocks of the prompt each of the slots holds."""
        holders = self._slots_by_first_block.get(hashes[0]) if hashes else None
        if holders is None:
            return np.zeros(len(slots), np.float32)
        lengths = np.zeros(len(self._blocks_by_slot), np.float32)
        # Slots often hold the same prefix: first test whether the length of the slot before fits this one too.
        length = 0
        last_held = first_missing = -1  # the blocks before and after the end of the match; no hash is -1
        for slot in holders:
            blocks = self._blocks_by_slot[slot]
            if last_held not in blocks or first_missing in blocks:
                length = _match_length(blocks, hashes, length or len(hashes))
                last_held, first_missing = hashes[length - 1], hashes[length] if length < len(hashes) else -1
            lengths[slot] = length
        try:
            return lengths[slots]
        except IndexError:
            self._add_slots_up_to(int(slots.max()))
            return self.match_lengths(hashes, slots)

    def touch(self, slot: int, hashes: BlockHashes, capacity: int) -> int:
        """Records that the slot computes this prompt and then holds it; returns how many blocks it held before.

        Only the first `capacity` blocks of a longer prompt are recorded. Then the least recently used blocks above
        `capacity` are evicted.
        """
        if len(hashes) > capacity:
            hashes = hashes[:capacity]
        if not hashes:
            return 0
        if slot >= len(self._blocks_by_slot):
            self._add_slots_up_to(slot)
        blocks = self._blocks_by_slot[slot]
        matched = _match_length(blocks, hashes, len(hashes))
        if not matched:
            others = self._slots_by_first_block.get(hashes[0])
            self._slots_by_first_block[hashes[0]] = self._slot_tuples[slot] if others is None else (*others, slot)
            self._slots_by_first_block = _shrink_dict(self._slots_by_first_block)
        if matched < len(hashes) or self._last_touched[slot] != hashes[-1]:
            _move_to_newest(blocks, hashes, matched)
            self._last_touched[slot] = hashes[-1]
        if len(blocks) > capacity:
            self._evict_oldest(slot, blocks, len(hashes), capacity)
        self._blocks_by_slot[slot] = _shrink_dict(blocks)
        return matched

    def remove_slot(self, slot: int) -> None:
        """Forgets all blocks of a slot whose endpoint left."""
        if slot < len(self._blocks_by_slot):
            self._remove_holder(slot, self._blocks_by_slot[slot])
            self._blocks_by_slot[slot] = {}
            self._last_touched[slot] = None

    def _add_slots_up_to(self, slot: int) -> None:
        for new in range(len(self._blocks_by_slot), slot + 1):
            self._slot_tuples.append((new,))
            self._blocks_by_slot.append({})
            self._last_touched.append(None)

    def _evict_oldest(self, slot: int, blocks: _LruBlocks, protected: int, capacity: int) -> None:
        """Evicts the excess and a 32nd of the capacity more, but none of the `protected` newest blocks.

        CPython finds the first entry of a dict by scanning those deleted since its last resize, so eviction is batched.
        """
        excess = len(blocks) - capacity
        batch = min(excess + capacity // 32, len(blocks) - protected)
        oldest = dict.fromkeys(islice(blocks, batch))
        self._remove_holder(slot, oldest)
        for block in oldest:
            del blocks[block]

    def _remove_holder(self, slot: int, blocks: _LruBlocks) -> None:
        """The slot no longer holds these blocks; those of them that begin a prompt are listed without it."""
        for first_block in self._slots_by_first_block.keys() & blocks.keys():
            others = tuple([other for other in self._slots_by_first_block[first_block] if other != slot])
            if others:
                self._slots_by_first_block[first_block] = others
            else:
                del self._slots_by_first_block[first_block]


def _shrink_dict(table: dict[int, _Value]) -> dict[int, _Value]:
    """The dict, or a copy if it takes much more memory than its entries need: CPython's dicts do not shrink."""
    return dict(table) if getsizeof(table) > _MAX_BYTES_PER_ENTRY * len(table) + 4096 else table


def _move_to_newest(blocks: _LruBlocks, hashes: BlockHashes, matched: int) -> None:
    """Makes the prompt's blocks the newest of the LRU, its first block the newest of all."""
    for block in hashes[:matched]:
        del blocks[block]
    for block in reversed(hashes):
        blocks[block] = None


def _match_length(blocks: _LruBlocks, hashes: Sequence[int], guess: int) -> int:
    """How many leading hashes are in `blocks`: two look-ups if the guess is right, bisection otherwise."""
    low, high = 0, len(hashes)
    if guess and hashes[guess - 1] in blocks:
        low = guess
        if low == high or hashes[low] not in blocks:
            return low
        low += 1
    elif guess:
        high = guess - 1
    while low < high:
        middle = (low + high) // 2
        if hashes[middle] in blocks:
            low = middle + 1
        else:
            high = middle
    return low
