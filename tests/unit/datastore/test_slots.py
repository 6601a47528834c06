import pytest

from epp.datastore.slots import Slots


def test_a_name_keeps_its_slot():
    slots = Slots()
    assert [slots.take("a"), slots.take("b"), slots.take("a")] == [0, 1, 0]
    assert (slots.get("b"), slots.get("c"), slots.name(1)) == (1, None, "b")
    assert len(slots) == 2


def test_the_lowest_free_slot_is_given_next_under_a_new_generation():
    slots = Slots()
    for name in "abcd":
        slots.take(name)
    assert [slots.free("c"), slots.free("a")] == [2, 0]
    assert slots.live() == [1, 3]
    assert "a" not in slots
    assert [slots.take("e"), slots.take("f"), slots.take("g")] == [0, 2, 4]
    assert [slots.generation(slot) for slot in range(5)] == [1, 0, 1, 0, 0]
    assert slots.capacity == 5


def test_freeing_an_unknown_name_is_an_error():
    with pytest.raises(KeyError):
        Slots().free("a")
