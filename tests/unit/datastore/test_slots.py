"""Allocation of slots to endpoint names."""

import pytest

from epp.datastore.slots import SlotAllocator


def test_a_name_keeps_its_slot() -> None:
    slots = SlotAllocator()
    assert [slots.allocate("a"), slots.allocate("b"), slots.allocate("a")] == [0, 1, 0]
    assert (slots.find_slot("b"), slots.find_slot("c"), slots.live_slots()) == (1, None, [0, 1])
    assert len(slots) == 2


def test_the_lowest_free_slot_is_reused_with_a_new_generation() -> None:
    slots = SlotAllocator()
    for name in "abcd":
        slots.allocate(name)
    assert [slots.free("c"), slots.free("a")] == [2, 0]
    assert slots.live_slots() == [1, 3]
    assert "a" not in slots
    assert [slots.allocate("e"), slots.allocate("f"), slots.allocate("g")] == [0, 2, 4]
    assert [slots.generation_of(slot) for slot in range(5)] == [1, 0, 1, 0, 0]
    assert slots.capacity == 5


def test_freeing_an_unknown_name_raises_key_error() -> None:
    with pytest.raises(KeyError):
        SlotAllocator().free("a")
