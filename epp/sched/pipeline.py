"""Filters, scorers, picker: one profile over some endpoints. Synchronous and pure, given the random generator.

The few array passes here are the whole overhead of the framework: one count a filter, one copy a scorer, one minimum
and one maximum over all scores, two passes for the weighted sum.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from epp.api import Endpoints, Filter, NoEndpoints, Order, Picker, Profile, Request, Scorer, Values
from epp.errors import Unavailable
from epp.sched.decision import Verdict

NEUTRAL = np.float32(0.5)
_MIN = np.minimum.reduce
_MAX = np.maximum.reduce
_SUM = np.add.reduce

Faults = Callable[[str, str], None]
"""(plugin name, kind). Kinds: `raised` (called while the exception is being handled), `shape`, `range`, `unknown` (NaN
scores: a stale endpoint, or a producer that failed), `order`."""


class Timer(Protocol):
    """Times plugin calls; handed in for one decision in N."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def took(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        """One call of one plugin; extension points are llm-d's: Filter, Scorer, Picker, DataProducer."""
        ...


def run(
    profile: Profile,
    request: Request,
    endpoints: Endpoints,
    rng: Random,
    faults: Faults,
    timer: Timer | None = None,
) -> Verdict:
    """Runs the profile; the verdict's `order` is empty if nothing was left to choose from."""
    verdict = Verdict(profile, endpoints)
    if not len(endpoints):
        verdict.otherwise = NoEndpoints
        return verdict
    for name, plugin in profile.filters:
        if not _filter(verdict, name, plugin, request, faults, timer):
            return verdict
    verdict.totals = _totals(verdict, request, faults, timer)
    verdict.totals.flags.writeable = False
    verdict.order = _pick(verdict, request, rng, faults, timer)
    return verdict


def _filter(verdict: Verdict, name: str, plugin: Filter, request: Request, faults: Faults, timer: Timer | None) -> bool:
    """Narrows the verdict's endpoints; false when nothing is left."""
    endpoints = verdict.endpoints
    started = timer.now() if timer else 0.0
    try:
        mask = plugin.keep(request, endpoints)
        sound = mask.shape == endpoints.slots.shape and mask.dtype == np.bool_
        kind = "shape"
    except Exception:
        sound, kind = False, "raised"
        faults(name, kind)
    else:
        if not sound:
            faults(name, kind)
    if timer:
        timer.took("Filter", plugin.type, name, timer.now() - started)
    if not sound:  # a filter means "must not": without its word nobody may be chosen
        verdict.emptied_by, verdict.otherwise, verdict.failed = name, Unavailable, True
        return False
    kept = np.count_nonzero(mask)
    if kept == len(endpoints):
        verdict.masks.append(None)
        return True
    verdict.masks.append(mask)
    verdict.endpoints = endpoints.where(mask)
    if not kept:
        verdict.emptied_by, verdict.otherwise = name, plugin.otherwise
    return bool(kept)


def _totals(verdict: Verdict, request: Request, faults: Faults, timer: Timer | None) -> Values:
    profile, endpoints = verdict.profile, verdict.endpoints
    matrix = verdict.scores = np.empty((len(profile.scorers), len(endpoints)), np.float32)
    if not profile.scorers:
        return np.zeros(len(endpoints), np.float32)
    for i, (name, _, plugin) in enumerate(profile.scorers):
        started = timer.now() if timer else 0.0
        matrix[i] = _scores(name, plugin, request, endpoints, faults)
        if timer:
            timer.took("Scorer", plugin.type, name, timer.now() - started)
    if not (_MIN(matrix, axis=None) >= 0 and _MAX(matrix, axis=None) <= 1):  # NaN makes both false
        _mend(profile, matrix, faults)
    matrix.flags.writeable = False
    # not a matrix product: BLAS rounds by position, and equal scores must have equal totals
    return np.asarray(_SUM(profile.column * matrix, axis=0))


def _scores(name: str, plugin: Scorer, request: Request, endpoints: Endpoints, faults: Faults) -> Values | np.float32:
    memo = None if plugin.of_request else endpoints.memo
    if memo is not None and (known := memo.get(plugin)) is not None:
        return known
    try:
        scores = plugin.score(request, endpoints)
        if scores.shape == endpoints.slots.shape and scores.dtype.kind in "fiub":
            if memo is not None:
                memo[plugin] = scores
            return scores
    except Exception:
        faults(name, "raised")
    else:
        faults(name, "shape")
    return NEUTRAL


def _mend(profile: Profile, matrix: NDArray[np.float32], faults: Faults) -> None:
    for (name, _, _), row in zip(profile.scorers, matrix, strict=True):
        unknown = np.isnan(row)
        if unknown.any():
            faults(name, "unknown")
            row[unknown] = NEUTRAL
        if _MIN(row) < 0 or _MAX(row) > 1:
            faults(name, "range")
            np.clip(row, 0, 1, out=row)


def _pick(verdict: Verdict, request: Request, rng: Random, faults: Faults, timer: Timer | None) -> Order:
    name, plugin = verdict.profile.picker
    endpoints, totals = verdict.endpoints, verdict.totals
    started = timer.now() if timer else 0.0
    try:
        order = plugin.pick(request, endpoints, totals, rng)
        if not _in_order(order, len(endpoints), plugin):
            faults(name, "order")
            order = _best(totals)
    except Exception:
        faults(name, "raised")
        order = _best(totals)
    if timer:
        timer.took("Picker", plugin.type, name, timer.now() - started)
    return order


def _in_order(order: Order, count: int, plugin: Picker) -> bool:
    """Whether the order holds some positions, in range, each once."""
    positions = order.tolist()
    if len(positions) == 1:
        return type(positions[0]) is int and 0 <= positions[0] < count
    if not positions or len(set(positions)) != len(positions) or len(positions) > plugin.max_num_of_endpoints:
        return False
    return order.dtype.kind == "i" and min(positions) >= 0 and max(positions) < count


def _best(totals: Values) -> Order:
    return np.array([totals.argmax()], np.intp)
