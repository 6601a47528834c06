"""Which endpoint was sent which prompt beginnings: an approximation of the prefix caches, from our own decisions.

A prompt is cut into blocks, and each block's hash is seeded with the hash before it, so a hash stands for the whole
beginning up to its block. Every endpoint has an LRU of hashes in which a block is always younger than those that
follow it; whatever is evicted, the set stays closed under taking the preceding block. Hence an endpoint that holds
block i holds all before it, and the length of a match is found by bisection instead of walking the chain.
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
"""Hashes of the beginnings of a prompt, one block longer each."""

_LruBlocks = dict[int, None]
"""An LRU: oldest first."""

_HASH_MASK = (1 << 60) - 1
"""Larger integers take 48 bytes instead of 32."""

_MAX_BYTES_PER_ENTRY = 70
"""Bytes of table for each entry of a dict from which on a copy is half as large."""

_Value = TypeVar("_Value")


def hash_prompt_blocks(data: bytes, block_bytes: int, most: int, model: str, salt: str) -> BlockHashes:
    """Hashes of the first `most` blocks of `data`, the last of which may be partial.

    Prompts of different models, or with different cache salts, have nothing in common.
    """
    previous = xxh3_64_intdigest(salt.encode(), xxh3_64_intdigest(model.encode()))
    whole = min(len(data) // block_bytes, most)
    rest = whole * block_bytes
    blocks = iter_unpack(f"{block_bytes}s", memoryview(data)[:rest])  # twice as fast as slices
    hashes = [(previous := xxh3_64_intdigest(block, previous)) & _HASH_MASK for (block,) in blocks]
    if whole < most and rest < len(data):
        hashes.append(xxh3_64_intdigest(data[rest:], previous) & _HASH_MASK)
    return hashes


class PrefixIndex:
    """LRUs of blocks by endpoint slot. Not bounded by itself: every `touch` says how much its endpoint may hold."""

    def __init__(self) -> None:
        self._blocks_by_slot: list[_LruBlocks] = []
        self._slot_tuples: list[tuple[int]] = []
        # Last block of the chain touched last: touched again, that chain is the youngest part of the LRU already.
        self._last_touched: list[int | None] = []
        # First block of a chain -> slots that hold it; where nobody does, a lookup costs one probe.
        self._slots_by_first_block: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        """Blocks over all endpoints."""
        return sum(map(len, self._blocks_by_slot))

    def block_count(self, slot: int) -> int:
        """Blocks that one endpoint holds."""
        return len(self._blocks_by_slot[slot]) if slot < len(self._blocks_by_slot) else 0

    def match_lengths(self, hashes: BlockHashes, slots: NDArray[np.intp]) -> NDArray[np.float32]:
        """Leading blocks of the chain that each of the slots holds."""
        holders = self._slots_by_first_block.get(hashes[0]) if hashes else None
        if holders is None:
            return np.zeros(len(slots), np.float32)
        blocks = np.zeros(len(self._blocks_by_slot), np.float32)
        guess = 0
        last = after = -1  # what stands before and behind the guess; no hash is -1
        for slot in holders:
            held = self._blocks_by_slot[slot]
            if last not in held or after in held:
                guess = _match_length(held, hashes, guess or len(hashes))
                last, after = hashes[guess - 1], hashes[guess] if guess < len(hashes) else -1
            blocks[slot] = guess
        try:
            return blocks[slots]
        except IndexError:
            self._add_slots_up_to(int(slots.max()))
            return self.match_lengths(hashes, slots)

    def touch(self, slot: int, hashes: BlockHashes, capacity: int) -> int:
        """The endpoint computes this prompt and then holds it; returns how many blocks it held before.

        Of a chain longer than the capacity it holds the beginning.
        """
        if len(hashes) > capacity:
            hashes = hashes[:capacity]
        if not hashes:
            return 0
        if slot >= len(self._blocks_by_slot):
            self._add_slots_up_to(slot)
        held = self._blocks_by_slot[slot]
        matched = _match_length(held, hashes, len(hashes))
        if not matched:
            others = self._slots_by_first_block.get(hashes[0])
            self._slots_by_first_block[hashes[0]] = self._slot_tuples[slot] if others is None else (*others, slot)
            self._slots_by_first_block = _shrink_dict(self._slots_by_first_block)
        if matched < len(hashes) or self._last_touched[slot] != hashes[-1]:
            _move_to_newest(held, hashes, matched)
            self._last_touched[slot] = hashes[-1]
        if len(held) > capacity:
            self._evict_oldest(slot, held, len(hashes), capacity)
        self._blocks_by_slot[slot] = _shrink_dict(held)
        return matched

    def remove_slot(self, slot: int) -> None:
        """The endpoint is gone, and its cache with it."""
        if slot < len(self._blocks_by_slot):
            self._remove_first_blocks(slot, self._blocks_by_slot[slot])
            self._blocks_by_slot[slot] = {}
            self._last_touched[slot] = None

    def _add_slots_up_to(self, slot: int) -> None:
        for new in range(len(self._blocks_by_slot), slot + 1):
            self._slot_tuples.append((new,))
            self._blocks_by_slot.append({})
            self._last_touched.append(None)

    def _evict_oldest(self, slot: int, held: _LruBlocks, newest: int, capacity: int) -> None:
        # Looking for the oldest entry of a dict scans those deleted since its last resize, so several go at a time.
        excess = len(held) - capacity
        batch = min(excess + capacity // 32, len(held) - newest)
        oldest = dict.fromkeys(islice(held, batch))
        self._remove_first_blocks(slot, oldest)
        for block in oldest:
            del held[block]

    def _remove_first_blocks(self, slot: int, blocks: _LruBlocks) -> None:
        for root in self._slots_by_first_block.keys() & blocks.keys():
            others = tuple([other for other in self._slots_by_first_block[root] if other != slot])
            if others:
                self._slots_by_first_block[root] = others
            else:
                del self._slots_by_first_block[root]


def _shrink_dict(table: dict[int, _Value]) -> dict[int, _Value]:
    """The dict, or a copy where deletions have made it grow to more than it needs: CPython triples what is in use."""
    return dict(table) if getsizeof(table) > _MAX_BYTES_PER_ENTRY * len(table) + 4096 else table


def _move_to_newest(held: _LruBlocks, hashes: BlockHashes, matched: int) -> None:
    """Makes the chain the youngest part of the LRU, its first block the youngest of all."""
    for block in hashes[:matched]:
        del held[block]
    for block in reversed(hashes):
        held[block] = None


def _match_length(held: _LruBlocks, hashes: Sequence[int], guess: int) -> int:
    """Leading blocks that are held; two probes if the guess is right, as for endpoints that hold the same prefix."""
    low, high = 0, len(hashes)
    if guess and hashes[guess - 1] in held:
        low = guess
        if low == high or hashes[low] not in held:
            return low
        low += 1
    elif guess:
        high = guess - 1
    while low < high:
        middle = (low + high) // 2
        if hashes[middle] in held:
            low = middle + 1
        else:
            high = middle
    return low
