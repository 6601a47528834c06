"""Builds Kueue's objects for Whisper Jobs, and the part of the manager's configuration that MIG slices need.

QUEUE_PRESETS are the three queue configurations of arXiv 2602.04900 (one queue; two queues in a cohort; priorities and
preemption) and two for MIG slices: slots by resource transformations (device plugin, Dynamic Accelerator Slicer), and
GPU memory by counters (DRA).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from epp_batch.errors import InputError
from epp_batch.manifests.accelerators import (
    GPU_MEMORY_RESOURCE,
    GPU_RESOURCE,
    MIG_SLOTS_RESOURCE,
    build_transformations,
)
from epp_batch.manifests.quantities import format_quantity, parse_quantity

KUEUE_API_VERSION = "kueue.x-k8s.io/v1beta2"


class GpuModel(NamedTuple):
    """Memory and MIG profiles of a GPU model."""

    memory_gib: int
    mig_profiles: tuple[str, ...]


GPU_MODELS = {
    "A100-40": GpuModel(40, ("1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb")),
    "A100-80": GpuModel(80, ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")),
    "H100-80": GpuModel(80, ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")),
    "H100-94": GpuModel(94, ("1g.12gb", "1g.24gb", "2g.24gb", "3g.47gb", "4g.47gb", "7g.94gb")),
    "H100-96": GpuModel(96, ("1g.12gb", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb")),
    "H200-141": GpuModel(141, ("1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb")),
    "A30": GpuModel(24, ("1g.6gb", "2g.12gb", "4g.24gb")),
}
"""By name. The double-memory 1g.10gb of the 40 GB A100 is omitted: its name is that of the single-slot profile of an
80 GB GPU."""


class ResourceQuotaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Quota of one resource in one flavor (Kueue's ResourceQuota), as quantities."""

    nominal: str
    borrowing_limit: str | None = None
    """Kueue's borrowingLimit; None: no limit. Only used in a cohort."""
    lending_limit: str | None = None
    """Kueue's lendingLimit; None: no limit. Only used in a cohort."""


class ClusterQueueSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One ClusterQueue with its LocalQueues."""

    name: str
    local_queues: tuple[str, ...]
    quotas: dict[str, ResourceQuotaSpec]
    preemption: dict[str, Any] = {}
    queueing_strategy: str = "BestEffortFIFO"


class KueueSetup(msgspec.Struct, frozen=True, kw_only=True):
    """Input of `build_kueue_objects`: one flavor, its ClusterQueues, and their cohort and priority classes."""

    namespace: str
    flavor: str = "gpu-flavor"
    node_labels: dict[str, str] = msgspec.field(default_factory=lambda: {"nvidia.com/gpu.present": "true"})
    tolerations: tuple[dict[str, str], ...] = ()
    queues: tuple[ClusterQueueSpec, ...]
    cohort: str | None = None
    priority_classes: dict[str, int] = {}
    mig_profiles: tuple[str, ...] = ()
    """MIG profiles that are charged as slots."""
    charge_gpu_memory: bool = False
    """Whether DRA device classes are charged by GPU memory."""
    extra_quotas: dict[str, str] = {}
    """Nominal quota of further resources in every ClusterQueue, such as cpu and memory."""

    def with_prefix(self, prefix: str) -> KueueSetup:
        """A copy of the setup with a prefix for the names of all cluster-scoped objects."""
        replace = msgspec.structs.replace
        return replace(
            self,
            flavor=prefix + self.flavor,
            cohort=prefix + self.cohort if self.cohort else None,
            priority_classes={prefix + name: value for name, value in self.priority_classes.items()},
            queues=tuple(replace(queue, name=prefix + queue.name) for queue in self.queues),
        )


def build_kueue_objects(setup: KueueSetup) -> list[dict[str, Any]]:
    """ResourceFlavor, Cohort, WorkloadPriorityClasses, ClusterQueues and LocalQueues, in order of creation."""
    objects = [_build_flavor(setup)]
    if setup.cohort:
        objects.append(_build_object("Cohort", setup.cohort, {}))
    for name, value in setup.priority_classes.items():
        objects.append(
            {
                "apiVersion": KUEUE_API_VERSION,
                "kind": "WorkloadPriorityClass",
                "metadata": {"name": name},
                "value": value,
            }
        )
    objects += [_build_cluster_queue(queue, setup) for queue in setup.queues]
    for queue in setup.queues:
        for name in queue.local_queues:
            local = _build_object("LocalQueue", name, {"clusterQueue": queue.name})
            local["metadata"]["namespace"] = setup.namespace
            objects.append(local)
    return objects


def build_manager_configuration(setup: KueueSetup) -> dict[str, Any]:
    """The settings that these queues need in the Kueue manager's Configuration; empty if none.

    `waitForPodsReady` evicts a Workload whose slice cannot be created: quota counts free slots, not whether they are
    adjacent. `Creation` lets it keep its place in the queue; by default it would wait from its eviction on.
    """
    resources: dict[str, Any] = {}
    if setup.mig_profiles:
        resources["transformations"] = build_transformations(setup.mig_profiles)
    if setup.charge_gpu_memory:
        counter = {
            "name": "memory",
            "driver": "gpu.nvidia.com",
            "deviceSelector": {"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}},
        }
        classes = ["mig.nvidia.com", "gpu.nvidia.com"]
        resources["deviceClassMappings"] = [
            {"name": GPU_MEMORY_RESOURCE, "deviceClassNames": classes, "sources": [{"counter": counter}]}
        ]
    if not resources:
        return {}
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "resources": resources,
        "waitForPodsReady": {"timeout": "10m", "requeuingStrategy": {"timestamp": "Creation"}},
    }


def _build_object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": KUEUE_API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _build_flavor(setup: KueueSetup) -> dict[str, Any]:
    spec: dict[str, Any] = {"nodeLabels": dict(setup.node_labels)} if setup.node_labels else {}
    if setup.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in setup.tolerations]
    return _build_object("ResourceFlavor", setup.flavor, spec)


def _build_cluster_queue(queue: ClusterQueueSpec, setup: KueueSetup) -> dict[str, Any]:
    quotas = queue.quotas | {name: ResourceQuotaSpec(nominal=amount) for name, amount in setup.extra_quotas.items()}
    resources = [_build_quota(name, quota, setup.cohort) for name, quota in quotas.items()]
    spec: dict[str, Any] = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": setup.namespace}},
        "queueingStrategy": queue.queueing_strategy,
        "resourceGroups": [
            {"coveredResources": list(quotas), "flavors": [{"name": setup.flavor, "resources": resources}]}
        ],
    }
    if setup.cohort:
        spec["cohortName"] = setup.cohort
    if queue.preemption:
        spec["preemption"] = dict(queue.preemption)
    return _build_object("ClusterQueue", queue.name, spec)


def _build_quota(name: str, quota: ResourceQuotaSpec, cohort: str | None) -> dict[str, Any]:
    limits = {"borrowingLimit": quota.borrowing_limit, "lendingLimit": quota.lending_limit} if cohort else {}
    return {"name": name, "nominalQuota": quota.nominal} | {key: at for key, at in limits.items() if at is not None}


# -- presets --------------------------------------------------------------------------------------------------


class QueuePreset(msgspec.Struct, frozen=True):
    """A named queue configuration."""

    description: str
    build: Callable[[str, int, str], KueueSetup]
    """Arguments: namespace, number of GPUs, GPU model (a key of GPU_MODELS)."""


def build_preset(name: str, namespace: str, gpus: int, gpu: str = "A100-40") -> KueueSetup:
    """The setup of a preset; raises InputError for an unknown preset or GPU model."""
    if name not in QUEUE_PRESETS:
        raise InputError(f"unknown preset {name!r}", remedy=f"expected one of {', '.join(QUEUE_PRESETS)}")
    if gpu not in GPU_MODELS:
        raise InputError(f"unknown GPU {gpu!r}", remedy=f"expected one of {', '.join(GPU_MODELS)}")
    return QUEUE_PRESETS[name].build(namespace, gpus, gpu)


def _build_one_queue(namespace: str, gpus: int, _: str) -> KueueSetup:
    queue = ClusterQueueSpec(
        name="cluster-queue",
        local_queues=PAPER_LOCAL_QUEUES,
        quotas={GPU_RESOURCE: ResourceQuotaSpec(nominal=str(gpus))},
    )
    return KueueSetup(namespace=namespace, queues=(queue,))


def _build_two_queues(namespace: str, gpus: int, _: str) -> KueueSetup:
    half = gpus // 2
    medium = ResourceQuotaSpec(nominal=str(half), borrowing_limit="0", lending_limit=str(half))
    large = ResourceQuotaSpec(nominal=str(gpus - half))
    return KueueSetup(
        namespace=namespace,
        cohort="gpu-cohort",
        queues=(
            ClusterQueueSpec(
                name="cluster-queue-medium", local_queues=PAPER_LOCAL_QUEUES[:1], quotas={GPU_RESOURCE: medium}
            ),
            ClusterQueueSpec(
                name="cluster-queue-large", local_queues=PAPER_LOCAL_QUEUES[1:], quotas={GPU_RESOURCE: large}
            ),
        ),
    )


def _build_priorities(namespace: str, gpus: int, gpu: str) -> KueueSetup:
    setup = _build_one_queue(namespace, gpus, gpu)
    queue = msgspec.structs.replace(setup.queues[0], preemption={"withinClusterQueue": "LowerPriority"})
    return msgspec.structs.replace(setup, queues=(queue,), priority_classes={"high-priority": 10_000})


def _build_mig_slots(namespace: str, gpus: int, gpu: str) -> KueueSetup:
    queue = ClusterQueueSpec(
        name="mig-slots",
        local_queues=("whisper",),
        quotas={MIG_SLOTS_RESOURCE: ResourceQuotaSpec(nominal=str(8 * gpus))},
    )
    labels = {"nvidia.com/mig.capable": "true"}
    return KueueSetup(
        namespace=namespace,
        flavor="mig-flavor",
        node_labels=labels,
        queues=(queue,),
        mig_profiles=GPU_MODELS[gpu].mig_profiles,
    )


def _build_dra(namespace: str, gpus: int, gpu: str) -> KueueSetup:
    memory = format_quantity(parse_quantity(f"{gpus * GPU_MODELS[gpu].memory_gib}Gi"))
    queue = ClusterQueueSpec(
        name="dra", local_queues=("whisper",), quotas={GPU_MEMORY_RESOURCE: ResourceQuotaSpec(nominal=memory)}
    )
    return KueueSetup(namespace=namespace, flavor="dra-flavor", node_labels={}, queues=(queue,), charge_gpu_memory=True)


PAPER_LOCAL_QUEUES = ("local-queue-medium", "local-queue-large")
QUEUE_PRESETS: dict[str, QueuePreset] = {
    "paper-a": QueuePreset("one queue over all GPUs, first come first served", _build_one_queue),
    "paper-b": QueuePreset(
        "one queue per model in a cohort: medium lends and never borrows, large borrows", _build_two_queues
    ),
    "paper-c": QueuePreset("one queue, and a priority class of 10000 that preempts", _build_priorities),
    "slots": QueuePreset("MIG slices of all profiles share one quota of slots, eight per GPU", _build_mig_slots),
    "dra": QueuePreset("DRA claims for slices and GPUs share one quota of GPU memory", _build_dra),
}
