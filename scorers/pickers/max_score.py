"""Max-score picker."""

from __future__ import annotations

from random import Random

import numpy as np

from epp.api import Endpoints, Picker, Positions, Request, Values

SMALL_POOL = 32
"""Up to this size Python's own list functions are several times faster than numpy's."""
_POSITIONS = np.arange(SMALL_POOL)
_POSITIONS.setflags(write=False)


class MaxScorePicker(Picker, type="max-score-picker"):
    """Choose the endpoints with the highest total, best first; equals in random order."""

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        if self.max_num_of_endpoints == 1 and len(totals):
            if len(totals) <= SMALL_POOL:
                values = totals.tolist()
                highest = max(values)
                if values.count(highest) == 1:
                    first = values.index(highest)
                    return _POSITIONS[first : first + 1]
            best: Positions = (totals == totals[totals.argmax()]).nonzero()[0]
            chosen = rng.randrange(len(best)) if len(best) > 1 else 0
            return best[chosen : chosen + 1]
        # Equal totals are ordered by random keys; llm-d shuffles before a stable sort.
        noise = np.frombuffer(rng.randbytes(4 * len(totals)), np.uint32)
        return np.asarray(np.lexsort((noise, -totals))[: self.max_num_of_endpoints])
