"""What a timeline came to, and what no order could beat."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from epp_batch.planner.cluster_model import GpuNode
from epp_batch.planner.mig_slots import SLOTS_PER_GPU
from epp_batch.planner.planned_job import PlannedJob
from epp_batch.timeline import TimelineEvent


class TimelineStats(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one run; seconds. Completion is counted from the creation of each Job, as kube-burner does."""

    units: int
    failed: int
    makespan: float
    """From the first creation to the last end."""
    mean: float
    p50: float
    p95: float
    p99: float
    wait: float
    """Mean time from creation to the first start."""
    peak: int
    """Most units that ran at once."""
    preemptions: int

    def weighted_cost(self, makespan: float, mean: float) -> float:
        """For choosing between runs of the same units: seconds, weighted; what failed counts a million."""
        return makespan * self.makespan + mean * self.mean + 1e6 * self.failed


def compute_timeline_stats(events: Iterable[TimelineEvent]) -> TimelineStats:
    """The figures of a timeline, simulated or real."""
    created: dict[str, float] = {}
    started: dict[str, float] = {}
    finished: dict[str, float] = {}
    running: set[str] = set()
    peak = preemptions = failed = 0
    for event in events:
        match event.kind:
            case "created":
                created[event.unit] = event.at
            case "running":
                started.setdefault(event.unit, event.at)
                running.add(event.unit)
                peak = max(peak, len(running))
            case "evicted":
                running.discard(event.unit)
                preemptions += event.detail == "Preempted"
            case "finished":
                running.discard(event.unit)
                finished[event.unit] = event.at
            case "failed":
                failed += 1
            case _:
                pass
    spans = sorted(finished[unit] - created[unit] for unit in finished)
    return TimelineStats(
        units=len(created),
        failed=failed,
        makespan=max(finished.values(), default=0.0) - min(created.values(), default=0.0),
        mean=statistics.fmean(spans) if spans else 0.0,
        p50=nearest_rank_percentile(spans, 50),
        p95=nearest_rank_percentile(spans, 95),
        p99=nearest_rank_percentile(spans, 99),
        wait=statistics.fmean(started[unit] - created[unit] for unit in started) if started else 0.0,
        peak=peak,
        preemptions=preemptions,
    )


def nearest_rank_percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank, of values in order; 0 for none."""
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)] if ordered else 0.0


def compute_makespan_bound(demands: Sequence[PlannedJob], nodes: Sequence[GpuNode]) -> float:
    """Seconds below which no order can come: the longest unit, or all work spread evenly over all slots.

    It leaves out that slices fit in some places only, so it may be below what can be reached.
    """
    capacity = SLOTS_PER_GPU * sum(node.gpu_count for node in nodes)
    area = sum(demand.duration_seconds * demand.gpu_slots for demand in demands)
    return max(area / capacity if capacity else 0.0, max((demand.duration_seconds for demand in demands), default=0.0))
