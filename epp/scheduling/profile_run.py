"""Filters, scorers, picker: one profile over some endpoints. Synchronous and pure, given the random generator.

The few array passes here are the whole overhead of the framework: one count a filter; a minimum, a maximum, a product
and a sum a scorer, and no more than the sum for a scorer whose scores follow from scraped columns alone.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

import numpy as np

from epp.api import Endpoints, Filter, NoEndpoints, Picker, Positions, Request, SchedulerProfile, Scorer, Values
from epp.errors import ServiceUnavailable
from epp.scheduling.result import NO_SCORES, ProfileRunResult

NEUTRAL_SCORE = np.float32(0.5)
FLOAT32 = np.dtype(np.float32)
_MIN = np.minimum.reduce
_MAX = np.maximum.reduce
SMALL_POOL = 32

ReportPluginError = Callable[[str, str], None]
"""(plugin name, kind). Kinds: `raised` (called while the exception is being handled), `shape`, `range`, `unknown` (NaN
scores: a stale endpoint, or a producer that failed), `order`."""


class PluginTimer(Protocol):
    """Times plugin calls; handed in for one decision in N."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def record(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        """One call of one plugin; extension points are llm-d's: Filter, Scorer, Picker, DataProducer."""
        ...


def run_profile(
    profile: SchedulerProfile,
    request: Request,
    endpoints: Endpoints,
    rng: Random,
    faults: ReportPluginError,
    timer: PluginTimer | None = None,
) -> ProfileRunResult:
    """Runs the profile; the verdict's `order` is empty if nothing was left to choose from."""
    verdict = ProfileRunResult(profile, endpoints)
    if not len(endpoints.slots):
        verdict.rejection_type = NoEndpoints
        return verdict
    for name, plugin in profile.filters:
        if not _apply_filter(verdict, name, plugin, request, faults, timer):
            return verdict
    verdict.totals = totals = _sum_scores(verdict, request, faults, timer)
    totals.setflags(write=False)
    verdict.order = order = _run_picker(verdict, request, rng, faults, timer)
    verdict.first_position = order.item(0)
    return verdict


def _apply_filter(
    verdict: ProfileRunResult,
    name: str,
    plugin: Filter,
    request: Request,
    faults: ReportPluginError,
    timer: PluginTimer | None,
) -> bool:
    """Narrows the verdict's endpoints; false when nothing is left."""
    endpoints = verdict.endpoints
    started = timer.now() if timer else 0.0
    try:
        mask = plugin.filter(request, endpoints)
        sound = mask.shape == endpoints.slots.shape and mask.dtype == np.bool_
        kind = "shape"
    except Exception:
        sound, kind = False, "raised"
        faults(name, kind)
    else:
        if not sound:
            faults(name, kind)
    if timer:
        timer.record("Filter", plugin.type, name, timer.now() - started)
    if not sound:  # a filter means "must not": without its word nobody may be chosen
        verdict.emptied_by, verdict.rejection_type, verdict.filter_failed = name, ServiceUnavailable, True
        return False
    kept = np.count_nonzero(mask)
    if kept == len(endpoints):
        verdict.filter_masks.append(None)
        return True
    verdict.filter_masks.append(mask)
    verdict.endpoints = endpoints.select(mask)
    if not kept:
        verdict.emptied_by, verdict.rejection_type = name, plugin.rejection
    return bool(kept)


def _sum_scores(
    verdict: ProfileRunResult, request: Request, faults: ReportPluginError, timer: PluginTimer | None
) -> Values:
    profile, endpoints = verdict.profile, verdict.endpoints
    memo = endpoints.memo
    settled: _StaticScores | None = None if memo is None else memo.get(profile)
    if settled is None:
        settled = _score_request_independent(profile, request, endpoints, faults, timer)
        if memo is not None:
            memo[profile] = settled
    scores, totals, open_scorers = settled
    rows = scores.copy()
    for place, name, weight, plugin in open_scorers:
        row = rows[place] = _time_scorer(name, plugin, request, endpoints, faults, timer)
        # not a matrix product: BLAS rounds by position, and equal scores must have equal totals
        totals = row * weight if totals is None else totals + row * weight
    verdict.scores = rows
    return np.zeros(len(endpoints), np.float32) if totals is None else totals


_StaticScores = tuple[list[Values], Values | None, list[tuple[int, str, Values, Scorer]]]
"""Scores by scorer, their weighted sum, and the scorers yet to be asked: place, name, weight, plugin."""


def _score_request_independent(
    profile: SchedulerProfile,
    request: Request,
    endpoints: Endpoints,
    faults: ReportPluginError,
    timer: PluginTimer | None,
) -> _StaticScores:
    """What scraped columns alone decide; of the whole pool, it holds until the next scrape.

    Always summed first, so that the rounding of a total does not depend on whether it was kept.
    """
    rows, open_scorers = [NO_SCORES] * len(profile.scorers), []
    totals: Values | None = None
    for place, (name, weight, plugin) in enumerate(profile.scorers):
        factor = np.array(weight, np.float32)  # numpy multiplies by an array without axes faster than by a scalar
        if plugin.of_request:
            open_scorers.append((place, name, factor, plugin))
            continue
        row = rows[place] = _time_scorer(name, plugin, request, endpoints, faults, timer)
        totals = row * factor if totals is None else totals + row * factor
    return rows, totals, open_scorers


def _time_scorer(
    name: str,
    plugin: Scorer,
    request: Request,
    endpoints: Endpoints,
    faults: ReportPluginError,
    timer: PluginTimer | None,
) -> Values:
    if timer is None:
        return _run_scorer(name, plugin, request, endpoints, faults)
    started = timer.now()
    row = _run_scorer(name, plugin, request, endpoints, faults)
    timer.record("Scorer", plugin.type, name, timer.now() - started)
    return row


def _run_scorer(name: str, plugin: Scorer, request: Request, endpoints: Endpoints, faults: ReportPluginError) -> Values:
    """float32[n] in [0, 1], whatever the plugin returns or raises."""
    try:
        scores = plugin.score(request, endpoints)
        as_wanted = scores.dtype is FLOAT32
        if scores.shape == endpoints.slots.shape and (as_wanted or scores.dtype.kind in "fiub"):
            row: Values = scores if as_wanted else scores.astype(np.float32)
            row = row if _is_in_range(row) else _sanitize_scores(name, row, faults)
            row.setflags(write=False)
            return row
    except Exception:
        faults(name, "raised")
    else:
        faults(name, "shape")
    return np.full(len(endpoints), NEUTRAL_SCORE, np.float32)


def _is_in_range(row: Values) -> bool:
    """Whether all scores are in [0, 1] and none is NaN."""
    if len(row) > SMALL_POOL:
        return bool(_MIN(row) >= 0 and _MAX(row) <= 1)  # NaN makes both false
    # Of few, Python's own floats are faster, but not by a generator.
    for score in row.tolist():  # noqa: SIM110
        if not 0.0 <= score <= 1.0:
            return False
    return True


def _sanitize_scores(name: str, row: Values, faults: ReportPluginError) -> Values:
    """Unknown as neutral, the rest clipped; the plugin is named."""
    unknown = np.isnan(row)
    if unknown.any():
        faults(name, "unknown")
        row = np.where(unknown, NEUTRAL_SCORE, row)
    if _MIN(row) < 0 or _MAX(row) > 1:
        faults(name, "range")
        row = np.clip(row, 0, 1)
    return row


def _run_picker(
    verdict: ProfileRunResult, request: Request, rng: Random, faults: ReportPluginError, timer: PluginTimer | None
) -> Positions:
    name, plugin = verdict.profile.picker
    endpoints, totals = verdict.endpoints, verdict.totals
    started = timer.now() if timer else 0.0
    try:
        order = plugin.pick(request, endpoints, totals, rng)
        if not _is_valid_order(order, len(totals), plugin):
            faults(name, "order")
            order = _best_position(totals)
    except Exception:
        faults(name, "raised")
        order = _best_position(totals)
    if timer:
        timer.record("Picker", plugin.type, name, timer.now() - started)
    return order


def _is_valid_order(order: Positions, count: int, plugin: Picker) -> bool:
    """Whether the order holds some positions, in range, each once."""
    positions = order.tolist()
    if len(positions) == 1:
        return type(positions[0]) is int and 0 <= positions[0] < count
    if not positions or len(set(positions)) != len(positions) or len(positions) > plugin.max_num_of_endpoints:
        return False
    return order.dtype.kind == "i" and min(positions) >= 0 and max(positions) < count


def _best_position(totals: Values) -> Positions:
    return np.array([totals.argmax()], np.intp)
