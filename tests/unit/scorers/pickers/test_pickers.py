"""Max-score, random and weighted random pickers."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from epp.api import Picker
from epp.testing import build_endpoints, build_request, check_picker
from scorers.pickers.max_score import MaxScorePicker
from scorers.pickers.random import RandomPicker
from scorers.pickers.weighted_random import WeightedRandomPicker

ROUNDS = 4000


def pick_positions(picker: Picker, totals: list[float], rng: Random) -> list[int]:
    values = np.array(totals, np.float32)
    return picker.pick(build_request(), build_endpoints(len(totals)), values, rng).tolist()


def first_pick_shares(picker: Picker, totals: list[float]) -> list[float]:
    """How often each endpoint comes first."""
    rng = Random(5)
    first = Counter(pick_positions(picker, totals, rng)[0] for _ in range(ROUNDS))
    return [first[i] / ROUNDS for i in range(len(totals))]


def test_max_score_picks_the_highest_totals() -> None:
    assert pick_positions(MaxScorePicker(), [1, 3, 2], Random(1)) == [1]
    assert pick_positions(MaxScorePicker(max_num_of_endpoints=2), [1, 3, 2], Random(1)) == [1, 2]
    assert pick_positions(MaxScorePicker(max_num_of_endpoints=9), [1, 3, 2], Random(1)) == [1, 2, 0]


@pytest.mark.parametrize("count", [1, 2])
def test_max_score_breaks_ties_evenly(count: int) -> None:
    assert first_pick_shares(MaxScorePicker(max_num_of_endpoints=count), [2, 2, 1, 2]) == pytest.approx(
        [1 / 3, 1 / 3, 0, 1 / 3], abs=0.04
    )


def test_random_ignores_totals() -> None:
    assert first_pick_shares(RandomPicker(), [9, 0, 0]) == pytest.approx([1 / 3] * 3, abs=0.04)


def test_weighted_random_is_proportional_to_totals() -> None:
    assert first_pick_shares(WeightedRandomPicker(), [1, 3, 0, 4]) == pytest.approx([1 / 8, 3 / 8, 0, 4 / 8], abs=0.04)


def test_weighted_random_among_zeros_is_uniform() -> None:
    assert first_pick_shares(WeightedRandomPicker(), [0, 0, 0]) == pytest.approx([1 / 3] * 3, abs=0.04)


def test_weighted_random_picks_zero_totals_last() -> None:
    rng = Random(3)
    orders = [pick_positions(WeightedRandomPicker(max_num_of_endpoints=3), [0, 1e-30, 2], rng) for _ in range(200)]
    assert {order[2] for order in orders} == {0}
    assert {order[0] for order in orders} == {2}


@pytest.mark.parametrize("kind", [MaxScorePicker, RandomPicker, WeightedRandomPicker])
@pytest.mark.parametrize("count", [1, 3])
def test_contract(kind: type[Picker], count: int) -> None:
    check_picker(kind(max_num_of_endpoints=count))
