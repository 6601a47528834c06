"""The statistics that the paper gives of latencies: kube-burner's, made of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev

import msgspec


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Of one latency over all units that have it, in seconds."""

    count: int
    mean: float
    median: float
    p95: float
    p99: float
    max: float
    min: float
    std: float
    """Of the population: the units are all there are."""


def describe_distribution(values: Iterable[float]) -> Distribution | None:
    """None of nothing."""
    known = sorted(values)
    if not known:
        return None
    return Distribution(
        count=len(known),
        mean=fmean(known),
        median=interpolated_percentile(known, 50),
        p95=interpolated_percentile(known, 95),
        p99=interpolated_percentile(known, 99),
        max=known[-1],
        min=known[0],
        std=pstdev(known),
    )


def interpolated_percentile(ordered: Sequence[float], percent: float) -> float:
    """Linear between the two nearest ranks (numpy's default); `ordered` is sorted and not empty."""
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
