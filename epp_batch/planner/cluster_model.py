"""What the planner knows of a cluster: its nodes with their GPUs, and Kueue's objects.

Amounts are whole numbers: pieces of an extended resource, thousandths of a CPU, bytes of memory.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ResourceList = dict[str, int]
"""Resource name -> amount."""

GpuSharing = Literal["whole", "das", "dra", "static"]
"""How a node gives its GPUs away: undivided, in slices that DAS cuts first fit, in slices that a DRA driver offers as
partitionable devices, or in slices that somebody cut beforehand."""

PreemptionPolicy = Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority", "Any"]


class ResourceQuota(msgspec.Struct, frozen=True):
    """Of one resource in one flavor; no limit where None."""

    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None


class FlavorQuotas(msgspec.Struct, frozen=True):
    """One flavor within a resource group."""

    flavor: str
    quotas: dict[str, ResourceQuota]


class ResourceGroup(msgspec.Struct, frozen=True):
    """Resources that are assigned together, all from one of the flavors, tried in this order."""

    covered_resources: tuple[str, ...]
    flavors: tuple[FlavorQuotas, ...]


class ClusterQueuePreemption(msgspec.Struct, frozen=True, kw_only=True):
    """ClusterQueue.spec.preemption."""

    within_cluster_queue: PreemptionPolicy = "Never"
    reclaim_within_cohort: PreemptionPolicy = "Never"
    borrow_within_cohort: Literal["Never", "LowerPriority"] = "Never"
    max_priority_threshold: int | None = None


class ClusterQueue(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    resource_groups: tuple[ResourceGroup, ...]
    cohort_name: str = ""
    is_strict_fifo: bool = False
    preemption: ClusterQueuePreemption = ClusterQueuePreemption()
    when_can_borrow: Literal["MayStopSearch", "TryNextFlavor"] = "MayStopSearch"
    when_can_preempt: Literal["MayStopSearch", "TryNextFlavor"] = "TryNextFlavor"
    is_stopped: bool = False


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    parent_name: str = ""
    resource_groups: tuple[ResourceGroup, ...] = ()


class ResourceTransformation(msgspec.Struct, frozen=True, kw_only=True):
    """Kueue's `resources.transformations`: what a request counts as."""

    input: str
    replace: bool = False
    outputs: dict[str, float] = {}


class DeviceClassMapping(msgspec.Struct, frozen=True):
    """Kueue's `resources.deviceClassMappings`: what a claim counts as."""

    resource: str
    counts_memory: bool = False
    """By the counter `memory` that the device consumes, in bytes; else one a device."""


class WaitForPodsReady(msgspec.Struct, frozen=True, kw_only=True):
    """Kueue's `waitForPodsReady`; seconds."""

    timeout: float = 300.0
    backoff_base_seconds: float = 60.0
    backoff_max_seconds: float = 3600.0
    backoff_limit_count: int | None = None
    requeues_by_eviction_time: bool = True
    """Whoever came back queues by the time of the eviction, not of the creation."""


class KueueObjects(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that Kueue decides by."""

    cluster_queues: tuple[ClusterQueue, ...]
    local_queues: dict[str, str]
    """LocalQueue -> ClusterQueue."""
    cohorts: tuple[Cohort, ...] = ()
    priority_classes: dict[str, int] = {}
    """WorkloadPriorityClass -> value."""
    flavor_node_labels: dict[str, dict[str, str]] = {}
    """ResourceFlavor -> node labels."""
    transformations: tuple[ResourceTransformation, ...] = ()
    device_class_mappings: dict[str, DeviceClassMapping] = {}
    wait_for_pods_ready: WaitForPodsReady | None = None


class GpuNode(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    gpu_count: int = 8
    gpu_model: str = ""
    """GPU model, a key of slots.PROFILES where it is to be sliced."""
    gpu_sharing: GpuSharing = "whole"
    labels: dict[str, str] = {}
    allocatable: ResourceList = {}
    """CPU, memory and, for `static`, the slices; a resource that is not named is not limited."""


class ControlPlaneDelays(msgspec.Struct, frozen=True, kw_only=True):
    """What the control plane takes, in seconds."""

    submit_interval: float = 0.0
    """Between two Jobs of one submission."""
    requeue_batch_period: float = 1.0
    """Kueue lets so much time pass between freed quota and another look at those that did not fit."""
    pod_startup: float = 0.0
    """From admission to the running container."""
    pod_termination: float = 0.0
    """From eviction to freed quota: the worker puts away what it has."""
    job_completion: float = 0.0
    """From the end of the container to freed quota."""


class ClusterModel(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster to plan for. Without `kueue` every Job goes to the scheduler at once."""

    nodes: tuple[GpuNode, ...]
    kueue: KueueObjects | None = None
    delays: ControlPlaneDelays = ControlPlaneDelays()
    resume_after_preemption: bool = True
    """A preempted worker goes on where it was; openai/whisper starts anew."""


def build_gpu_nodes(
    count: int = 1, *, gpus: int = 8, gpu: str = "A100-40", sharing: GpuSharing = "whole"
) -> tuple[GpuNode, ...]:
    """So many equal nodes with the labels of NVIDIA's feature discovery."""
    labels = {"nvidia.com/gpu.present": "true"} | ({} if sharing == "whole" else {"nvidia.com/mig.capable": "true"})
    return tuple(
        GpuNode(name=f"node-{i}", gpu_count=gpus, gpu_model=gpu, gpu_sharing=sharing, labels=labels)
        for i in range(count)
    )
