"""The random picker."""

from __future__ import annotations

import pytest

from epp.testing import check_picker
from scorers.pickers.random import RandomPicker
from tests.unit.scorers.pickers.conftest import first_pick_shares


def test_random_ignores_totals() -> None:
    assert first_pick_shares(RandomPicker(), [9, 0, 0]) == pytest.approx([1 / 3] * 3, abs=0.04)


@pytest.mark.parametrize("count", [1, 3])
def test_contract(count: int) -> None:
    check_picker(RandomPicker(max_num_of_endpoints=count))
