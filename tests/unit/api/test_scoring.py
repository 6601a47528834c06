"""Min-max scaling of columns to scores."""

from __future__ import annotations

import numpy as np
import pytest

from epp.api import ONE, ZERO, prefer_high, prefer_low

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "scores"),
    [
        ([], []),
        ([3], [1]),
        ([3, 3], [1, 1]),
        ([0, 1, 4], [1, 0.75, 0]),
        ([0, NAN, 4], [1, NAN, 0]),
        ([NAN, 5], [NAN, 1]),
        ([NAN, NAN], [NAN, NAN]),
    ],
)
def test_the_lowest_value_scores_one_and_nan_stays_nan(values: list[float], scores: list[float]) -> None:
    scored = prefer_low(np.array(values, np.float32))
    assert scored.dtype == np.float32
    assert scored.tolist() == pytest.approx(scores, nan_ok=True)
    assert prefer_high(-np.array(values, np.float32)).tolist() == pytest.approx(scores, nan_ok=True)


def test_the_constants_are_read_only_float32() -> None:
    for constant, value in ((ZERO, 0), (ONE, 1)):
        assert constant.dtype == np.float32
        assert constant == value
        with pytest.raises(ValueError, match="read-only"):
            constant[...] = 2
