"""The simulator's block pool against a naive model: nothing is lost, nothing is held twice, eviction is fair."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from epp.sim.block_pool import BlockPool, hash_full_blocks

CAPACITY = 12
PROMPTS = st.text("ab", min_size=1, max_size=6).map(str.encode)


class Pool(RuleBasedStateMachine):
    """Sequences come with prompts of one-byte blocks and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(CAPACITY)
        self.held: list[list[int]] = []
        self.content: dict[int, int] = {}  # block -> hash last stored in it, until it is taken anew

    @rule(prompt=PROMPTS, stores=st.booleans())
    def enter(self, prompt: bytes, stores: bool) -> None:
        hashes = hash_full_blocks(prompt, 1, 0)
        matched = self.pool.find_longest_cache_hit(hashes, len(hashes))
        assert [self.content[block] for block in matched] == hashes[: len(matched)]
        new = len(hashes) - len(matched)
        if not self.pool.can_allocate(matched, new):
            return
        self.pool.touch(matched)
        taken = self.pool.allocate(new)
        assert not set(taken) & {block for blocks in self.held for block in blocks}, "a held block was given away"
        assert not set(taken) & set(matched)
        for block in taken:
            self.content.pop(block, None)
        for block, hashed in zip(taken, hashes[len(matched) :], strict=True):
            if stores:
                self.pool.cache_block(block, hashed)
                self.content[block] = hashed
        self.held.append([*matched, *taken])

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.held:
            index = data.draw(st.integers(0, len(self.held) - 1))
            self.pool.release(self.held.pop(index))

    @rule()
    def forget(self) -> None:
        self.pool.reset_prefix_cache()
        self.content.clear()

    @invariant()
    def every_block_is_free_or_held(self) -> None:
        distinct = {block for blocks in self.held for block in blocks}
        assert self.pool.used_count == len(distinct)
        assert self.pool.free_count == CAPACITY - len(distinct)
        assert 0 <= self.pool.usage <= 1

    @invariant()
    def references_are_those_held(self) -> None:
        for block in {block for blocks in self.held for block in blocks}:
            assert self.pool.reference_count(block) == sum(blocks.count(block) for blocks in self.held)

    @invariant()
    def what_is_cached_is_found(self) -> None:
        assert self.pool.cached_count == len(set(self.content.values()))


Pool.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPool = Pool.TestCase
