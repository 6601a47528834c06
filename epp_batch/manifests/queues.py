"""Kueue's objects for Whisper Jobs, and the part of its manager's configuration that slices need.

PRESETS are the three queue configurations of arXiv 2602.04900 (one queue; two in a cohort; priorities and preemption)
and two for slices: slots by transformation for the device plugin and the Dynamic Accelerator Slicer, GPU memory by
counters for DRA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
GPU_MODELS = {
    "A100-40": (40, ("1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb")),
    "A100-80": (80, ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")),
    "H100-80": (80, ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")),
    "H100-94": (94, ("1g.12gb", "1g.24gb", "2g.24gb", "3g.47gb", "4g.47gb", "7g.94gb")),
    "H100-96": (96, ("1g.12gb", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb")),
    "H200-141": (141, ("1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb")),
    "A30": (24, ("1g.6gb", "2g.12gb", "4g.24gb")),
}
"""GPU -> its memory in GiB, and its MIG profiles. 1g.10gb of a 40 GB A100, two slots wide, is left out: its name is
that of an 80 GB GPU's single slot."""


class ResourceQuotaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Of one resource in one flavor."""

    nominal: str
    borrowing_limit: str | None = None
    """Most that may be borrowed; None for no limit. Needs a cohort."""
    lending_limit: str | None = None


class ClusterQueueSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One ClusterQueue with the LocalQueues in front of it."""

    name: str
    local_queues: tuple[str, ...]
    quotas: dict[str, ResourceQuotaSpec]
    preemption: dict[str, Any] = {}
    queueing_strategy: str = "BestEffortFIFO"


class KueueSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What `objects` makes."""

    namespace: str
    flavor: str = "gpu-flavor"
    node_labels: dict[str, str] = msgspec.field(default_factory=lambda: {"nvidia.com/gpu.present": "true"})
    tolerations: tuple[dict[str, str], ...] = ()
    queues: tuple[ClusterQueueSpec, ...]
    cohort: str | None = None
    priority_classes: dict[str, int] = {}
    mig_profiles: tuple[str, ...] = ()
    """Slices that are charged as slots."""
    charge_gpu_memory: bool = False
    """Device classes are charged by GPU memory."""
    extra_quotas: dict[str, str] = {}
    """Further resources of every queue, as cpu or memory, with their quotas."""

    def with_prefix(self, prefix: str) -> KueueSetup:
        """The same with `prefix` before every name that the whole cluster shares."""
        rename = msgspec.structs.replace
        return rename(
            self,
            flavor=prefix + self.flavor,
            cohort=prefix + self.cohort if self.cohort else None,
            priority_classes={prefix + name: value for name, value in self.priority_classes.items()},
            queues=tuple(rename(queue, name=prefix + queue.name) for queue in self.queues),
        )


def build_kueue_objects(settings: KueueSetup) -> list[dict[str, Any]]:
    """ResourceFlavor, Cohort, WorkloadPriorityClasses, ClusterQueues and LocalQueues, in an order to make them in."""
    made = [_build_flavor(settings)]
    if settings.cohort:
        made.append(_build_object("Cohort", settings.cohort, {}))
    for name, value in settings.priority_classes.items():
        made.append(
            {
                "apiVersion": KUEUE_API_VERSION,
                "kind": "WorkloadPriorityClass",
                "metadata": {"name": name},
                "value": value,
            }
        )
    made += [_build_cluster_queue(queue, settings) for queue in settings.queues]
    for queue in settings.queues:
        for name in queue.local_queues:
            local = _build_object("LocalQueue", name, {"clusterQueue": queue.name})
            local["metadata"]["namespace"] = settings.namespace
            made.append(local)
    return made


def build_manager_configuration(settings: KueueSetup) -> dict[str, Any]:
    """What the Kueue manager's own configuration needs for these queues; empty where it needs nothing.

    `waitForPodsReady` takes quota back from a pod whose slice does not exist: quota counts slots, not holes.
    """
    resources: dict[str, Any] = {}
    if settings.mig_profiles:
        resources["transformations"] = build_transformations(settings.mig_profiles)
    if settings.charge_gpu_memory:
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


def _build_flavor(settings: KueueSetup) -> dict[str, Any]:
    spec: dict[str, Any] = {"nodeLabels": dict(settings.node_labels)} if settings.node_labels else {}
    if settings.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in settings.tolerations]
    return _build_object("ResourceFlavor", settings.flavor, spec)


def _build_cluster_queue(queue: ClusterQueueSpec, settings: KueueSetup) -> dict[str, Any]:
    quotas = queue.quotas | {name: ResourceQuotaSpec(nominal=amount) for name, amount in settings.extra_quotas.items()}
    resources = [_build_quota(name, quota, settings.cohort) for name, quota in quotas.items()]
    spec: dict[str, Any] = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}},
        "queueingStrategy": queue.queueing_strategy,
        "resourceGroups": [
            {"coveredResources": list(quotas), "flavors": [{"name": settings.flavor, "resources": resources}]}
        ],
    }
    if settings.cohort:
        spec["cohortName"] = settings.cohort
    if queue.preemption:
        spec["preemption"] = dict(queue.preemption)
    return _build_object("ClusterQueue", queue.name, spec)


def _build_quota(name: str, quota: ResourceQuotaSpec, cohort: str | None) -> dict[str, Any]:
    limits = {"borrowingLimit": quota.borrowing_limit, "lendingLimit": quota.lending_limit} if cohort else {}
    return {"name": name, "nominalQuota": quota.nominal} | {key: at for key, at in limits.items() if at is not None}


# -- presets --------------------------------------------------------------------------------------------------


class QueuePreset(msgspec.Struct, frozen=True):
    """A configuration by name."""

    description: str
    build: Callable[[str, int, str], KueueSetup]
    """From namespace, number of GPUs and their kind (a key of SLICES)."""


def build_preset(name: str, namespace: str, gpus: int, gpu: str = "A100-40") -> KueueSetup:
    """A preset's settings; InputError for an unknown name or GPU."""
    if name not in QUEUE_PRESETS:
        raise InputError(f"preset {name!r} is unknown", remedy=f"one of {', '.join(QUEUE_PRESETS)}")
    if gpu not in GPU_MODELS:
        raise InputError(f"GPU {gpu!r} is unknown", remedy=f"one of {', '.join(GPU_MODELS)}")
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
    one = _build_one_queue(namespace, gpus, gpu)
    queue = msgspec.structs.replace(one.queues[0], preemption={"withinClusterQueue": "LowerPriority"})
    return msgspec.structs.replace(one, queues=(queue,), priority_classes={"high-priority": 10_000})


def _build_mig_slots(namespace: str, gpus: int, gpu: str) -> KueueSetup:
    queue = ClusterQueueSpec(
        name="mig-slots",
        local_queues=("whisper",),
        quotas={MIG_SLOTS_RESOURCE: ResourceQuotaSpec(nominal=str(8 * gpus))},
    )
    labels = {"nvidia.com/mig.capable": "true"}
    return KueueSetup(
        namespace=namespace, flavor="mig-flavor", node_labels=labels, queues=(queue,), mig_profiles=GPU_MODELS[gpu][1]
    )


def _build_dra(namespace: str, gpus: int, gpu: str) -> KueueSetup:
    memory = format_quantity(parse_quantity(f"{gpus * GPU_MODELS[gpu][0]}Gi"))
    queue = ClusterQueueSpec(
        name="dra", local_queues=("whisper",), quotas={GPU_MEMORY_RESOURCE: ResourceQuotaSpec(nominal=memory)}
    )
    return KueueSetup(namespace=namespace, flavor="dra-flavor", node_labels={}, queues=(queue,), charge_gpu_memory=True)


PAPER_LOCAL_QUEUES = ("local-queue-medium", "local-queue-large")
QUEUE_PRESETS: dict[str, QueuePreset] = {
    "paper-a": QueuePreset("one queue over all GPUs, first come first served", _build_one_queue),
    "paper-b": QueuePreset(
        "a queue a model in one cohort: medium lends and never borrows, large borrows", _build_two_queues
    ),
    "paper-c": QueuePreset("one queue, and a class of priority 10000 that preempts", _build_priorities),
    "slots": QueuePreset("MIG slices of all profiles share one quota of slots, eight a GPU", _build_mig_slots),
    "dra": QueuePreset("DRA claims of slices and GPUs share one quota of GPU memory", _build_dra),
}
