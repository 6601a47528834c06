"""The best."""

from __future__ import annotations

from random import Random

import numpy as np

from epp.api import Endpoints, Order, Picker, Request, Values

FEW = 32


class MaxScore(Picker, type="max-score-picker"):
    """Choose the endpoints with the highest total, best first; equals in random order."""

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Order:
        if self.max_num_of_endpoints == 1 and len(totals):
            first = int(totals.argmax())
            if len(totals) <= FEW:  # of few, Python's own functions are several times faster
                values = totals.tolist()
                if values.count(values[first]) == 1:
                    return np.array([first], np.intp)
            best: Order = (totals == totals[first]).nonzero()[0]
            chosen = rng.randrange(len(best)) if len(best) > 1 else 0
            return best[chosen : chosen + 1]
        noise = np.frombuffer(rng.randbytes(4 * len(totals)), np.uint32)
        return np.asarray(np.lexsort((noise, -totals))[: self.max_num_of_endpoints])
