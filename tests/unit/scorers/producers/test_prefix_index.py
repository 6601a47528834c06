"""Hash chains, and the index over them, case by case; the property test compares it with a naive one."""

from __future__ import annotations

from random import Random

import numpy as np

from scorers.producers.prefix_index import PrefixIndex, hash_prompt_blocks


def hashes(text: bytes, *, most: int = 100, model: str = "m", salt: str = "") -> list[int]:
    return hash_prompt_blocks(text, 4, most, model, salt)


def matches(index: PrefixIndex, text: bytes, slots: int) -> list[float]:
    found: list[float] = index.match_lengths(hashes(text), np.arange(slots)).tolist()
    return found


def test_a_hash_stands_for_the_whole_beginning() -> None:
    assert hashes(b"aaaabbbbcccc")[:2] == hashes(b"aaaabbbbdddd")[:2]
    assert hashes(b"aaaabbbb")[1] != hashes(b"xxxxbbbb")[1]
    assert len(set(hashes(b"aaaa" * 50))) == 50, "equal blocks at different places differ"


def test_a_partial_last_block_counts_and_is_not_the_full_one() -> None:
    assert len(hashes(b"aaaab")) == 2
    assert hashes(b"aaaab")[1] != hashes(b"aaaabbbb")[1]
    assert hashes(b"") == []


def test_models_and_salts_share_nothing() -> None:
    chains = [hashes(b"aaaa", model=model, salt=salt)[0] for model in ("m", "n", "") for salt in ("", "s", "m")]
    assert len(set(chains)) == 9


def test_only_the_first_blocks_are_hashed() -> None:
    assert hashes(b"aaaabbbbcccc", most=2) == hashes(b"aaaabbbb")
    assert hashes(b"aaaabbbbc", most=2) == hashes(b"aaaabbbb")


def test_credit_is_contiguous_and_by_endpoint() -> None:
    index = PrefixIndex()
    index.touch(0, hashes(b"aaaabbbbcccc"), 100)
    index.touch(2, hashes(b"aaaaxxxx"), 100)
    assert matches(index, b"aaaabbbbcccc", 4) == [3, 0, 1, 0]
    assert matches(index, b"aaaabbbbdddd", 4) == [2, 0, 1, 0]
    assert matches(index, b"zzzzbbbbcccc", 4) == [0, 0, 0, 0]
    assert index.match_lengths(hashes(b"aaaa"), np.array([2, 7, 0], np.intp)).tolist() == [1, 0, 1], (
        "slots in any order"
    )
    assert index.match_lengths([], np.arange(2)).tolist() == [0, 0]


def test_touch_tells_what_was_held() -> None:
    index = PrefixIndex()
    assert index.touch(0, hashes(b"aaaabbbb"), 100) == 0
    assert index.touch(0, hashes(b"aaaabbbbcccc"), 100) == 2
    assert index.touch(0, hashes(b"aaaabbbbcccc"), 100) == 3


def test_the_end_of_the_oldest_prompt_goes_first() -> None:
    index = PrefixIndex()
    index.touch(0, hashes(b"aaaabbbb"), 4)
    index.touch(0, hashes(b"ccccdddd"), 4)
    index.touch(0, hashes(b"eeee"), 4)
    assert matches(index, b"aaaabbbb", 1) == [1]
    assert matches(index, b"ccccdddd", 1) == [2]
    index.touch(0, hashes(b"aaaa"), 4)
    index.touch(0, hashes(b"ffff"), 4)
    assert matches(index, b"ccccdddd", 1) == [1]
    assert matches(index, b"aaaa", 1) == [1], "touched again, hence young"


def test_of_a_prompt_larger_than_the_cache_the_beginning_is_held() -> None:
    index = PrefixIndex()
    index.touch(0, hashes(b"aaaabbbbccccdddd"), 2)
    assert matches(index, b"aaaabbbbccccdddd", 1) == [2]
    assert index.block_count(0) == 2


def test_a_forgotten_slot_begins_anew() -> None:
    index = PrefixIndex()
    index.touch(0, hashes(b"aaaa"), 100)
    index.touch(1, hashes(b"aaaa"), 100)
    index.remove_slot(0)
    index.remove_slot(9)
    assert matches(index, b"aaaa", 2) == [0, 1]
    assert len(index) == 1
    assert index.touch(0, hashes(b"aaaa"), 100) == 0


def test_what_is_held_stays_bounded() -> None:
    index, rng = PrefixIndex(), Random(5)
    for _ in range(2000):
        index.touch(rng.randrange(4), hashes(rng.randbytes(rng.randrange(80))), 50)
        assert max(index.block_count(slot) for slot in range(4)) <= 50
    assert len(index._slots_by_first_block) <= len(index)
