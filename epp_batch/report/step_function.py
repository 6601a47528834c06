"""How many at once: a step function from intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

Step = tuple[float, int]
"""From this second on so many; until the next step."""


def build_step_function(intervals: Iterable[tuple[float, float]]) -> list[Step]:
    """Steps of the number of open intervals; empty ones count for nothing. The last step is 0."""
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
    """The integral: seconds times number."""
    return sum(level * (after - at) for (at, level), (after, _) in pairwise(steps))


def peak_level(steps: Sequence[Step]) -> int:
    return max((level for _, level in steps), default=0)


def merge_intervals(intervals: Iterable[tuple[float, float]], gap: float = 0.0) -> list[tuple[float, float]]:
    """The same time without overlaps, in order; intervals at most `gap` apart are one."""
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
