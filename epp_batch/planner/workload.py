"""A Workload as Kueue's queues and scheduler see it, and what its requests count as."""

from __future__ import annotations

import math
from collections import Counter

from epp_batch.planner.cluster_model import KueueObjects, ResourceList
from epp_batch.planner.planned_job import DEVICE_CLASS_PREFIX, PlannedJob
from epp_batch.planner.quota_tree import FlavorResourceQuantities


class WorkloadInfo:
    """The Workload of one planned job (Kueue: workload.Info). Mutable; `KueueScheduler` owns it."""

    def __init__(
        self, job: PlannedJob, cluster_queue: str, total_requests: ResourceList, created_at: float, sequence: int
    ) -> None:
        self.job = job
        self.cluster_queue = cluster_queue
        self.total_requests = total_requests
        """After device class mappings and resource transformations."""
        self.created_at = created_at
        self.sequence = sequence
        """Number of the submission; breaks ties, for which Kueue compares UIDs."""
        self.queue_order_timestamp = created_at
        """Kueue: Ordering.GetQueueOrderTimestamp; the creation, or the last eviction for a PodsReady timeout."""
        self.usage: FlavorResourceQuantities = {}
        """The quota it holds, from its reservation until its pods are gone."""
        self.quota_reserved_at = 0.0
        self.is_evicted = False
        """Evicted, but still holding its quota."""
        self.requeue_at = 0.0
        """`status.requeueState.requeueAt`: not to be tried before."""
        self.requeue_count = 0
        """`status.requeueState.count`: evictions for a PodsReady timeout."""
        self.scheduling_hash = (job.priority, *sorted(total_requests.items()))
        """Equal for workloads that get the same admission result (Kueue: computeSchedulingHash)."""

    @property
    def name(self) -> str:
        """The unit's."""
        return self.job.unit

    @property
    def priority(self) -> int:
        """Value of its WorkloadPriorityClass."""
        return self.job.priority

    @property
    def queue_order(self) -> tuple[float, float, int]:
        """Sort key within a queue (Kueue: baseCompareFunc): higher priority first, then by queue order timestamp."""
        return (-self.priority, self.queue_order_timestamp, self.sequence)


def compute_total_requests(job: PlannedJob, kueue: KueueObjects) -> ResourceList:
    """What a job's requests count as, rounded up to whole units. Kueue: totalRequestsFromPodSets.

    Resource requests go through the transformations (applyResourceTransformations); claims are charged by the mapping
    of their DeviceClass (pkg/dra), and a charge is not transformed. Left out: `multiplyBy` of transformations,
    excludeResourcePrefixes, quotaCheckStrategy.
    """
    total: Counter[str] = Counter()
    transformations = {transformation.input: transformation for transformation in kueue.transformations}
    for resource, amount in job.requests.items():
        mapping = (
            kueue.device_class_mappings.get(resource.removeprefix(DEVICE_CLASS_PREFIX))
            if resource.startswith(DEVICE_CLASS_PREFIX)
            else None
        )
        if mapping is not None:
            total[mapping.resource] += job.gpu_memory if mapping.counts_memory else amount
            continue
        transformation = transformations.get(resource)
        if transformation is None or not transformation.replace:
            total[resource] += amount
        if transformation is not None:
            for output, factor in transformation.outputs.items():
                total[output] += math.ceil(factor * amount)
    return dict(total)
