"""Kueue's decisions: order, blocking, preemption, borrowing, flavors. Its own algorithm, checked against the real one
in tests/kube/test_planner_agrees.py."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.planner.world import ClusterQueue, DeviceClass, Group, Offer, Preemption, Quota, Transformation
from tests.unit.epp_batch.planner.builders import GPU, Rig, demand, queue

LOWER = Preemption(within="LowerPriority")
RECLAIM = Preemption(reclaim="Any")


def test_first_in_first_out():
    rig = Rig.of(queue("q", 2))
    assert rig.submit(demand("a"), demand("b"), demand("c")) == ["a", "b"]
    assert rig.finish("b") == ["c"]


def test_priority_before_time():
    rig = Rig.of(queue("q", 1))
    rig.submit(demand("a"), demand("low"), demand("high", priority=1))
    assert rig.finish("a") == ["high"]


@pytest.mark.parametrize(("strict", "admitted"), [(False, ["a", "small"]), (True, ["a"])])
def test_what_does_not_fit_blocks_in_a_strict_queue_only(strict, admitted):
    rig = Rig.of(queue("q", 3, strict=strict))
    assert rig.submit(demand("a", gpus=2), demand("big", gpus=2), demand("small")) == admitted


def test_the_like_of_what_did_not_fit_waits_with_it_until_quota_is_freed():
    rig = Rig.of(queue("q", 2))
    rig.submit(demand("a", gpus=2), demand("b"), demand("c"))
    rig.queues.release(rig.workloads["a"], rig.now, again=False)
    assert rig.submit(demand("d")) == []
    rig.queues.retry(rig.queues.nodes["q"], rig.now)
    assert rig.settle() == ["b", "c"]


def test_the_lowest_priority_and_of_those_the_newest_goes_first():
    rig = Rig.of(queue("q", 3, preemption=LOWER))
    rig.submit(demand("mid", priority=2))
    rig.submit(demand("old", priority=1))
    rig.submit(demand("new", priority=1))
    assert rig.submit(demand("urgent", priority=3)) == ["-new", "urgent"]
    assert rig.submit(demand("equal", priority=1)) == []
    assert rig.finish("urgent") == ["new"]


def test_nobody_goes_who_need_not():
    rig = Rig.of(queue("q", 4, preemption=LOWER))
    rig.submit(demand("one", priority=1))
    rig.submit(demand("three", gpus=3, priority=1))
    rig.submit()
    assert rig.submit(demand("urgent", gpus=3, priority=3)) == ["-three", "urgent"]


def test_without_a_policy_nobody_is_preempted():
    rig = Rig.of(queue("q", 1))
    assert rig.submit(demand("low"), demand("high", priority=9)) == ["low"]


def test_newer_of_equal_priority_may_go_where_the_policy_says_so():
    rig = Rig.of(queue("q", 2, preemption=Preemption(within="LowerOrNewerEqualPriority")))
    late = demand("late", gpus=2)
    rig.submit(demand("first"))
    rig.workloads["early"] = rig.queues.submit(demand("early", gpus=2), 0.0)
    assert rig.settle() == ["-first", "early"]
    assert rig.submit(late) == []


def test_a_queue_borrows_and_gives_back_to_the_owner():
    rig = Rig.of(queue("a", 2, cohort="c"), queue("b", 2, cohort="c", preemption=RECLAIM))
    assert rig.submit(*(demand(f"a{i}", "a") for i in range(5))) == ["a0", "a1", "a2", "a3"]
    assert rig.submit(demand("b0", "b")) == ["-a3", "b0"]
    assert rig.submit(demand("b1", "b"), demand("b2", "b")) == ["-a2", "b1"]
    assert rig.finish("b0") == ["b2"]


def test_reclaiming_from_lower_priority_only():
    preemption = Preemption(reclaim="LowerPriority")
    rig = Rig.of(queue("a", 1, cohort="c"), queue("b", 1, cohort="c", preemption=preemption))
    rig.submit(demand("high", "a", priority=5), demand("higher", "a", priority=6))
    assert rig.submit(demand("mine", "b", priority=5)) == []
    rig.finish("high")
    rig.submit(demand("low", "a"))
    assert rig.submit(demand("more", "b", priority=5)) == []


@pytest.mark.parametrize(
    ("borrow", "victim", "told"), [("LowerPriority", 3, ["-b1", "wide"]), ("LowerPriority", 4, []), ("Never", 3, [])]
)
def test_borrowing_by_preemption_needs_its_own_policy_and_stays_below_the_threshold(borrow, victim, told):
    allowed = Preemption(reclaim="LowerPriority", borrow=borrow, threshold=3)
    rig = Rig.of(queue("a", 2, cohort="c"), queue("b", 1, cohort="c"), queue("p", 2, cohort="c", preemption=allowed))
    rig.submit(demand("a0", "a", gpus=1), demand("b0", "b"), demand("b1", "b", gpus=3, priority=victim))
    assert rig.submit(demand("wide", "p", gpus=3, priority=5)) == told


def test_who_stays_within_its_quota_goes_before_who_borrows():
    rig = Rig.of(queue("a", 1, cohort="c"), queue("b", 2, cohort="c"))
    rig.submit(demand("x", "b", gpus=3))
    rig.workloads["borrower"] = rig.queues.submit(demand("borrower", "a", gpus=2), 2.0)
    rig.workloads["owner"] = rig.queues.submit(demand("owner", "b", gpus=2), 3.0)
    assert rig.finish("x") == ["owner"]


def flavored(**more) -> ClusterQueue:
    offers = tuple(Offer(name, {GPU: Quota(1)}) for name in ("spot", "reserved"))
    return ClusterQueue(name="q", groups=(Group((GPU,), offers),), **more)


def test_the_next_flavor_is_tried_before_preemption():
    rig = Rig.of(flavored(preemption=LOWER))
    rig.submit(demand("a"))
    assert rig.submit(demand("b", priority=1)) == ["b"]
    assert rig.workloads["b"].usage == {("reserved", GPU): 1}
    assert rig.submit(demand("c", priority=2)) == ["-a", "c"]
    assert rig.workloads["c"].usage == {("spot", GPU): 1}


def test_or_after_it():
    rig = Rig.of(flavored(preemption=LOWER, when_can_preempt="MayStopSearch"))
    rig.submit(demand("a"))
    assert rig.submit(demand("b", priority=1)) == ["-a", "b", "a"]
    assert rig.workloads["b"].usage == {("spot", GPU): 1}


def slots(nominal: int) -> ClusterQueue:
    return ClusterQueue(name="q", groups=(Group(("slots",), (Offer("f", {"slots": Quota(nominal)}),)),))


def test_slices_count_as_slots_by_transformation():
    rules = tuple(
        Transformation(input=f"nvidia.com/mig-{name}", replace=True, outputs={"slots": slots})
        for name, slots in (("1g.5gb", 1.0), ("3g.20gb", 4.0))
    )
    rig = Rig.of(slots(6), transformations=rules)
    wide, narrow = "mig:3g.20gb", "mig:1g.5gb"
    wanted = [demand(str(i), accelerator=kind) for i, kind in enumerate([wide, wide, narrow, narrow, narrow])]
    assert rig.submit(*wanted) == ["0", "2", "3"]
    assert rig.finish("0") == ["1"]


def test_claims_count_by_the_memory_of_their_devices():
    claim = demand("x", accelerator="dra:3g.20gb")
    by_memory = Rig.of(slots(20 << 30), device_classes={"mig.nvidia.com": DeviceClass("slots", by_memory=True)})
    one_each = Rig.of(slots(1), device_classes={"mig.nvidia.com": DeviceClass("slots")})
    unmapped = Rig.of(slots(1))
    sized = msgspec.structs.replace(claim, memory=20 << 30)
    assert by_memory.submit(sized) == one_each.submit(sized) == ["x"]
    assert unmapped.submit(sized) == []
    assert "DeviceClass mig.nvidia.com is in no deviceClassMappings" in unmapped.queues.why(unmapped.workloads["x"])
