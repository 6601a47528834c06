"""Profile run results as plain data, for `/debug/decisions` and `epp explain`."""

from __future__ import annotations

from typing import Any

import numpy as np

from epp.api import Values
from epp.scheduling.result import NO_SCORES, ProfileRunResult


def explain_result(result: ProfileRunResult) -> dict[str, Any]:
    """The result as plain data: candidates, what each filter dropped, scores by scorer, totals, picked endpoints."""
    profile = result.profile
    names = [endpoint.name for endpoint in result.endpoints]
    scores_by_scorer = result.scores or [NO_SCORES] * len(profile.scorers)
    return {
        "profile": profile.name,
        "candidates": [{"name": endpoint.name, "target": endpoint.target} for endpoint in result.candidates],
        "filters": _explain_filters(result),
        "scorers": [
            {
                "name": name,
                "type": type(scorer).type,
                "weight": weight,
                "scores": dict(zip(names, _round_values(scores), strict=False)),
            }
            for (name, weight, scorer), scores in zip(profile.scorers, scores_by_scorer, strict=True)
        ],
        "totals": dict(zip(names, _round_values(result.totals), strict=False)),
        "picker": profile.picker[0],
        "picked": [names[position] for position in result.order.tolist()],
        "emptied_by": result.emptied_by,
        "otherwise": None if result.order.size else f"{result.rejection_type.status} {result.rejection_type.code}",
    }


def _explain_filters(result: ProfileRunResult) -> list[dict[str, Any]]:
    endpoints, explained = result.candidates, []
    for (name, plugin), mask in zip(result.profile.filters, result.filter_masks, strict=False):
        kept = np.ones(len(endpoints), np.bool_) if mask is None else mask
        dropped = [endpoint.name for endpoint, keep in zip(endpoints, kept.tolist(), strict=True) if not keep]
        explained.append({"name": name, "type": type(plugin).type, "kept": int(kept.sum()), "dropped": dropped})
        endpoints = endpoints.select(kept)
    return explained


def _round_values(values: Values) -> list[float]:
    return [round(value, 6) for value in values.tolist()]
