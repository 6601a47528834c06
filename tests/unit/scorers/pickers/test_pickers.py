"""Pickers: the best, anyone, and in between."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from epp.api import Picker
from epp.testing import check_picker, endpoints, request
from scorers.pickers.max_score import MaxScore
from scorers.pickers.random import RandomChoice
from scorers.pickers.weighted_random import WeightedRandom
from scorers.profile_handlers.single_profile import SingleProfile

ROUNDS = 4000


def picked(picker: Picker, totals: list[float], rng: Random) -> list[int]:
    values = np.array(totals, np.float32)
    return picker.pick(request(), endpoints(len(totals)), values, rng).tolist()


def shares(picker: Picker, totals: list[float]) -> list[float]:
    """How often each endpoint comes first."""
    rng = Random(5)
    first = Counter(picked(picker, totals, rng)[0] for _ in range(ROUNDS))
    return [first[i] / ROUNDS for i in range(len(totals))]


def test_max_score() -> None:
    assert picked(MaxScore(), [1, 3, 2], Random(1)) == [1]
    assert picked(MaxScore(max_num_of_endpoints=2), [1, 3, 2], Random(1)) == [1, 2]
    assert picked(MaxScore(max_num_of_endpoints=9), [1, 3, 2], Random(1)) == [1, 2, 0]


@pytest.mark.parametrize("count", [1, 2])
def test_max_score_breaks_ties_evenly(count: int) -> None:
    assert shares(MaxScore(max_num_of_endpoints=count), [2, 2, 1, 2]) == pytest.approx(
        [1 / 3, 1 / 3, 0, 1 / 3], abs=0.04
    )


def test_random() -> None:
    assert shares(RandomChoice(), [9, 0, 0]) == pytest.approx([1 / 3] * 3, abs=0.04)


def test_weighted_random_goes_by_score() -> None:
    assert shares(WeightedRandom(), [1, 3, 0, 4]) == pytest.approx([1 / 8, 3 / 8, 0, 4 / 8], abs=0.04)


def test_weighted_random_among_zeros_is_uniform() -> None:
    assert shares(WeightedRandom(), [0, 0, 0]) == pytest.approx([1 / 3] * 3, abs=0.04)


def test_weighted_random_takes_zeros_last() -> None:
    rng = Random(3)
    orders = [picked(WeightedRandom(max_num_of_endpoints=3), [0, 1e-30, 2], rng) for _ in range(200)]
    assert {order[2] for order in orders} == {0}
    assert {order[0] for order in orders} == {2}


@pytest.mark.parametrize("kind", [MaxScore, RandomChoice, WeightedRandom])
@pytest.mark.parametrize("count", [1, 3])
def test_contract(kind: type[Picker], count: int) -> None:
    check_picker(kind(max_num_of_endpoints=count))


def test_single_profile_handler() -> None:
    handler = SingleProfile()
    assert handler.profiles(request(), ["only"], {}) == ["only"]
    assert not handler.profiles(request(), ["only"], {"only": True})
    assert handler.primary(request(), {"only": False}) == "only"
    assert handler.objections(["only"]) == ()
    assert handler.objections([]) == ("takes exactly one scheduling profile, not 0 (none)",)
