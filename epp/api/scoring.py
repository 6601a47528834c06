"""Min-max scaling of columns to scores. NaN stays NaN and does not influence the scores of the other endpoints."""

from __future__ import annotations

import numpy as np

from epp.api.types import Scores, Values

# Zero-dimensional arrays: numpy combines them with float32[n] faster than Python numbers. Read-only.
ZERO, ONE = np.zeros((), np.float32), np.ones((), np.float32)
ZERO.setflags(write=False)
ONE.setflags(write=False)


def prefer_low(values: Values) -> Scores:
    """(max - v) / (max - min) over the known values: the lowest scores 1, the highest 0; all 1 if they are equal.

    The formula of llm-d's queue-scorer.
    """
    if not len(values):
        return values
    high, low = values.max(), values.min()
    if not high - low >= 0:  # some value is NaN: the slower functions that skip it
        if np.isnan(values).all():
            return values
        high, low = np.nanmax(values), np.nanmin(values)
    if high == low:
        return np.where(np.isnan(values), values, np.float32(1))
    return np.asarray((high - values) / (high - low), np.float32)


def prefer_high(values: Values) -> Scores:
    """(v - min) / (max - min) over the known values: the highest scores 1; all 1 if they are equal."""
    return prefer_low(-values)
