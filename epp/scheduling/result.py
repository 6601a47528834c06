"""What one run of a profile decided, and how to show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from epp.api import Endpoints, Mask, NoEndpoints, Positions, SchedulerProfile, Values
from epp.errors import Rejection

NO_ORDER: Positions = np.zeros(0, np.intp)
NO_SCORES: Values = np.zeros(0, np.float32)


class ProfileRunResult:
    """One profile's run, as arrays; rendered only when somebody asks (`explain`).

    `candidates` went in; `masks` holds one mask a filter that ran (None: it kept all), over what the filter before it
    left; `endpoints` are the survivors; `scores` a float32[n] for each scorer as weighed (clipped, unknown as 0.5);
    `totals` float32[n] the weighted sums; `order` positions into `endpoints`, best first, empty if nothing was found,
    `first` the first of them, -1 if there is none.
    `emptied_by` names the filter that left nothing (or failed), `otherwise` is how the request ends then.
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
        return f"Verdict({self.profile.name!r}, {len(self.endpoints)} of {len(self.candidates)}, order={self.order})"

    def build_rejection(self, message: str) -> Rejection:
        """The answer to the client if this profile was needed: `message`, or the name of the filter that failed."""
        if self.filter_failed:
            return self.rejection_type(f"filter {self.emptied_by!r} failed")
        return self.rejection_type(message)


def explain_result(verdict: ProfileRunResult) -> dict[str, Any]:
    """The verdict as plain data: candidates, filter verdicts, score matrix, totals, pick."""
    profile = verdict.profile
    names = [endpoint.name for endpoint in verdict.endpoints]
    rows_of_scores = verdict.scores or [NO_SCORES] * len(profile.scorers)
    rows = [
        {
            "name": name,
            "type": type(scorer).type,
            "weight": weight,
            "scores": dict(zip(names, _round_values(row), strict=False)),
        }
        for (name, weight, scorer), row in zip(profile.scorers, rows_of_scores, strict=True)
    ]
    return {
        "profile": profile.name,
        "candidates": [{"name": endpoint.name, "target": endpoint.target} for endpoint in verdict.candidates],
        "filters": _explain_filters(verdict),
        "scorers": rows,
        "totals": dict(zip(names, _round_values(verdict.totals), strict=False)),
        "picker": profile.picker[0],
        "picked": [names[position] for position in verdict.order.tolist()],
        "emptied_by": verdict.emptied_by,
        "otherwise": None if verdict.order.size else f"{verdict.rejection_type.status} {verdict.rejection_type.code}",
    }


def format_result_table(verdict: ProfileRunResult) -> str:
    """The verdict as a text table: one line an endpoint, best total first, `*` before those picked."""
    data = explain_result(verdict)
    dropped = {name: verdict["name"] for verdict in data["filters"] for name in verdict["dropped"]}
    totals, picked = data["totals"], data["picked"]
    header = ["", "endpoint", *(f"{row['name']} x{row['weight']:g}" for row in data["scorers"]), "total", "filtered by"]
    lines = [header]
    for name in sorted((item["name"] for item in data["candidates"]), key=lambda name: -totals.get(name, -1.0)):
        scores = [_format_score(row["scores"].get(name)) for row in data["scorers"]]
        lines.append(
            ["*" if name in picked else "", name, *scores, _format_score(totals.get(name)), dropped.get(name, "")]
        )
    head = f"profile {data['profile']}: {len(data['candidates'])} candidates, picked {', '.join(picked) or 'none'}"
    if data["emptied_by"]:
        head += f" ({data['emptied_by']} left nothing: {data['otherwise']})"
    return "\n".join([head, *_align_columns(lines)])


def _explain_filters(verdict: ProfileRunResult) -> list[dict[str, Any]]:
    endpoints, found = verdict.candidates, []
    for (name, plugin), mask in zip(verdict.profile.filters, verdict.filter_masks, strict=False):
        kept = np.ones(len(endpoints), np.bool_) if mask is None else mask
        dropped = [endpoint.name for endpoint, keep in zip(endpoints, kept.tolist(), strict=True) if not keep]
        found.append({"name": name, "type": type(plugin).type, "kept": int(kept.sum()), "dropped": dropped})
        endpoints = endpoints.select(kept)
    return found


def _round_values(values: Values) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def _format_score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _align_columns(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
