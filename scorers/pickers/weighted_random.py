"""Weighted random picker."""

from __future__ import annotations

from random import Random

import numpy as np

from epp.api import Endpoints, Picker, Positions, Request, Values


class WeightedRandomPicker(Picker, type="weighted-random-picker"):
    """Choose endpoints at random with probability proportional to their totals.

    A-Res reservoir sampling (Efraimidis and Spirakis 2006): the largest keys U^(1/total) are picked. Totals of 0 come
    after all others; if all are 0 the choice is uniform.
    """

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        noise = np.frombuffer(rng.randbytes(4 * len(totals)), np.uint32)
        uniform = (noise + 0.5) / 2**32
        weights = totals.astype(np.float64)
        # The logarithm of the key, because U^(1/total) underflows for small totals.
        keys = np.log(uniform) / np.where(weights > 0, weights, 1)
        keys[weights <= 0] = -np.inf
        return np.asarray(np.lexsort((noise, -keys))[: self.max_num_of_endpoints])
