"""Kueue's decisions: order, blocking, preemption, borrowing, flavors. Its own algorithm, checked against the real one
in tests/kube/test_planner_agrees.py."""

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


def test_first_in_first_out():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 2))
    assert rig.submit_jobs(planned_job("a"), planned_job("b"), planned_job("c")) == ["a", "b"]
    assert rig.finish_job("b") == ["c"]


def test_priority_before_time():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 1))
    rig.submit_jobs(planned_job("a"), planned_job("low"), planned_job("high", priority=1))
    assert rig.finish_job("a") == ["high"]


@pytest.mark.parametrize(("strict", "admitted"), [(False, ["a", "small"]), (True, ["a"])])
def test_what_does_not_fit_blocks_in_a_strict_queue_only(strict, admitted):
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 3, is_strict_fifo=strict))
    assert rig.submit_jobs(planned_job("a", gpus=2), planned_job("big", gpus=2), planned_job("small")) == admitted


def test_the_like_of_what_did_not_fit_waits_with_it_until_quota_is_freed():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 2))
    rig.submit_jobs(planned_job("a", gpus=2), planned_job("b"), planned_job("c"))
    rig.scheduler.release_quota(rig.workloads["a"], rig.now, again=False)
    assert rig.submit_jobs(planned_job("d")) == []
    rig.scheduler.requeue_cohort_workloads(rig.scheduler.resource_nodes["q"], rig.now)
    assert rig.run_until_settled() == ["b", "c"]


def test_the_lowest_priority_and_of_those_the_newest_goes_first():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 3, preemption=LOWER))
    rig.submit_jobs(planned_job("mid", priority=2))
    rig.submit_jobs(planned_job("old", priority=1))
    rig.submit_jobs(planned_job("new", priority=1))
    assert rig.submit_jobs(planned_job("urgent", priority=3)) == ["-new", "urgent"]
    assert rig.submit_jobs(planned_job("equal", priority=1)) == []
    assert rig.finish_job("urgent") == ["new"]


def test_nobody_goes_who_need_not():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 4, preemption=LOWER))
    rig.submit_jobs(planned_job("one", priority=1))
    rig.submit_jobs(planned_job("three", gpus=3, priority=1))
    rig.submit_jobs()
    assert rig.submit_jobs(planned_job("urgent", gpus=3, priority=3)) == ["-three", "urgent"]


def test_without_a_policy_nobody_is_preempted():
    rig = KueueRig.with_queues(gpu_cluster_queue("q", 1))
    assert rig.submit_jobs(planned_job("low"), planned_job("high", priority=9)) == ["low"]


def test_newer_of_equal_priority_may_go_where_the_policy_says_so():
    rig = KueueRig.with_queues(
        gpu_cluster_queue("q", 2, preemption=ClusterQueuePreemption(within_cluster_queue="LowerOrNewerEqualPriority"))
    )
    late = planned_job("late", gpus=2)
    rig.submit_jobs(planned_job("first"))
    rig.workloads["early"] = rig.scheduler.submit_job(planned_job("early", gpus=2), 0.0)
    assert rig.run_until_settled() == ["-first", "early"]
    assert rig.submit_jobs(late) == []


def test_a_queue_borrows_and_gives_back_to_the_owner():
    rig = KueueRig.with_queues(
        gpu_cluster_queue("a", 2, cohort_name="c"), gpu_cluster_queue("b", 2, cohort_name="c", preemption=RECLAIM)
    )
    assert rig.submit_jobs(*(planned_job(f"a{i}", "a") for i in range(5))) == ["a0", "a1", "a2", "a3"]
    assert rig.submit_jobs(planned_job("b0", "b")) == ["-a3", "b0"]
    assert rig.submit_jobs(planned_job("b1", "b"), planned_job("b2", "b")) == ["-a2", "b1"]
    assert rig.finish_job("b0") == ["b2"]


def test_reclaiming_from_lower_priority_only():
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
    ("borrow", "victim", "told"), [("LowerPriority", 3, ["-b1", "wide"]), ("LowerPriority", 4, []), ("Never", 3, [])]
)
def test_borrowing_by_preemption_needs_its_own_policy_and_stays_below_the_threshold(borrow, victim, told):
    allowed = ClusterQueuePreemption(
        reclaim_within_cohort="LowerPriority", borrow_within_cohort=borrow, max_priority_threshold=3
    )
    rig = KueueRig.with_queues(
        gpu_cluster_queue("a", 2, cohort_name="c"),
        gpu_cluster_queue("b", 1, cohort_name="c"),
        gpu_cluster_queue("p", 2, cohort_name="c", preemption=allowed),
    )
    rig.submit_jobs(
        planned_job("a0", "a", gpus=1), planned_job("b0", "b"), planned_job("b1", "b", gpus=3, priority=victim)
    )
    assert rig.submit_jobs(planned_job("wide", "p", gpus=3, priority=5)) == told


def test_who_stays_within_its_quota_goes_before_who_borrows():
    rig = KueueRig.with_queues(gpu_cluster_queue("a", 1, cohort_name="c"), gpu_cluster_queue("b", 2, cohort_name="c"))
    rig.submit_jobs(planned_job("x", "b", gpus=3))
    rig.workloads["borrower"] = rig.scheduler.submit_job(planned_job("borrower", "a", gpus=2), 2.0)
    rig.workloads["owner"] = rig.scheduler.submit_job(planned_job("owner", "b", gpus=2), 3.0)
    assert rig.finish_job("x") == ["owner"]


def flavored(**more) -> ClusterQueue:
    offers = tuple(FlavorQuotas(name, {GPU: ResourceQuota(1)}) for name in ("spot", "reserved"))
    return ClusterQueue(name="q", resource_groups=(ResourceGroup((GPU,), offers),), **more)


def test_the_next_flavor_is_tried_before_preemption():
    rig = KueueRig.with_queues(flavored(preemption=LOWER))
    rig.submit_jobs(planned_job("a"))
    assert rig.submit_jobs(planned_job("b", priority=1)) == ["b"]
    assert rig.workloads["b"].usage == {("reserved", GPU): 1}
    assert rig.submit_jobs(planned_job("c", priority=2)) == ["-a", "c"]
    assert rig.workloads["c"].usage == {("spot", GPU): 1}


def test_or_after_it():
    rig = KueueRig.with_queues(flavored(preemption=LOWER, when_can_preempt="MayStopSearch"))
    rig.submit_jobs(planned_job("a"))
    assert rig.submit_jobs(planned_job("b", priority=1)) == ["-a", "b", "a"]
    assert rig.workloads["b"].usage == {("spot", GPU): 1}


def slots(nominal: int) -> ClusterQueue:
    return ClusterQueue(
        name="q", resource_groups=(ResourceGroup(("slots",), (FlavorQuotas("f", {"slots": ResourceQuota(nominal)}),)),)
    )


def test_slices_count_as_slots_by_transformation():
    rules = tuple(
        ResourceTransformation(input=f"nvidia.com/mig-{name}", replace=True, outputs={"slots": slots})
        for name, slots in (("1g.5gb", 1.0), ("3g.20gb", 4.0))
    )
    rig = KueueRig.with_queues(slots(6), transformations=rules)
    wide, narrow = "mig:3g.20gb", "mig:1g.5gb"
    wanted = [planned_job(str(i), accelerator=kind) for i, kind in enumerate([wide, wide, narrow, narrow, narrow])]
    assert rig.submit_jobs(*wanted) == ["0", "2", "3"]
    assert rig.finish_job("0") == ["1"]


def test_claims_count_by_the_memory_of_their_devices():
    claim = planned_job("x", accelerator="dra:3g.20gb")
    by_memory = KueueRig.with_queues(
        slots(20 << 30), device_class_mappings={"mig.nvidia.com": DeviceClassMapping("slots", counts_memory=True)}
    )
    one_each = KueueRig.with_queues(slots(1), device_class_mappings={"mig.nvidia.com": DeviceClassMapping("slots")})
    unmapped = KueueRig.with_queues(slots(1))
    sized = msgspec.structs.replace(claim, gpu_memory=20 << 30)
    assert by_memory.submit_jobs(sized) == one_each.submit_jobs(sized) == ["x"]
    assert unmapped.submit_jobs(sized) == []
    assert "DeviceClass mig.nvidia.com is in no deviceClassMappings" in unmapped.scheduler.explain_inadmissible(
        unmapped.workloads["x"]
    )
