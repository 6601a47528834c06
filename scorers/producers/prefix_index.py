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

Chain = list[int]
"""Hashes of the beginnings of a prompt, one block longer each."""

_Blocks = dict[int, None]
"""An LRU: oldest first."""

_SIXTY_BITS = (1 << 60) - 1
"""Larger integers take 48 bytes instead of 32."""

_WIDE = 70
"""Bytes of table for each entry of a dict from which on a copy is half as large."""

_Value = TypeVar("_Value")


def chain(data: bytes, block_bytes: int, most: int, model: str, salt: str) -> Chain:
    """Hashes of the first `most` blocks of `data`, the last of which may be partial.

    Prompts of different models, or with different cache salts, have nothing in common.
    """
    previous = xxh3_64_intdigest(salt.encode(), xxh3_64_intdigest(model.encode()))
    whole = min(len(data) // block_bytes, most)
    rest = whole * block_bytes
    blocks = iter_unpack(f"{block_bytes}s", memoryview(data)[:rest])  # twice as fast as slices
    hashes = [(previous := xxh3_64_intdigest(block, previous)) & _SIXTY_BITS for (block,) in blocks]
    if whole < most and rest < len(data):
        hashes.append(xxh3_64_intdigest(data[rest:], previous) & _SIXTY_BITS)
    return hashes


class PrefixIndex:
    """LRUs of blocks by endpoint slot. Not bounded by itself: every `touch` says how much its endpoint may hold."""

    def __init__(self) -> None:
        self._held: list[_Blocks] = []
        self._alone: list[tuple[int]] = []
        # Last block of the chain touched last: touched again, that chain is the youngest part of the LRU already.
        self._newest: list[int | None] = []
        # First block of a chain -> slots that hold it; where nobody does, a lookup costs one probe.
        self._roots: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        """Blocks over all endpoints."""
        return sum(map(len, self._held))

    def size(self, slot: int) -> int:
        """Blocks that one endpoint holds."""
        return len(self._held[slot]) if slot < len(self._held) else 0

    def matches(self, hashes: Chain, slots: NDArray[np.intp]) -> NDArray[np.float32]:
        """Leading blocks of the chain that each of the slots holds."""
        holders = self._roots.get(hashes[0]) if hashes else None
        if holders is None:
            return np.zeros(len(slots), np.float32)
        blocks = np.zeros(len(self._held), np.float32)
        guess = 0
        last = after = -1  # what stands before and behind the guess; no hash is -1
        for slot in holders:
            held = self._held[slot]
            if last not in held or after in held:
                guess = _matched(held, hashes, guess or len(hashes))
                last, after = hashes[guess - 1], hashes[guess] if guess < len(hashes) else -1
            blocks[slot] = guess
        try:
            return blocks[slots]
        except IndexError:
            self._cover(int(slots.max()))
            return self.matches(hashes, slots)

    def touch(self, slot: int, hashes: Chain, capacity: int) -> int:
        """The endpoint computes this prompt and then holds it; returns how many blocks it held before.

        Of a chain longer than the capacity it holds the beginning.
        """
        if len(hashes) > capacity:
            hashes = hashes[:capacity]
        if not hashes:
            return 0
        if slot >= len(self._held):
            self._cover(slot)
        held = self._held[slot]
        matched = _matched(held, hashes, len(hashes))
        if not matched:
            others = self._roots.get(hashes[0])
            self._roots[hashes[0]] = self._alone[slot] if others is None else (*others, slot)
            self._roots = _tightened(self._roots)
        if matched < len(hashes) or self._newest[slot] != hashes[-1]:
            _renew(held, hashes, matched)
            self._newest[slot] = hashes[-1]
        if len(held) > capacity:
            self._evict(slot, held, len(hashes), capacity)
        self._held[slot] = _tightened(held)
        return matched

    def forget(self, slot: int) -> None:
        """The endpoint is gone, and its cache with it."""
        if slot < len(self._held):
            self._unroot(slot, self._held[slot])
            self._held[slot] = {}
            self._newest[slot] = None

    def _cover(self, slot: int) -> None:
        for new in range(len(self._held), slot + 1):
            self._alone.append((new,))
            self._held.append({})
            self._newest.append(None)

    def _evict(self, slot: int, held: _Blocks, newest: int, capacity: int) -> None:
        # Looking for the oldest entry of a dict scans those deleted since its last resize, so several go at a time.
        excess = len(held) - capacity
        batch = min(excess + capacity // 32, len(held) - newest)
        oldest = dict.fromkeys(islice(held, batch))
        self._unroot(slot, oldest)
        for block in oldest:
            del held[block]

    def _unroot(self, slot: int, blocks: _Blocks) -> None:
        for root in self._roots.keys() & blocks.keys():
            others = tuple([other for other in self._roots[root] if other != slot])
            if others:
                self._roots[root] = others
            else:
                del self._roots[root]


def _tightened(table: dict[int, _Value]) -> dict[int, _Value]:
    """The dict, or a copy where deletions have made it grow to more than it needs: CPython triples what is in use."""
    return dict(table) if getsizeof(table) > _WIDE * len(table) + 4096 else table


def _renew(held: _Blocks, hashes: Chain, matched: int) -> None:
    """Makes the chain the youngest part of the LRU, its first block the youngest of all."""
    for block in hashes[:matched]:
        del held[block]
    for block in reversed(hashes):
        held[block] = None


def _matched(held: _Blocks, hashes: Sequence[int], guess: int) -> int:
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
