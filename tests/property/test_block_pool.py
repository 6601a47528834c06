"""The simulator's block pool against a naive model: references, free blocks and cached content."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from epp.sim.block_pool import BlockPool, hash_full_blocks

CAPACITY = 12
PROMPTS = st.text("ab", min_size=1, max_size=6).map(str.encode)


class BlockPoolMachine(RuleBasedStateMachine):
    """Requests with prompts of one-byte blocks start and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(CAPACITY)
        self.held: list[list[int]] = []
        self.content: dict[int, int] = {}  # block -> the hash cached for it, until it is allocated again

    @rule(prompt=PROMPTS, stores=st.booleans())
    def start_request(self, prompt: bytes, stores: bool) -> None:
        hashes = hash_full_blocks(prompt, 1, 0)
        hit = self.pool.find_longest_cache_hit(hashes, len(hashes))
        assert [self.content[block] for block in hit] == hashes[: len(hit)]
        new = len(hashes) - len(hit)
        if not self.pool.can_allocate(hit, new):
            return
        self.pool.touch(hit)
        allocated = self.pool.allocate(new)
        assert not set(allocated) & {block for blocks in self.held for block in blocks}, (
            "a block with references was allocated"
        )
        assert not set(allocated) & set(hit)
        for block in allocated:
            self.content.pop(block, None)
        for block, hashed in zip(allocated, hashes[len(hit) :], strict=True):
            if stores:
                self.pool.cache_block(block, hashed)
                self.content[block] = hashed
        self.held.append([*hit, *allocated])

    @rule(data=st.data())
    def end_request(self, data: st.DataObject) -> None:
        if self.held:
            index = data.draw(st.integers(0, len(self.held) - 1))
            self.pool.release(self.held.pop(index))

    @rule()
    def reset_prefix_cache(self) -> None:
        self.pool.reset_prefix_cache()
        self.content.clear()

    @invariant()
    def every_block_is_free_or_used(self) -> None:
        distinct = {block for blocks in self.held for block in blocks}
        assert self.pool.used_count == len(distinct)
        assert self.pool.free_count == CAPACITY - len(distinct)
        assert 0 <= self.pool.usage <= 1

    @invariant()
    def references_are_counted(self) -> None:
        for block in {block for blocks in self.held for block in blocks}:
            assert self.pool.reference_count(block) == sum(blocks.count(block) for blocks in self.held)

    @invariant()
    def cached_contents_are_counted(self) -> None:
        assert self.pool.cached_count == len(set(self.content.values()))


BlockPoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBlockPool = BlockPoolMachine.TestCase
