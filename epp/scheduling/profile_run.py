"""Runs one profile over the candidates: filters, scorers, picker (llm-d's `SchedulerProfile.Run`).

Synchronous, and deterministic given the random generator. A plugin that raises or returns nonsense is reported and
replaced by a fixed behaviour: a failed filter rejects the request with 503, a failed scorer counts as neutral, a failed
picker as the endpoint with the highest total. llm-d differs: its filters and scorers return no error, and
`enforceScoreRange` clamps scores without reporting them and lets NaN pass.

The framework's own cost is few array passes: a count for each filter; minimum, maximum, product and sum for each
scorer; for a request-independent scorer only the sum, because its scores are kept until the next scrape.
"""

from __future__ import annotations

from random import Random

import numpy as np

from epp.api import Endpoints, Filter, NoEndpoints, Picker, Positions, Request, SchedulerProfile, Scorer, Values
from epp.errors import ServiceUnavailable
from epp.scheduling.plugin_metrics import PluginTimer, ReportPluginError
from epp.scheduling.result import NO_SCORES, ProfileRunResult

NEUTRAL_SCORE = np.float32(0.5)
FLOAT32 = np.dtype(np.float32)
SMALL_POOL = 32  # up to here Python's floats are compared faster than numpy's
_MIN = np.minimum.reduce
_MAX = np.maximum.reduce


def run_profile(
    profile: SchedulerProfile,
    request: Request,
    endpoints: Endpoints,
    rng: Random,
    report_error: ReportPluginError,
    timer: PluginTimer | None = None,
) -> ProfileRunResult:
    """The result; its `order` is empty if there were no candidates or a filter left none. Never raises."""
    result = ProfileRunResult(profile, endpoints)
    if not len(endpoints.slots):
        result.rejection_type = NoEndpoints
        return result
    for name, plugin in profile.filters:
        if not _apply_filter(result, name, plugin, request, report_error, timer):
            return result
    result.totals = totals = _sum_scores(result, request, report_error, timer)
    totals.setflags(write=False)
    result.order = order = _run_picker(result, request, rng, report_error, timer)
    result.first_position = order.item(0)
    return result


def _apply_filter(
    result: ProfileRunResult,
    name: str,
    plugin: Filter,
    request: Request,
    report_error: ReportPluginError,
    timer: PluginTimer | None,
) -> bool:
    """Narrows the result's endpoints; False if none is left."""
    endpoints = result.endpoints
    started_at = timer.now() if timer else 0.0
    try:
        mask = plugin.filter(request, endpoints)
        is_valid = mask.shape == endpoints.slots.shape and mask.dtype == np.bool_
        if not is_valid:
            report_error(name, "shape")
    except Exception:
        is_valid = False
        report_error(name, "raised")
    if timer:
        timer.record("Filter", plugin.type, name, timer.now() - started_at)
    if not is_valid:  # a filter excludes endpoints that must not get the request, so without its mask none is safe
        result.emptied_by, result.rejection_type, result.filter_failed = name, ServiceUnavailable, True
        return False
    kept = np.count_nonzero(mask)
    if kept == len(endpoints):
        result.filter_masks.append(None)
        return True
    result.filter_masks.append(mask)
    result.endpoints = endpoints.select(mask)
    if not kept:
        result.emptied_by, result.rejection_type = name, plugin.rejection
    return bool(kept)


def _sum_scores(
    result: ProfileRunResult, request: Request, report_error: ReportPluginError, timer: PluginTimer | None
) -> Values:
    """Fills in the scores and returns their weighted sums; weights are not normalised, as in llm-d."""
    profile, endpoints = result.profile, result.endpoints
    memo = endpoints.memo
    # There is a memo if all live endpoints are candidates; it belongs to their snapshot.
    static_scores: _StaticScores | None = None if memo is None else memo.get(profile)
    if static_scores is None:
        static_scores = _score_request_independent(profile, request, endpoints, report_error, timer)
        if memo is not None:
            memo[profile] = static_scores
    known_scores, totals, remaining = static_scores
    scores = known_scores.copy()
    for index, name, weight, plugin in remaining:
        row = scores[index] = _time_scorer(name, plugin, request, endpoints, report_error, timer)
        # Not a matrix product: BLAS rounds by position, and equal scores must have equal totals.
        totals = row * weight if totals is None else totals + row * weight
    result.scores = scores
    return np.zeros(len(endpoints), np.float32) if totals is None else totals


_StaticScores = tuple[list[Values], Values | None, list[tuple[int, str, Values, Scorer]]]
"""Scores by scorer, their weighted sum, and the scorers that depend on the request: index, name, weight, plugin."""


def _score_request_independent(
    profile: SchedulerProfile,
    request: Request,
    endpoints: Endpoints,
    report_error: ReportPluginError,
    timer: PluginTimer | None,
) -> _StaticScores:
    """Runs the request-independent scorers. The caller keeps the result until the next scrape if it has a memo.

    Their scores are summed before the others in any case, so that rounding does not depend on whether the sum was kept.
    """
    scores, remaining = [NO_SCORES] * len(profile.scorers), []
    totals: Values | None = None
    for index, (name, weight, plugin) in enumerate(profile.scorers):
        weight_array = np.array(weight, np.float32)  # numpy multiplies by a 0-d array faster than by a scalar
        if not plugin.request_independent:
            remaining.append((index, name, weight_array, plugin))
            continue
        row = scores[index] = _time_scorer(name, plugin, request, endpoints, report_error, timer)
        totals = row * weight_array if totals is None else totals + row * weight_array
    return scores, totals, remaining


def _time_scorer(
    name: str,
    plugin: Scorer,
    request: Request,
    endpoints: Endpoints,
    report_error: ReportPluginError,
    timer: PluginTimer | None,
) -> Values:
    if timer is None:
        return _run_scorer(name, plugin, request, endpoints, report_error)
    started_at = timer.now()
    row = _run_scorer(name, plugin, request, endpoints, report_error)
    timer.record("Scorer", plugin.type, name, timer.now() - started_at)
    return row


def _run_scorer(
    name: str, plugin: Scorer, request: Request, endpoints: Endpoints, report_error: ReportPluginError
) -> Values:
    """float32[n] in [0, 1], whatever the plugin returns or raises."""
    try:
        scores = plugin.score(request, endpoints)
        is_float32 = scores.dtype is FLOAT32
        if scores.shape == endpoints.slots.shape and (is_float32 or scores.dtype.kind in "fiub"):
            row: Values = scores if is_float32 else scores.astype(np.float32)
            row = row if _is_in_range(row) else _sanitize_scores(name, row, report_error)
            row.setflags(write=False)
            return row
    except Exception:
        report_error(name, "raised")
    else:
        report_error(name, "shape")
    return np.full(len(endpoints), NEUTRAL_SCORE, np.float32)


def _is_in_range(row: Values) -> bool:
    """Whether all scores are in [0, 1] and none is NaN."""
    if len(row) > SMALL_POOL:
        return bool(_MIN(row) >= 0 and _MAX(row) <= 1)  # NaN makes both false
    for score in row.tolist():  # noqa: SIM110 (a generator would cost more than the loop)
        if not 0.0 <= score <= 1.0:
            return False
    return True


def _sanitize_scores(name: str, row: Values, report_error: ReportPluginError) -> Values:
    """NaN becomes neutral, the rest is clipped to [0, 1]; both are reported."""
    unknown = np.isnan(row)
    if unknown.any():
        report_error(name, "unknown")
        row = np.where(unknown, NEUTRAL_SCORE, row)
    if _MIN(row) < 0 or _MAX(row) > 1:
        report_error(name, "range")
        row = np.clip(row, 0, 1)
    return row


def _run_picker(
    result: ProfileRunResult,
    request: Request,
    rng: Random,
    report_error: ReportPluginError,
    timer: PluginTimer | None,
) -> Positions:
    name, plugin = result.profile.picker
    endpoints, totals = result.endpoints, result.totals
    started_at = timer.now() if timer else 0.0
    try:
        order = plugin.pick(request, endpoints, totals, rng)
        if not _is_valid_order(order, len(totals), plugin):
            report_error(name, "order")
            order = _best_position(totals)
    except Exception:
        report_error(name, "raised")
        order = _best_position(totals)
    if timer:
        timer.record("Picker", plugin.type, name, timer.now() - started_at)
    return order


def _is_valid_order(order: Positions, count: int, plugin: Picker) -> bool:
    """Whether the picker returned at least one position, each in range and once, and no more than it may."""
    positions = order.tolist()
    if len(positions) == 1:
        return type(positions[0]) is int and 0 <= positions[0] < count
    if not positions or len(set(positions)) != len(positions) or len(positions) > plugin.max_num_of_endpoints:
        return False
    return order.dtype.kind == "i" and min(positions) >= 0 and max(positions) < count


def _best_position(totals: Values) -> Positions:
    return np.array([totals.argmax()], np.intp)
