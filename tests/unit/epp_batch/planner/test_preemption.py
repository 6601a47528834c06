"""Preemption within a ClusterQueue and within its cohort.

tests/kube/test_planner_agrees.py compares the same decisions with real Kueue.
"""

from __future__ import annotations

import pytest

from epp_batch.planner.cluster_model import ClusterQueuePreemption
from tests.unit.epp_batch.planner.builders import KueueRig, gpu_cluster_queue, planned_job

LOWER = ClusterQueuePreemption(within_cluster_queue="LowerPriority")
RECLAIM = ClusterQueuePreemption(reclaim_within_cohort="Any")


def test_targets_are_of_lowest_priority_and_most_recently_admitted():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 3, preemption=LOWER))
    rig.submit_jobs(planned_job("mid", priority=2))
    rig.submit_jobs(planned_job("old", priority=1))
    rig.submit_jobs(planned_job("new", priority=1))
    assert rig.submit_jobs(planned_job("urgent", priority=3)) == ["-new", "urgent"]
    assert rig.submit_jobs(planned_job("equal", priority=1)) == []
    assert rig.finish_job("urgent") == ["new"]


def test_fill_back_spares_targets_that_need_not_go():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 4, preemption=LOWER))
    rig.submit_jobs(planned_job("one", priority=1))
    rig.submit_jobs(planned_job("three", gpus=3, priority=1))
    assert rig.submit_jobs(planned_job("urgent", gpus=3, priority=3)) == ["-three", "urgent"]


def test_policy_never_preempts_no_workload():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 1))
    assert rig.submit_jobs(planned_job("low"), planned_job("high", priority=9)) == ["low"]


def test_lower_or_newer_equal_priority_preempts_newer_workloads():
    rig = KueueRig.with_queues(
        gpu_cluster_queue("q", 2, preemption=ClusterQueuePreemption(within_cluster_queue="LowerOrNewerEqualPriority"))
    )
    late = planned_job("late", gpus=2)
    rig.submit_jobs(planned_job("first"))
    rig.workloads["early"] = rig.scheduler.submit_job(planned_job("early", gpus=2), 0.0)
    assert rig.run_until_settled() == ["-first", "early"]
    assert rig.submit_jobs(late) == []


def test_borrowed_quota_is_reclaimed_by_its_cluster_queue():
    rig = KueueRig.with_queues(
        gpu_cluster_queue("a", 2, cohort_name="c"), gpu_cluster_queue("b", 2, cohort_name="c", preemption=RECLAIM)
    )
    assert rig.submit_jobs(*(planned_job(f"a{i}", "a") for i in range(5))) == ["a0", "a1", "a2", "a3"]
    assert rig.submit_jobs(planned_job("b0", "b")) == ["-a3", "b0"]
    assert rig.submit_jobs(planned_job("b1", "b"), planned_job("b2", "b")) == ["-a2", "b1"]
    assert rig.finish_job("b0") == ["b2"]


def test_reclaim_within_cohort_from_lower_priority_only():
    preemption = ClusterQueuePreemption(reclaim_within_cohort="LowerPriority")
    rig = KueueRig.with_queues(
        gpu_cluster_queue("a", 1, cohort_name="c"), gpu_cluster_queue("b", 1, cohort_name="c", preemption=preemption)
    )
    rig.submit_jobs(planned_job("high", "a", priority=5), planned_job("higher", "a", priority=6))
    assert rig.submit_jobs(planned_job("mine", "b", priority=5)) == []
    rig.finish_job("high")
    rig.submit_jobs(planned_job("low", "a"))
    assert rig.submit_jobs(planned_job("more", "b", priority=5)) == []


@pytest.mark.parametrize(
    ("borrow", "target_priority", "decisions"),
    [("LowerPriority", 3, ["-b1", "wide"]), ("LowerPriority", 4, []), ("Never", 3, [])],
)
def test_borrow_within_cohort_needs_its_policy_and_spares_priorities_above_the_threshold(
    borrow, target_priority, decisions
):
    allowed = ClusterQueuePreemption(
        reclaim_within_cohort="LowerPriority", borrow_within_cohort=borrow, max_priority_threshold=3
    )
    rig = KueueRig.with_queues(
        gpu_cluster_queue("a", 2, cohort_name="c"),
        gpu_cluster_queue("b", 1, cohort_name="c"),
        gpu_cluster_queue("p", 2, cohort_name="c", preemption=allowed),
    )
    rig.submit_jobs(
        planned_job("a0", "a", gpus=1), planned_job("b0", "b"), planned_job("b1", "b", gpus=3, priority=target_priority)
    )
    assert rig.submit_jobs(planned_job("wide", "p", gpus=3, priority=5)) == decisions
