"""The weighted random picker: shares of the picks, and totals of zero."""

from __future__ import annotations

from random import Random

import pytest

from epp.testing import check_picker
from scorers.pickers.weighted_random import WeightedRandomPicker
from tests.unit.scorers.pickers.conftest import first_pick_shares, pick_positions


def test_weighted_random_is_proportional_to_totals() -> None:
    assert first_pick_shares(WeightedRandomPicker(), [1, 3, 0, 4]) == pytest.approx([1 / 8, 3 / 8, 0, 4 / 8], abs=0.04)


def test_weighted_random_among_zeros_is_uniform() -> None:
    assert first_pick_shares(WeightedRandomPicker(), [0, 0, 0]) == pytest.approx([1 / 3] * 3, abs=0.04)


def test_weighted_random_picks_zero_totals_last() -> None:
    rng = Random(3)
    orders = [pick_positions(WeightedRandomPicker(max_num_of_endpoints=3), [0, 1e-30, 2], rng) for _ in range(200)]
    assert {order[2] for order in orders} == {0}
    assert {order[0] for order in orders} == {2}


@pytest.mark.parametrize("count", [1, 3])
def test_contract(count: int) -> None:
    check_picker(WeightedRandomPicker(max_num_of_endpoints=count))
