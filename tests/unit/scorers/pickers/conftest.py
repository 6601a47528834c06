"""Runs a picker over given totals, once or often enough to measure shares."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np

from epp.api import Picker
from epp.testing import build_endpoints, build_request

ROUNDS = 4000


def pick_positions(picker: Picker, totals: list[float], rng: Random) -> list[int]:
    values = np.array(totals, np.float32)
    return picker.pick(build_request(), build_endpoints(len(totals)), values, rng).tolist()


def first_pick_shares(picker: Picker, totals: list[float]) -> list[float]:
    """How often each endpoint comes first."""
    rng = Random(5)
    first = Counter(pick_positions(picker, totals, rng)[0] for _ in range(ROUNDS))
    return [first[i] / ROUNDS for i in range(len(totals))]
