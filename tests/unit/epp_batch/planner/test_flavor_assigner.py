"""The choice between flavors, by flavorFungibility."""

from __future__ import annotations

from typing import Any

from epp_batch.planner.cluster_model import (
    ClusterQueue,
    ClusterQueuePreemption,
    FlavorQuotas,
    ResourceGroup,
    ResourceQuota,
)
from tests.unit.epp_batch.planner.builders import GPU, KueueRig, planned_job

LOWER = ClusterQueuePreemption(within_cluster_queue="LowerPriority")


def queue_with_two_flavors(**fields: Any) -> ClusterQueue:
    flavors = tuple(FlavorQuotas(name, {GPU: ResourceQuota(1)}) for name in ("spot", "reserved"))
    return ClusterQueue(name="q", resource_groups=(ResourceGroup((GPU,), flavors),), **fields)


def test_try_next_flavor_tries_other_flavors_before_preemption():
    rig = KueueRig.with_queues(queue_with_two_flavors(preemption=LOWER))
    rig.submit_jobs(planned_job("a"))
    assert rig.submit_jobs(planned_job("b", priority=1)) == ["b"]
    assert rig.workloads["b"].usage == {("reserved", GPU): 1}
    assert rig.submit_jobs(planned_job("c", priority=2)) == ["-a", "c"]
    assert rig.workloads["c"].usage == {("spot", GPU): 1}


def test_may_stop_search_preempts_in_the_first_flavor():
    rig = KueueRig.with_queues(queue_with_two_flavors(preemption=LOWER, when_can_preempt="MayStopSearch"))
    rig.submit_jobs(planned_job("a"))
    assert rig.submit_jobs(planned_job("b", priority=1)) == ["-a", "b", "a"]
    assert rig.workloads["b"].usage == {("spot", GPU): 1}
