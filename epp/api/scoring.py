"""Score shapes with a stated policy for unknown values: NaN in, NaN out, the others undisturbed."""

from __future__ import annotations

import numpy as np

from epp.api.types import Scores, Values

ZERO, ONE = np.zeros((), np.float32), np.ones((), np.float32)
"""Arrays without axes, which numpy takes faster than numbers; read-only."""
ZERO.setflags(write=False)
ONE.setflags(write=False)


def prefer_low(values: Values) -> Scores:
    """(max - v) / (max - min) over the known values; 1 for all when they are equal (llm-d's queue-scorer)."""
    if not len(values):
        return values
    high, low = values.max(), values.min()
    if not high - low >= 0:  # a NaN among them: the slow way round
        if np.isnan(values).all():
            return values
        high, low = np.nanmax(values), np.nanmin(values)
    if high == low:
        return np.where(np.isnan(values), values, np.float32(1))
    return np.asarray((high - values) / (high - low), np.float32)


def prefer_high(values: Values) -> Scores:
    """(v - min) / (max - min) over the known values; 1 for all when they are equal."""
    return prefer_low(-values)
