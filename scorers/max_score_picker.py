"""The best."""

from __future__ import annotations

from random import Random

import numpy as np

from epp.api import Endpoints, Order, Picker, Request, Values


class MaxScore(Picker, type="max-score-picker"):
    """Choose the endpoints with the highest total, best first; equals in random order."""

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Order:
        if self.max_num_of_endpoints == 1 and len(totals):
            best: Order = (totals == np.maximum.reduce(totals)).nonzero()[0]
            if len(best) == 1:
                return best
            chosen = rng.randrange(len(best))
            return best[chosen : chosen + 1]
        noise = np.frombuffer(rng.randbytes(4 * len(totals)), np.uint32)
        return np.asarray(np.lexsort((noise, -totals))[: self.max_num_of_endpoints])
