"""Keys of the data that plugins exchange."""

from __future__ import annotations

from epp.api import Column


def test_a_column_bound_to_a_producer_is_always_the_same_key() -> None:
    column = Column("rain", "mm", "rain")
    bound = column.from_producer("north")
    assert column.from_producer("") is column
    assert column.from_producer("north") is bound
    assert (bound.name, bound.unit, bound.base, bound.producer) == ("rain/north", "mm", column, "north")
    assert (column.base, column.producer) == (column, "")
