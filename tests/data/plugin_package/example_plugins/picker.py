from random import Random

import numpy as np

from epp.api import Endpoints, Picker, Positions, Request, Values


class FirstPicker(Picker, type="first-picker"):
    """Choose the endpoints that come first, whatever their scores."""

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return np.arange(min(self.max_num_of_endpoints, len(totals)))
