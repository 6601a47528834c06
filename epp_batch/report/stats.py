"""Statistics of latencies, and counts over time. Pure functions of plain numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean, pstdev

import msgspec

Interval = tuple[float, float]
"""Begin and end, seconds."""
Step = tuple[float, int]
"""A time in seconds, and the number from then until the next step."""


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """One latency of all units that have it, in seconds: the statistics that kube-burner and the paper give."""

    count: int
    mean: float
    median: float
    p95: float
    p99: float
    max: float
    min: float
    std: float
    """Of the population, since the units are not a sample."""


def describe_distribution(values: Iterable[float]) -> Distribution | None:
    """The statistics of values in any order; None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Distribution(
        count=len(ordered),
        mean=fmean(ordered),
        median=interpolated_percentile(ordered, 50),
        p95=interpolated_percentile(ordered, 95),
        p99=interpolated_percentile(ordered, 99),
        max=ordered[-1],
        min=ordered[0],
        std=pstdev(ordered),
    )


def interpolated_percentile(ordered: Sequence[float], percent: float) -> float:
    """Interpolates linearly between the two nearest ranks, numpy's default; `ordered` is ascending and not empty."""
    rank = (len(ordered) - 1) * percent / 100
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def build_step_function(intervals: Iterable[Interval]) -> list[Step]:
    """How many of the intervals are open over time. Empty intervals do not count; the last step is to 0."""
    changes: Counter[float] = Counter()
    for begin, end in intervals:
        if end > begin:
            changes[begin] += 1
            changes[end] -= 1
    steps: list[Step] = []
    level = 0
    for at in sorted(changes):
        level += changes[at]
        if not steps or steps[-1][1] != level:
            steps.append((at, level))
    return steps


def integrate_steps(steps: Sequence[Step]) -> float:
    """The area under a step function: seconds times number."""
    return sum(level * (after - at) for (at, level), (after, _) in pairwise(steps))


def peak_level(steps: Sequence[Step]) -> int:
    """The highest number of a step function; 0 without steps."""
    return max((level for _, level in steps), default=0)


def merge_intervals(intervals: Iterable[Interval], gap: float = 0.0) -> list[Interval]:
    """Intervals that cover the same time without overlaps, ascending; intervals at most `gap` apart are joined."""
    merged: list[Interval] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
