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

ROOT = 0
"""What the first block of a chain is chained to, where neither adapter nor salt separates it from others."""


def chain(parent: int, data: bytes | memoryview) -> int:
    """The hash of a block whose predecessor hashes to `parent`; equal only where everything before is equal too."""
    return int(xxhash.xxh3_64_intdigest(data, seed=parent))


def root(adapter: str, salt: str) -> int:
    """What a chain starts from: requests with another adapter or cache salt share no block."""
    return xxhash.xxh3_64_intdigest(f"{adapter}\0{salt}".encode()) if adapter or salt else ROOT


def chained(data: bytes, block_bytes: int, parent: int) -> list[int]:
    """The hashes of the full blocks of `data`, each of `block_bytes`; what is left over has none."""
    view = memoryview(data)
    hashes = []
    for start in range(0, len(data) - block_bytes + 1, block_bytes):
        parent = chain(parent, view[start : start + block_bytes])
        hashes.append(parent)
    return hashes


class BlockPool:
    """`capacity` blocks of KV cache. Blocks are small ints; a caller holds one reference to each block it was given."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._references: list[int] = []  # by block; grows as blocks are used for the first time
        self._hashes: list[int | None] = []  # by block; None: content not to be found again
        self._free: OrderedDict[int, None] = OrderedDict()  # used before, now free; the next to evict first
        self._found: dict[int, int] = {}  # hash -> block
        self._twins: dict[int, list[int]] = {}  # hash -> further blocks with the same content

    @property
    def free(self) -> int:
        """Blocks that can be had now, cached content included."""
        return self.capacity - len(self._references) + len(self._free)

    @property
    def used(self) -> int:
        """Blocks that somebody holds."""
        return len(self._references) - len(self._free)

    @property
    def cached(self) -> int:
        """Distinct block contents that can be found again."""
        return len(self._found)

    @property
    def usage(self) -> float:
        """Share of the blocks in use, 0 to 1; free blocks with cached content do not count, as in vLLM."""
        return self.used / self.capacity

    def references(self, block: int) -> int:
        """How many hold this block."""
        return self._references[block]

    def match(self, hashes: Sequence[int], limit: int) -> list[int]:
        """The longest run of cached blocks from the start of `hashes`, at most `limit`. Takes no reference."""
        found = self._found
        matched: list[int] = []
        for hashed in hashes[:limit]:
            block = found.get(hashed)
            if block is None:
                break
            matched.append(block)
        return matched

    def fits(self, matched: Iterable[int], new: int) -> bool:
        """Whether `matched` can be held and `new` further blocks taken: matched blocks may be free ones themselves."""
        references = self._references
        return new + sum(references[block] == 0 for block in matched) <= self.free

    def hold(self, matched: Iterable[int]) -> None:
        """Takes a reference to each, which protects it from eviction."""
        for block in matched:
            if self._references[block] == 0:
                del self._free[block]
            self._references[block] += 1

    def take(self, count: int) -> list[int]:
        """`count` blocks with no content of use; evicts where it must. `count` is at most `free`."""
        if count > self.free:
            raise ValueError(f"{count} blocks asked for, {self.free} free")
        return [self._take() for _ in range(count)]

    def store(self, block: int, hashed: int) -> None:
        """Lets `match` find this block from now on."""
        if self._hashes[block] is not None:
            raise ValueError(f"block {block} is stored already")
        self._hashes[block] = hashed
        if self._found.setdefault(hashed, block) != block:
            self._twins.setdefault(hashed, []).append(block)

    def release(self, blocks: Sequence[int]) -> None:
        """Gives back one reference to each of a sequence's blocks, the last first."""
        for block in reversed(blocks):
            left = self._references[block] - 1
            if left < 0:
                raise ValueError(f"block {block} is released more often than held")
            self._references[block] = left
            if left == 0:
                self._free[block] = None

    def forget(self) -> None:
        """Makes all cached content unfindable, as vLLM's `/reset_prefix_cache` does."""
        self._found.clear()
        self._twins.clear()
        self._hashes = [None] * len(self._hashes)

    def _take(self) -> int:
        if len(self._references) < self.capacity:
            self._references.append(1)
            self._hashes.append(None)
            return len(self._references) - 1
        block, _ = self._free.popitem(last=False)
        self._references[block] = 1
        if (hashed := self._hashes[block]) is not None:
            self._hashes[block] = None
            self._evict(block, hashed)
        return block

    def _evict(self, block: int, hashed: int) -> None:
        twins = self._twins.get(hashed)
        if self._found[hashed] != block:
            assert twins is not None
            twins.remove(block)
        elif twins:
            self._found[hashed] = twins.pop()
        else:
            del self._found[hashed]
        if not twins and twins is not None:
            del self._twins[hashed]
