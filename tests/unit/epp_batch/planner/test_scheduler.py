"""Admission by KueueScheduler: order, blocking, equivalence classes.

tests/kube/test_planner_agrees.py compares the same decisions with real Kueue.
"""

from __future__ import annotations

import pytest

from tests.unit.epp_batch.planner.builders import KueueRig, gpu_cluster_queue, planned_job


def test_workloads_are_admitted_in_order_of_submission():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 2))
    assert rig.submit_jobs(planned_job("a"), planned_job("b"), planned_job("c")) == ["a", "b"]
    assert rig.finish_job("b") == ["c"]


def test_higher_priority_is_admitted_before_earlier_submission():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 1))
    rig.submit_jobs(planned_job("a"), planned_job("low"), planned_job("high", priority=1))
    assert rig.finish_job("a") == ["high"]


@pytest.mark.parametrize(("strict", "admitted"), [(False, ["a", "small"]), (True, ["a"])])
def test_an_inadmissible_head_blocks_only_a_strict_fifo_queue(strict, admitted):
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 3, is_strict_fifo=strict))
    assert rig.submit_jobs(planned_job("a", gpus=2), planned_job("big", gpus=2), planned_job("small")) == admitted


def test_equivalent_workloads_stay_inadmissible_until_quota_is_released():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 2))
    rig.submit_jobs(planned_job("a", gpus=2), planned_job("b"), planned_job("c"))
    rig.scheduler.release_quota(rig.workloads["a"], rig.now, requeue=False)
    assert rig.submit_jobs(planned_job("d")) == []
    rig.scheduler.requeue_cohort_workloads(rig.scheduler.resource_nodes["q"], rig.now)
    assert rig.run_until_settled() == ["b", "c"]


def test_a_head_within_nominal_quota_is_admitted_before_one_that_borrows():
    rig = KueueRig.with_queues(gpu_cluster_queue("a", 1, cohort_name="c"), gpu_cluster_queue("b", 2, cohort_name="c"))
    rig.submit_jobs(planned_job("x", "b", gpus=3))
    rig.workloads["borrower"] = rig.scheduler.submit_job(planned_job("borrower", "a", gpus=2), 2.0)
    rig.workloads["owner"] = rig.scheduler.submit_job(planned_job("owner", "b", gpus=2), 3.0)
    assert rig.finish_job("x") == ["owner"]
