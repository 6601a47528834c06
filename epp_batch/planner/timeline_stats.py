"""Figures of a timeline, and the makespan that no order of submission can beat."""

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
    """Figures of one run, in seconds. Completion counts from the creation of each Job, as kube-burner counts it.

    The fields are keys in the output of `epp-batch plan --json`.
    """

    units: int
    failed: int
    makespan: float
    """From the first creation to the last end."""
    mean: float
    """Of completion, like the percentiles."""
    p50: float
    p95: float
    p99: float
    wait: float
    """Mean time from creation to the first start."""
    peak: int
    """Most units that ran at the same time."""
    preemptions: int

    def weighted_cost(self, makespan: float, mean: float) -> float:
        """A number to compare runs of the same units by, for these weights; each failed unit adds a million seconds."""
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
    completions = sorted(finished[unit] - created[unit] for unit in finished)
    return TimelineStats(
        units=len(created),
        failed=failed,
        makespan=max(finished.values(), default=0.0) - min(created.values(), default=0.0),
        mean=statistics.fmean(completions) if completions else 0.0,
        p50=nearest_rank_percentile(completions, 50),
        p95=nearest_rank_percentile(completions, 95),
        p99=nearest_rank_percentile(completions, 99),
        wait=statistics.fmean(started[unit] - created[unit] for unit in started) if started else 0.0,
        peak=peak,
        preemptions=preemptions,
    )


def nearest_rank_percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of ascending values; 0 without values."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else 0.0


def compute_makespan_bound(jobs: Sequence[PlannedJob], nodes: Sequence[GpuNode]) -> float:
    """Seconds below which no order can get: the longest job, or all work spread evenly over all slots.

    Slices fit at some starts only, which is not counted, so the bound may be out of reach.
    """
    capacity = SLOTS_PER_GPU * sum(node.gpu_count for node in nodes)
    slot_seconds = sum(job.duration_seconds * job.gpu_slots for job in jobs)
    longest = max((job.duration_seconds for job in jobs), default=0.0)
    return max(slot_seconds / capacity if capacity else 0.0, longest)
