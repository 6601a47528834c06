"""One workload on its way through Kueue."""

from __future__ import annotations

from epp_batch.planner.cluster_model import KueueObjects, ResourceList
from epp_batch.planner.planned_job import DEVICE_CLASS_PREFIX, PlannedJob
from epp_batch.planner.quota_tree import FlavorResourceQuantities


class WorkloadInfo:
    """A demand that Kueue knows; `usage` is what it holds, from reservation until its pods are gone."""

    def __init__(self, demand: PlannedJob, queue: str, requests: ResourceList, created: float, number: int) -> None:
        self.job = demand
        self.cluster_queue = queue
        """ClusterQueue."""
        self.total_requests = requests
        """As Kueue counts them."""
        self.created_at = created
        self.sequence = number
        """Breaks ties, where Kueue takes the UID."""
        self.queue_order_timestamp = created
        """What it queues by."""
        self.usage: FlavorResourceQuantities = {}
        self.quota_reserved_at = 0.0
        self.is_evicted = False
        self.requeue_at = 0.0
        self.requeue_count = 0
        self.scheduling_hash = (demand.priority, *sorted(requests.items()))
        """Equal for workloads that Kueue need not try one by one."""

    @property
    def name(self) -> str:
        return self.job.unit

    @property
    def priority(self) -> int:
        return self.job.priority

    @property
    def queue_order(self) -> tuple[float, float, int]:
        """Order within a queue: priority, then time."""
        return (-self.priority, self.queue_order_timestamp, self.sequence)


def compute_total_requests(demand: PlannedJob, kueue: KueueObjects) -> ResourceList:
    """What its requests count as: claims by the mapping of their DeviceClass, the rest through the transformations."""
    out: ResourceList = {}
    rules = {rule.input: rule for rule in kueue.transformations}
    for resource, amount in demand.requests.items():
        mapped = (
            kueue.device_class_mappings.get(resource.removeprefix(DEVICE_CLASS_PREFIX))
            if resource.startswith(DEVICE_CLASS_PREFIX)
            else None
        )
        if mapped is not None:
            resource, amount = mapped.resource, demand.gpu_memory if mapped.counts_memory else amount
        rule = rules.get(resource)
        if rule is None or not rule.replace:
            out[resource] = out.get(resource, 0) + amount
        if rule is not None:
            for name, times in rule.outputs.items():
                out[name] = out.get(name, 0) + round(times * amount)
    return out
