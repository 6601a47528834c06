"""The prefix index against a reference that records for each block when it was last touched."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scorers.producers.prefix_index import BlockHashes, PrefixIndex, hash_prompt_blocks

SLOTS = 3
prompts = st.lists(st.sampled_from([b"ab", b"cd", b"e"]), max_size=12).map(b"".join)


class ReferenceLru:
    """Blocks of one endpoint with the time of their last touch; the first block of a prompt is the last touched."""

    def __init__(self) -> None:
        self.touched: dict[int, tuple[int, int]] = {}

    def touch(self, hashes: BlockHashes, now: int) -> None:
        self.touched.update({block: (now, -depth) for depth, block in enumerate(hashes)})

    def keep_newest(self, count: int) -> None:
        order = sorted(self.touched, key=lambda block: self.touched[block], reverse=True)
        self.touched = {block: self.touched[block] for block in order[:count]}

    def match_length(self, hashes: BlockHashes) -> int:
        for depth, block in enumerate(hashes):
            if block not in self.touched:
                return depth
        return len(hashes)


class PrefixIndexMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.references = [ReferenceLru() for _ in range(SLOTS)]
        self.touched_prompts: list[BlockHashes] = []
        self.now = 0

    @rule(slot=st.integers(0, SLOTS - 1), prompt=prompts, capacity=st.sampled_from([1, 3, 8, 40, 400]))
    def touch(self, slot: int, prompt: bytes, capacity: int) -> None:
        hashes = hash_prompt_blocks(prompt, 2, 10, "m", "")
        self.touched_prompts.append(hashes)
        self.now += 1
        reference = self.references[slot]
        before = reference.match_length(hashes[:capacity])
        reference.touch(hashes[:capacity], self.now)
        assert self.index.touch(slot, hashes, capacity) == before
        size = self.index.block_count(slot)
        if hashes:
            assert min(len(reference.touched), capacity - capacity // 32) <= size <= capacity
        reference.keep_newest(size)
        assert reference.match_length(hashes) == min(len(hashes), capacity), "a prompt that was just touched is held"

    @rule(slot=st.integers(0, SLOTS - 1))
    def remove_slot(self, slot: int) -> None:
        self.index.remove_slot(slot)
        self.references[slot] = ReferenceLru()

    @rule(prompt=prompts, slots=st.lists(st.integers(0, SLOTS), max_size=5))
    def look_up(self, prompt: bytes, slots: list[int]) -> None:
        hashes = hash_prompt_blocks(prompt, 2, 10, "m", "")
        found = self.index.match_lengths(hashes, np.array(slots, np.intp))
        assert found.dtype == np.float32
        assert found.tolist() == [self.references[slot].match_length(hashes) if slot < SLOTS else 0 for slot in slots]

    @invariant()
    def all_matches_agree(self) -> None:
        for hashes in self.touched_prompts[-20:]:
            found = self.index.match_lengths(hashes, np.arange(SLOTS))
            assert found.tolist() == [reference.match_length(hashes) for reference in self.references]

    @invariant()
    def slots_hold_as_many_blocks_as_the_reference(self) -> None:
        assert [self.index.block_count(slot) for slot in range(SLOTS)] == [
            len(reference.touched) for reference in self.references
        ]
        assert len(self.index) == sum(len(reference.touched) for reference in self.references)
        assert all(len(holders) > 0 for holders in self.index._slots_by_first_block.values())

    @invariant()
    def the_holders_of_first_blocks_are_exact(self) -> None:
        first_blocks = {hashes[0] for hashes in self.touched_prompts if hashes}
        for block in first_blocks:
            holders = {slot for slot, reference in enumerate(self.references) if block in reference.touched}
            assert set(self.index._slots_by_first_block.get(block, ())) == holders


TestPrefixIndex = PrefixIndexMachine.TestCase
TestPrefixIndex.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
