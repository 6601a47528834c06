"""Admission by KueueScheduler: order, blocking, preemption, borrowing, flavors.

tests/kube/test_planner_agrees.py compares the same decisions with real Kueue.
"""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.planner.cluster_model import (
    ClusterQueue,
    ClusterQueuePreemption,
    DeviceClassMapping,
    FlavorQuotas,
    ResourceGroup,
    ResourceQuota,
    ResourceTransformation,
)
from tests.unit.epp_batch.planner.builders import GPU, KueueRig, gpu_cluster_queue, planned_job

LOWER = ClusterQueuePreemption(within_cluster_queue="LowerPriority")
RECLAIM = ClusterQueuePreemption(reclaim_within_cohort="Any")


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
    rig.submit_jobs()
    assert rig.submit_jobs(planned_job("urgent", gpus=3, priority=3)) == ["-three", "urgent"]


def test_policy_never_preempts_nothing():
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


def test_a_head_within_nominal_quota_is_admitted_before_one_that_borrows():
    rig = KueueRig.with_queues(gpu_cluster_queue("a", 1, cohort_name="c"), gpu_cluster_queue("b", 2, cohort_name="c"))
    rig.submit_jobs(planned_job("x", "b", gpus=3))
    rig.workloads["borrower"] = rig.scheduler.submit_job(planned_job("borrower", "a", gpus=2), 2.0)
    rig.workloads["owner"] = rig.scheduler.submit_job(planned_job("owner", "b", gpus=2), 3.0)
    assert rig.finish_job("x") == ["owner"]


def flavored(**more) -> ClusterQueue:
    offers = tuple(FlavorQuotas(name, {GPU: ResourceQuota(1)}) for name in ("spot", "reserved"))
    return ClusterQueue(name="q", resource_groups=(ResourceGroup((GPU,), offers),), **more)


def test_try_next_flavor_tries_other_flavors_before_preemption():
    rig = KueueRig.with_queues(flavored(preemption=LOWER))
    rig.submit_jobs(planned_job("a"))
    assert rig.submit_jobs(planned_job("b", priority=1)) == ["b"]
    assert rig.workloads["b"].usage == {("reserved", GPU): 1}
    assert rig.submit_jobs(planned_job("c", priority=2)) == ["-a", "c"]
    assert rig.workloads["c"].usage == {("spot", GPU): 1}


def test_may_stop_search_preempts_in_the_first_flavor():
    rig = KueueRig.with_queues(flavored(preemption=LOWER, when_can_preempt="MayStopSearch"))
    rig.submit_jobs(planned_job("a"))
    assert rig.submit_jobs(planned_job("b", priority=1)) == ["-a", "b", "a"]
    assert rig.workloads["b"].usage == {("spot", GPU): 1}


def slots(nominal: int) -> ClusterQueue:
    return ClusterQueue(
        name="q", resource_groups=(ResourceGroup(("slots",), (FlavorQuotas("f", {"slots": ResourceQuota(nominal)}),)),)
    )


def test_resource_transformations_charge_slices_as_slots():
    rules = tuple(
        ResourceTransformation(input=f"nvidia.com/mig-{name}", replace=True, outputs={"slots": slots})
        for name, slots in (("1g.5gb", 1.0), ("3g.20gb", 4.0))
    )
    rig = KueueRig.with_queues(slots(6), transformations=rules)
    wide, narrow = "mig:3g.20gb", "mig:1g.5gb"
    jobs = [planned_job(str(i), accelerator=kind) for i, kind in enumerate([wide, wide, narrow, narrow, narrow])]
    assert rig.submit_jobs(*jobs) == ["0", "2", "3"]
    assert rig.finish_job("0") == ["1"]


def test_device_class_mappings_charge_claims_by_device_or_by_memory():
    claim = planned_job("x", accelerator="dra:3g.20gb")
    by_memory = KueueRig.with_queues(
        slots(20 << 30), device_class_mappings={"mig.nvidia.com": DeviceClassMapping("slots", counts_memory=True)}
    )
    one_each = KueueRig.with_queues(slots(1), device_class_mappings={"mig.nvidia.com": DeviceClassMapping("slots")})
    unmapped = KueueRig.with_queues(slots(1))
    sized = msgspec.structs.replace(claim, gpu_memory=20 << 30)
    assert by_memory.submit_jobs(sized) == one_each.submit_jobs(sized) == ["x"]
    assert unmapped.submit_jobs(sized) == []
    assert (
        "DeviceClass mig.nvidia.com is not in resources.deviceClassMappings"
        in unmapped.scheduler.explain_inadmissible(unmapped.workloads["x"])
    )
