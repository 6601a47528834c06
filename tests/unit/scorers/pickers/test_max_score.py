"""The max-score picker: order of the picks, and ties."""

from __future__ import annotations

from random import Random

import pytest

from epp.testing import check_picker
from scorers.pickers.max_score import MaxScorePicker
from tests.unit.scorers.pickers.conftest import first_pick_shares, pick_positions


def test_max_score_picks_the_highest_totals() -> None:
    assert pick_positions(MaxScorePicker(), [1, 3, 2], Random(1)) == [1]
    assert pick_positions(MaxScorePicker(max_num_of_endpoints=2), [1, 3, 2], Random(1)) == [1, 2]
    assert pick_positions(MaxScorePicker(max_num_of_endpoints=9), [1, 3, 2], Random(1)) == [1, 2, 0]


@pytest.mark.parametrize("count", [1, 2])
def test_max_score_breaks_ties_evenly(count: int) -> None:
    assert first_pick_shares(MaxScorePicker(max_num_of_endpoints=count), [2, 2, 1, 2]) == pytest.approx(
        [1 / 3, 1 / 3, 0, 1 / 3], abs=0.04
    )


@pytest.mark.parametrize("count", [1, 3])
def test_contract(count: int) -> None:
    check_picker(MaxScorePicker(max_num_of_endpoints=count))
