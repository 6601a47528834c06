"""The result of one profile run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epp.api import Endpoints, Mask, NoEndpoints, Positions, SchedulerProfile, Values
from epp.errors import Rejection

NO_ORDER: Positions = np.zeros(0, np.intp)
NO_SCORES: Values = np.zeros(0, np.float32)


class ProfileRunResult:
    """What one profile decided, as arrays (llm-d's `ProfileRunResult`); `scheduling.explain` renders it.

    `candidates` are the endpoints before the filters, `endpoints` those after them. `filter_masks` has one mask for
    each filter that ran, over the endpoints that the filter before it kept; None if it kept all. `scores` has a
    float32[n] for each scorer, in [0, 1] and not yet weighted; `totals` float32[n] are their weighted sums. `order` are
    positions in `endpoints`, best first, empty if no endpoint was found; `first_position` is the first of them or -1.
    If a filter kept no endpoint or failed, `emptied_by` is its name, and `rejection_type` how the request is rejected.
    """

    __slots__ = (
        "candidates",
        "emptied_by",
        "endpoints",
        "filter_failed",
        "filter_masks",
        "first_position",
        "order",
        "profile",
        "rejection_type",
        "scores",
        "totals",
    )

    def __init__(self, profile: SchedulerProfile, candidates: Endpoints) -> None:
        self.profile = profile
        self.candidates = candidates
        self.endpoints = candidates
        self.filter_masks: list[Mask | None] = []
        self.scores: Sequence[Values] = ()
        self.totals: Values = NO_SCORES
        self.order: Positions = NO_ORDER
        self.first_position = -1
        self.emptied_by: str | None = None
        self.rejection_type: type[Rejection] = NoEndpoints
        self.filter_failed = False

    def __repr__(self) -> str:
        found = f"{len(self.endpoints)} of {len(self.candidates)}"
        return f"ProfileRunResult({self.profile.name!r}, {found}, order={self.order})"

    def build_rejection(self, message: str) -> Rejection:
        """The error for the client if no endpoint was found: `message`, or the name of the filter that failed."""
        if self.filter_failed:
            return self.rejection_type(f"filter {self.emptied_by!r} failed")
        return self.rejection_type(message)
