"""Block hashes and the prefix index, case by case; the property test compares the index with a reference."""

from __future__ import annotations

from random import Random

import numpy as np

from scorers.producers.prefix_index import PrefixIndex, hash_prompt_blocks


def hash_text(text: bytes, *, max_blocks: int = 100, model: str = "m", salt: str = "") -> list[int]:
    return hash_prompt_blocks(text, 4, max_blocks, model, salt)


def match_lengths(index: PrefixIndex, text: bytes, slots: int) -> list[float]:
    found: list[float] = index.match_lengths(hash_text(text), np.arange(slots)).tolist()
    return found


def test_a_hash_identifies_the_prompt_up_to_its_block() -> None:
    assert hash_text(b"aaaabbbbcccc")[:2] == hash_text(b"aaaabbbbdddd")[:2]
    assert hash_text(b"aaaabbbb")[1] != hash_text(b"xxxxbbbb")[1]
    assert len(set(hash_text(b"aaaa" * 50))) == 50, "equal blocks at different places differ"


def test_a_partial_last_block_is_a_block_of_its_own() -> None:
    assert len(hash_text(b"aaaab")) == 2
    assert hash_text(b"aaaab")[1] != hash_text(b"aaaabbbb")[1]
    assert hash_text(b"") == []


def test_models_and_cache_salts_have_no_hash_in_common() -> None:
    hashes = [hash_text(b"aaaa", model=model, salt=salt)[0] for model in ("m", "n", "") for salt in ("", "s", "m")]
    assert len(set(hashes)) == 9


def test_only_the_first_blocks_are_hashed() -> None:
    assert hash_text(b"aaaabbbbcccc", max_blocks=2) == hash_text(b"aaaabbbb")
    assert hash_text(b"aaaabbbbc", max_blocks=2) == hash_text(b"aaaabbbb")


def test_matches_are_contiguous_and_per_endpoint() -> None:
    index = PrefixIndex()
    index.touch(0, hash_text(b"aaaabbbbcccc"), 100)
    index.touch(2, hash_text(b"aaaaxxxx"), 100)
    assert match_lengths(index, b"aaaabbbbcccc", 4) == [3, 0, 1, 0]
    assert match_lengths(index, b"aaaabbbbdddd", 4) == [2, 0, 1, 0]
    assert match_lengths(index, b"zzzzbbbbcccc", 4) == [0, 0, 0, 0]
    assert index.match_lengths(hash_text(b"aaaa"), np.array([2, 7, 0], np.intp)).tolist() == [1, 0, 1], (
        "slots in any order"
    )
    assert index.match_lengths([], np.arange(2)).tolist() == [0, 0]


def test_touch_returns_the_blocks_held_before() -> None:
    index = PrefixIndex()
    assert index.touch(0, hash_text(b"aaaabbbb"), 100) == 0
    assert index.touch(0, hash_text(b"aaaabbbbcccc"), 100) == 2
    assert index.touch(0, hash_text(b"aaaabbbbcccc"), 100) == 3


def test_the_end_of_the_least_recent_prompt_is_evicted_first() -> None:
    index = PrefixIndex()
    index.touch(0, hash_text(b"aaaabbbb"), 4)
    index.touch(0, hash_text(b"ccccdddd"), 4)
    index.touch(0, hash_text(b"eeee"), 4)
    assert match_lengths(index, b"aaaabbbb", 1) == [1]
    assert match_lengths(index, b"ccccdddd", 1) == [2]
    index.touch(0, hash_text(b"aaaa"), 4)
    index.touch(0, hash_text(b"ffff"), 4)
    assert match_lengths(index, b"ccccdddd", 1) == [1]
    assert match_lengths(index, b"aaaa", 1) == [1], "touched again, hence recent"


def test_the_beginning_of_a_prompt_larger_than_the_capacity_is_held() -> None:
    index = PrefixIndex()
    index.touch(0, hash_text(b"aaaabbbbccccdddd"), 2)
    assert match_lengths(index, b"aaaabbbbccccdddd", 1) == [2]
    assert index.block_count(0) == 2


def test_a_removed_slot_is_empty() -> None:
    index = PrefixIndex()
    index.touch(0, hash_text(b"aaaa"), 100)
    index.touch(1, hash_text(b"aaaa"), 100)
    index.remove_slot(0)
    index.remove_slot(9)
    assert match_lengths(index, b"aaaa", 2) == [0, 1]
    assert len(index) == 1
    assert index.touch(0, hash_text(b"aaaa"), 100) == 0


def test_the_number_of_blocks_stays_within_the_capacity() -> None:
    index, rng = PrefixIndex(), Random(5)
    for _ in range(2000):
        index.touch(rng.randrange(4), hash_text(rng.randbytes(rng.randrange(80))), 50)
        assert max(index.block_count(slot) for slot in range(4)) <= 50
    assert len(index._slots_by_first_block) <= len(index)
