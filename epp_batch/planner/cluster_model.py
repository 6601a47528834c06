"""What the planner knows of a cluster: its nodes with their GPUs, and the Kueue objects that admit Jobs to them.

Plain data without behaviour: `objects` reads it from manifests, callers may build it. Fields are called as in the Kueue
API (v1beta2) they are read from. Amounts are whole numbers: pieces of an extended resource, thousandths of a CPU, bytes
of memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

import msgspec

ResourceList = dict[str, int]
"""Resource name -> amount."""

GpuSharing = Literal["whole", "das", "dra", "static"]
"""How a node hands out its GPUs: whole; in MIG slices that DAS creates on demand, first fit; in MIG slices that a DRA
driver publishes as partitionable devices; in MIG slices that an administrator created beforehand."""

PreemptionPolicy = Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority", "Any"]


class ResourceQuota(msgspec.Struct, frozen=True):
    """Quota of one resource in one flavor; a limit of None is no limit."""

    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None


class FlavorQuotas(msgspec.Struct, frozen=True):
    """The quotas of one ResourceFlavor within a resource group, by resource."""

    flavor: str
    quotas: dict[str, ResourceQuota]


class ResourceGroup(msgspec.Struct, frozen=True):
    """Resources that get the same flavor. Kueue tries `flavors` in this order."""

    covered_resources: tuple[str, ...]
    flavors: tuple[FlavorQuotas, ...]


class ClusterQueuePreemption(msgspec.Struct, frozen=True, kw_only=True):
    """`ClusterQueue.spec.preemption`; the last two fields are its `borrowWithinCohort`."""

    within_cluster_queue: PreemptionPolicy = "Never"
    reclaim_within_cohort: PreemptionPolicy = "Never"
    borrow_within_cohort: Literal["Never", "LowerPriority"] = "Never"
    max_priority_threshold: int | None = None


class ClusterQueue(msgspec.Struct, frozen=True, kw_only=True):
    """A ClusterQueue; `when_can_borrow` and `when_can_preempt` are its `flavorFungibility`."""

    name: str
    resource_groups: tuple[ResourceGroup, ...]
    cohort_name: str = ""
    is_strict_fifo: bool = False
    preemption: ClusterQueuePreemption = ClusterQueuePreemption()
    when_can_borrow: Literal["MayStopSearch", "TryNextFlavor"] = "MayStopSearch"
    when_can_preempt: Literal["MayStopSearch", "TryNextFlavor"] = "TryNextFlavor"
    is_stopped: bool = False
    """A `stopPolicy` other than None: nothing is admitted."""


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    """A Cohort with quota of its own or a parent."""

    name: str
    parent_name: str = ""
    resource_groups: tuple[ResourceGroup, ...] = ()


class ResourceTransformation(msgspec.Struct, frozen=True, kw_only=True):
    """One of `resources.transformations` in Kueue's Configuration: what a request for `input` counts as."""

    input: str
    replace: bool = False
    """Strategy Replace: the input itself does not count."""
    outputs: Mapping[str, Fraction | float] = {}
    """Resource -> amount for each unit of the input, both in the units of this module."""


class DeviceClassMapping(msgspec.Struct, frozen=True):
    """One of `resources.deviceClassMappings` in Kueue's Configuration: what a device of the class counts as."""

    resource: str
    counts_memory: bool = False
    """Charge the device's counter `memory` in bytes; otherwise 1 for each device."""


class WaitForPodsReady(msgspec.Struct, frozen=True, kw_only=True):
    """`waitForPodsReady` of Kueue's Configuration; seconds."""

    timeout: float = 300.0
    backoff_base_seconds: float = 60.0
    backoff_max_seconds: float = 3600.0
    backoff_limit_count: int | None = None
    """Evictions after which a workload is deactivated; None requeues forever."""
    requeues_by_eviction_time: bool = True
    """`requeuingStrategy.timestamp`: an evicted workload queues by the time of its eviction, not of its creation."""


class KueueObjects(msgspec.Struct, frozen=True, kw_only=True):
    """Every object and setting that Kueue decides by."""

    cluster_queues: tuple[ClusterQueue, ...]
    local_queues: dict[str, str]
    """LocalQueue -> ClusterQueue."""
    cohorts: tuple[Cohort, ...] = ()
    priority_classes: dict[str, int] = {}
    """WorkloadPriorityClass -> value."""
    flavor_node_labels: dict[str, dict[str, str]] = {}
    """ResourceFlavor -> labels of its nodes."""
    transformations: tuple[ResourceTransformation, ...] = ()
    device_class_mappings: dict[str, DeviceClassMapping] = {}
    """By DeviceClass."""
    wait_for_pods_ready: WaitForPodsReady | None = None


class GpuNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node and its GPUs, all of one model."""

    name: str
    gpu_count: int = 8
    gpu_model: str = ""
    """A key of `mig_slots.MIG_PROFILES` where the GPUs can be sliced."""
    gpu_sharing: GpuSharing = "whole"
    labels: dict[str, str] = {}
    allocatable: ResourceList = {}
    """CPU, memory and, with `static` sharing, the slices. CPU and memory are unlimited where they are not named."""


class ControlPlaneDelays(msgspec.Struct, frozen=True, kw_only=True):
    """How long the control plane takes for each step, in seconds."""

    submit_interval: float = 0.0
    """Between the creation of two Jobs."""
    requeue_batch_period: float = 1.0
    """From released quota until inadmissible workloads are tried again: Kueue's `requeueBatchPeriod`."""
    pod_startup: float = 0.0
    """From admission until the pod can be scheduled."""
    pod_termination: float = 0.0
    """From eviction until the quota is released, while the worker saves what it has."""
    job_completion: float = 0.0
    """From the end of the container until the quota is released."""


class ClusterModel(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster to plan for. Without `kueue`, every Job goes to the scheduler as soon as it is created."""

    nodes: tuple[GpuNode, ...]
    kueue: KueueObjects | None = None
    delays: ControlPlaneDelays = ControlPlaneDelays()
    resume_after_preemption: bool = True
    """A preempted worker resumes from its partial transcript; openai/whisper starts over."""


def build_gpu_nodes(
    count: int = 1, *, gpus: int = 8, gpu: str = "A100-40", sharing: GpuSharing = "whole"
) -> tuple[GpuNode, ...]:
    """`count` equal nodes with `gpus` GPUs of the model `gpu` each, labelled as by NVIDIA's GPU feature discovery."""
    labels = {"nvidia.com/gpu.present": "true"} | ({} if sharing == "whole" else {"nvidia.com/mig.capable": "true"})
    return tuple(
        GpuNode(name=f"node-{i}", gpu_count=gpus, gpu_model=gpu, gpu_sharing=sharing, labels=labels)
        for i in range(count)
    )
