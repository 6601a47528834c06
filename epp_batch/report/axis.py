"""The time axis of a report: seconds in which at least one unit was under way, counted from the first.

A run whose driver was started again days later, for what had failed, has hours with nothing to do in between. They
belong to nobody's latency, and would squeeze a chart into its edges; they are cut out and marked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from epp_batch.report.step_function import merge_intervals


class IdleCut(msgspec.Struct, frozen=True):
    """Idle time left out."""

    at: float
    """Where, in seconds on the axis."""
    seconds: float
    """How much."""


class TimeAxis:
    """Maps the time of events to seconds on the axis. `intervals` are the lives of units, from creation to end.

    Idle time of up to `least` seconds stays: nobody looks for a break where a breath was taken.
    """

    def __init__(self, intervals: Iterable[tuple[float, float]], *, least: float = 10.0) -> None:
        self._busy_intervals = merge_intervals(intervals, least)
        self._interval_starts = [begin for begin, _ in self._busy_intervals]
        self._busy_before = [0.0]
        for begin, end in self._busy_intervals:
            self._busy_before.append(self._busy_before[-1] + end - begin)

    @property
    def start_time(self) -> float:
        """The time of events that is second 0; 0 where there was nothing."""
        return self._interval_starts[0] if self._interval_starts else 0.0

    @property
    def length(self) -> float:
        """The makespan."""
        return self._busy_before[-1]

    def __call__(self, at: float) -> float:
        """Idle time has the second of the work before it."""
        index = bisect_right(self._interval_starts, at) - 1
        if index < 0:
            return 0.0
        begin, end = self._busy_intervals[index]
        return self._busy_before[index] + min(at, end) - begin

    def idle_cuts(self) -> list[IdleCut]:
        pairs = zip(self._busy_intervals, self._busy_intervals[1:], self._busy_before[1:], strict=False)
        return [IdleCut(before, after[0] - earlier[1]) for earlier, after, before in pairs]
