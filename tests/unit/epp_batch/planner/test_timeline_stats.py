"""Figures of a timeline, and the bound of its makespan."""

from __future__ import annotations

import pytest

from epp_batch.planner.cluster_model import GpuNode
from epp_batch.planner.timeline_stats import compute_makespan_bound, compute_timeline_stats, nearest_rank_percentile
from epp_batch.timeline import TimelineEvent
from tests.unit.epp_batch.planner.builders import planned_job


def event(at: float, unit: str, kind: str, detail: str = "") -> TimelineEvent:
    return TimelineEvent(at=at, unit=unit, kind=kind, detail=detail)


def test_completion_counts_from_creation_and_waiting_ends_at_the_first_start():
    stats = compute_timeline_stats(
        [
            event(10, "a", "created"),
            event(20, "b", "created"),
            event(30, "a", "running"),
            event(40, "b", "running"),
            event(50, "a", "evicted", "Preempted"),
            event(60, "a", "running"),
            event(70, "b", "finished"),
            event(90, "a", "finished"),
        ]
    )
    assert (stats.units, stats.failed, stats.peak, stats.preemptions) == (2, 0, 2, 1)
    assert (stats.makespan, stats.mean, stats.wait) == (80, 65, 20)
    assert (stats.p50, stats.p99) == (50, 80)


def test_only_preemptions_count_among_evictions_and_evicted_units_do_not_run():
    stats = compute_timeline_stats(
        [
            event(0, "a", "created"),
            event(0, "b", "created"),
            event(1, "a", "running"),
            event(2, "a", "evicted", "PodsReadyTimeout"),
            event(3, "b", "running"),
            event(4, "a", "failed"),
        ]
    )
    assert (stats.peak, stats.preemptions, stats.failed) == (1, 0, 1)
    assert stats.weighted_cost(1.0, 1.0) >= 1e6, "a failed unit outweighs any order of the others"


def test_a_timeline_without_events_has_no_figures():
    stats = compute_timeline_stats([])
    assert (stats.units, stats.makespan, stats.mean, stats.p95, stats.wait) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (25, 1), (26, 2), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_nearest_rank_percentiles_are_values_of_the_list(percent: float, value: float):
    assert nearest_rank_percentile([1, 2, 3, 4], percent) == value
    assert nearest_rank_percentile([], percent) == 0


def test_the_makespan_is_bound_by_all_slots_or_by_the_longest_job():
    nodes = [GpuNode(name="n", gpu_count=2)]
    even = [planned_job(unit, work=100) for unit in "abc"]
    assert compute_makespan_bound(even, nodes) == 150
    assert compute_makespan_bound([*even, planned_job("d", work=400)], nodes) == 400
    assert compute_makespan_bound(even, []) == 100
    assert compute_makespan_bound([], nodes) == 0
