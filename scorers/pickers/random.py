"""Random picker."""

from __future__ import annotations

from random import Random

import numpy as np

from epp.api import Endpoints, Picker, Positions, Request, Values


class RandomPicker(Picker, type="random-picker"):
    """Choose endpoints uniformly at random, whatever their scores."""

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        count = min(self.max_num_of_endpoints, len(totals))
        return np.array(rng.sample(range(len(totals)), count), np.intp)
